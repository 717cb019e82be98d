"""What the machine makes of opcodes, and what is said of it: values, and stand-ins for objects."""
