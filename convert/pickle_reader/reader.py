"""The way in: a pickle as batches of columns."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

from convert.pickle_reader.blocks import damage_named
from convert.pickle_reader.errors import UnsupportedPickle, printable
from convert.pickle_reader.frames import Table
from convert.pickle_reader.known import KNOWN
from convert.pickle_reader.machine import Machine
from convert.pickle_reader.memo import Memo
from convert.pickle_reader.plain import Plain
from convert.pickle_reader.records import Records
from convert.pickle_reader.rows.shapes import add_columns, refusal
from convert.pickle_reader.stand_ins import Known, foreign
from convert.pickle_reader.values.kinds import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from convert.pickle_reader.columns import Batch
    from convert.pickle_reader.spans import Buffer, Lump

# Rows of a batch: of records, 5 MB of Python's objects; 16,384 took no less time.
BATCH_ROWS = 4096
# Lumps read again that are held: one for each of a row's columns, if it is read whole.
_RECENT_LUMPS = 64

# Classes that aren't known and whose objects are skipped; each takes 1.5 kB.
_MOST_FOREIGN = 1000

_RECORDS = "a list of dicts"


def _ignore(_count: int) -> None:
    """Be told of progress and do nothing."""


def _all(_name: object) -> bool:
    """Want every column."""
    return True


def open_pickle(buffer: Any) -> Pickle:  # noqa: ANN401 - typing has no type for buffers yet
    """Look at a pickle in `buffer`: a mapped file, bytes, anything that has bytes.

    Nothing of it is read yet. The buffer must not change while columns of it are in use.
    """
    return Pickle(buffer)


class Pickle:
    """A pickle, which can be read more than once, one pass after another.

    As reading goes on, `columns` says which names were seen, in order of appearance, `rows`
    how many rows, `globals_named` which globals the pickle named, and at which byte first,
    and `kind`, once rows were seen, that it is "a list of dicts", "a DataFrame" or "a dict of
    columns".
    """

    def __init__(self, buffer: Any) -> None:  # noqa: ANN401
        self._data: Buffer = (
            buffer if isinstance(buffer, bytes | mmap.mmap) else memoryview(buffer).cast("B")
        )
        self._memo = Memo(len(self._data), self._read_again)
        self._plain = Plain(self._data, self._read_lump)
        self._lumps: dict[int, list[Any]] = {}
        self._foreign: dict[str, Known] = {}
        self.columns: Collection[Any] = ()
        self.rows = 0
        self.kind = ""
        self.globals_named: dict[str, int] = {}

    @property
    def protocol(self) -> int:
        """The pickle protocol that it says; protocols 0 and 1 say none."""
        begin = bytes(self._data[:2])
        return begin[1] if begin[:1] == b"\x80" and len(begin) > 1 else 0

    def batches(
        self, wanted: Callable[[Any], bool] = _all, *, batch_rows: int = BATCH_ROWS,
        advance: Callable[[int], None] = _ignore,
    ) -> Iterator[Batch]:  # fmt: skip
        """Yield the rows, in batches of `batch_rows`; the last may have fewer.

        `wanted(name)` says of each column, when it is first seen, whether its values are
        handed out. A record without a name that others have holds None there, as do all
        rows of the batches before the one in which the name first appears. `advance` is
        told how many more bytes of the buffer were read.

        Raise UnsupportedPickle or DamagedPickle, also after the last row was handed out.
        """
        self._memo = Memo(len(self._data), self._read_again)
        self._lumps.clear()
        self.rows = 0
        machine = Machine(self._data, self._memo, self._find_global, self._read_lump)
        records = Records(self._data, self._plain, wanted)
        self.columns = records.columns.keys()
        for batch in records.batches(machine.run(advance), batch_rows, lambda: machine.pos):
            self.kind = _RECORDS
            self.rows += batch.rows
            yield batch
        (content,) = machine.stack
        if machine.has_root and content is machine.root:
            return
        first = next(self._plain.items(content, 0, 1), None) if type(content) is list else None
        if self.rows:
            message = (
                f"it holds {kind_of(content)}, of which a list of {self.rows:,} dicts is a part: "
                "pickle that list alone, or a DataFrame of all"
            )
            raise UnsupportedPickle(message, machine.pos)
        if type(first) is dict:
            rows = [list(self._plain.items(content))]
            for batch in records.batches(rows, batch_rows, lambda: machine.pos):
                self.kind = _RECORDS
                self.rows += batch.rows
                yield batch
        else:
            yield from self._table_batches(content, first, wanted, batch_rows)

    def _table_batches(
        self, content: object, first: object, wanted: Callable[[Any], bool], batch_rows: int
    ) -> Iterator[Batch]:
        end = self._plain.offset = len(self._data)
        table = Table(self._data, self._plain)
        with damage_named(end, content):
            kind = add_columns(table, content)
            if not kind:
                raise UnsupportedPickle(refusal(content, first), end)
            table.close()
        self.kind = kind
        self.columns = table.columns.keys()
        self.rows = table.rows
        batches = table.batches([name for name in table.columns if wanted(name)], batch_rows)
        while True:
            with damage_named(end, content):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _find_global(self, module: str, name: str, offset: int) -> Known | None:
        shown = printable(f"{module}.{name}")
        self.globals_named.setdefault(shown, offset)
        if (module, name) in KNOWN:
            return KNOWN[module, name]
        if shown not in self._foreign:
            if len(self._foreign) == _MOST_FOREIGN:
                message = f"the pickle names more than {_MOST_FOREIGN:,} classes"
                raise UnsupportedPickle(message, offset)
            self._foreign[shown] = foreign(shown)
        return self._foreign[shown]

    def _read_again(self, offset: int, size: int, index: int) -> tuple[dict[int, Any], int]:
        """Return the memo's entries from a checkpoint on, to the end of the item of `index`."""
        machine = self._machine_again(offset, size)
        for _ in machine.run(_ignore):
            if machine.size > index:
                break
        return machine.live, machine.pos

    def _read_lump(self, lump: Lump) -> list[Any]:
        if lump.offset not in self._lumps:
            machine = self._machine_again(lump.offset, lump.memo_size)
            items = next(items for items in machine.run(_ignore) if items)
            self._memo.spend(machine.pos - lump.offset, lump.offset)
            self._lumps[lump.offset] = items
            if len(self._lumps) > _RECENT_LUMPS:
                del self._lumps[next(iter(self._lumps))]
        return self._lumps[lump.offset]

    def _machine_again(self, offset: int, size: int) -> Machine:
        return Machine(
            self._data, self._memo, self._find_global, self._read_lump,
            pos=offset, size=size, is_again=True,
        )  # fmt: skip
