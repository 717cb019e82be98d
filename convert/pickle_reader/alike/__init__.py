"""Items of a list that are written alike, found by comparing bytes instead of opcode by opcode.

In comes the place of an item in the file; out go many items as columns, or nothing, when what
follows is unlike. A list of dicts is the same opcodes again and again, and so is an object
column of arrays:

    learn     One item, which the machine has read opcode by opcode, says which bytes are always
              the same and where atoms, floats and arrays are in between (`pattern`).
    follow    The bytes with which an item begins are searched for in a window of the file; the
              items that may begin there are read side by side, each step the same opcode of all
              of them, by NumPy (`walk`).
    hand out  Of the items that follow one another without a gap, the values that differ become
              columns: texts are decoded, numbers stay where they are (`columns`, `run`).

The first item that isn't as expected ends it, and the machine goes on there, so that errors
and values are those of the opcodes. `rows` does this for rows that are dicts, `vectors` for
arrays in a list.

What it brings, in processor time (user) of whole conversions of 141,897 rows of 384 numbers:

    list of dicts with arrays of float32    6.6 s without, 1.4 s with it
    list of dicts with lists of floats      4.3 s without, 2.0 s with it
    DataFrame of arrays of float32          2.7 s without, 1.0 s with it
"""
