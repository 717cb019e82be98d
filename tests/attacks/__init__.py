"""Attacks on a server that speaks HTTP/2: a catalogue, each by its name.

`python -m tests.attacks HOST:PORT` lists them, or makes those that are named.
"""

from __future__ import annotations

from tests.attacks import blocks, connections, control, malformed, messages, resets
from tests.attacks.attacker import ATTACKS, Attack, Attacker

__all__ = [
    "ATTACKS", "Attack", "Attacker", "blocks", "connections", "control", "malformed", "messages",
    "resets",
]  # fmt: skip
