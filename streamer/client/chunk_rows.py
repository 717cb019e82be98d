"""How many rows a read asks for in a message, so that messages stay small. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# So many messages in a row must have taken no more than this share of what they may before
# twice their rows are asked for: that takes another call, and what the server has sent ahead
# in this one is lost.
_SMALL_MESSAGES = 16
_SMALL_SHARE = 1 / 4


class ChunkRows:
    """The `chunk_size` of a read's next call, `rows`.

    A message of more than `max_bytes` lowers it to what makes half as much; small messages
    raise it again, up to what it was. For texts may be of any length: the first rows say
    nothing of those that follow. One row that is large alone is borne with: it would be as
    large among fewer.
    """

    def __init__(self, rows: int, max_bytes: int) -> None:
        """Begin with `rows`, 0 for the server's default."""
        self.rows = rows
        self._most_rows = rows
        self._max_bytes = max_bytes
        self._small_messages = 0

    def adapt(
        self, message_rows: int, message_bytes: int, largest_row_bytes: Callable[[], int]
    ) -> bool:
        """Take note of a message; return whether `rows` is another number now.

        `largest_row_bytes` is asked only of a message that is too large.
        """
        before = self.rows
        is_small = message_bytes <= self._max_bytes * _SMALL_SHARE
        self._small_messages = self._small_messages + 1 if is_small else 0
        if message_bytes > self._max_bytes:
            self._lower(message_rows, message_bytes - largest_row_bytes())
        elif self._small_messages == _SMALL_MESSAGES:
            self._small_messages = 0
            # How many rows the server's default is, a message that it has cut doesn't say.
            self.rows = min(2 * self.rows, self._most_rows) if self._most_rows else 0
        return self.rows != before

    def _lower(self, message_rows: int, other_bytes: int) -> None:
        """Ask for fewer rows, taken to be as large as those of a message but the largest."""
        if message_rows == 1 or message_rows > (self.rows or message_rows):
            return  # nothing is known of others, or the server sends what it likes
        fitting = (message_rows - 1) * self._max_bytes // max(2 * other_bytes, 1)
        if fitting <= message_rows / 2:
            self.rows = max(fitting, 1)
