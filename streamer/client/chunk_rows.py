"""How many rows a read asks for in a message, so that messages stay small. Pure."""

from __future__ import annotations

# So many messages in a row must be this small before twice their rows are asked for: that takes
# another call, and what the server has sent ahead in this one is lost.
_SMALL_MESSAGES = 16
_SMALL = 1 / 4


class ChunkRows:
    """The `chunk_size` of a read's next call, `rows`.

    A message of more than `max_bytes` lowers it to what makes half as much; small messages
    raise it again, up to what it was. For texts may be of any length: the first rows say
    nothing of those that follow.
    """

    def __init__(self, rows: int, max_bytes: int) -> None:
        """Begin with `rows`, 0 for the server's default."""
        self.rows = rows
        self._most_rows = rows
        self._max_bytes = max_bytes
        self._small_messages = 0

    def adapt(self, message_rows: int, message_bytes: int) -> bool:
        """Take note of a message; return whether `rows` is another number now."""
        before = self.rows
        is_small = message_bytes <= self._max_bytes * _SMALL
        self._small_messages = self._small_messages + 1 if is_small else 0
        if message_bytes > self._max_bytes:
            if before == 0:
                before = self._most_rows = message_rows
            if message_rows <= before:  # else the server sends what it likes
                self.rows = max(message_rows * self._max_bytes // (2 * message_bytes), 1)
        elif self._small_messages == _SMALL_MESSAGES:
            self._small_messages = 0
            self.rows = min(2 * before, self._most_rows)
        return self.rows != before
