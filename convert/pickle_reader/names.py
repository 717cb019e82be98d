"""Names of opcodes, for errors."""

from __future__ import annotations

import pickletools

_NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}


def opcode_name(code: int) -> str:
    """Return the name that pickle's own documentation has for it, or its number."""
    return _NAMES.get(code, f"byte 0x{code:02x}")
