"""What a person sees of a conversion: a progress bar a phase, and the closing report."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from convert.tables import Console, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from convert.errors import RowsError
    from convert.schema import DatasetInfo

_MIB = 1 << 20


@dataclass
class Phases:
    """Progress bars on standard error, and the seconds each phase took."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def phase(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar for the body of a `with`, which calls back with what it has done."""
        begin = time.perf_counter()
        with Progress(
            TextColumn(f"{name:<9}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn() if total < _MIB else TextColumn(f"{total / 1e6:,.0f} M"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        ) as bars:
            task = bars.add_task(name, total=total)
            yield lambda count: bars.advance(task, count)
            bars.update(task, completed=total)
        self.seconds[name] = time.perf_counter() - begin


@dataclass(frozen=True)
class ColumnMemory:
    """Bytes a column takes in the source (estimated for Python objects) and in Arrow."""

    field: str
    name: str
    source: int
    arrow: int


@dataclass(frozen=True)
class Report:
    """All that the closing report says.

    A dry run's says what would be written; `problems` are those of the rejected rows, `refusal`
    is why nothing would be.
    """

    info: DatasetInfo
    ids: str
    rejected: int
    others: str
    ignored: Sequence[str]
    nulls_replaced: Mapping[str, int]
    memory: Sequence[ColumnMemory]
    peak_bytes: int
    seconds: Mapping[str, float]
    is_dry: bool
    problems: str
    refusal: RowsError | None


def print_report(report: Report, out: object) -> None:
    """Print the closing report on standard output."""
    console = Console()
    info = report.info
    table = Table(title_justify="left")
    table.add_column("column")
    table.add_column("from")
    table.add_column("source MB", justify="right")
    table.add_column("Arrow MB", justify="right")
    for column in report.memory:
        table.add_row(column.field, column.name, _mb(column.source), _mb(column.arrow))
    table.add_section()
    total = [sum(c.source for c in report.memory), sum(c.arrow for c in report.memory)]
    table.add_row("total", "", *map(_mb, total))
    console.print(table)

    seconds = sum(report.seconds.values())
    phases = ", ".join(f"{name} {took:.2f}" for name, took in report.seconds.items())
    nulls = ", ".join(f"{name} {count:,}" for name, count in report.nulls_replaced.items() if count)
    rejected = f" ({report.rejected:,} rejected)" if report.rejected else ""
    made = "another conversion may make others; --ids uuid5 --id-from COLUMN makes the same ones"
    lines = {
        "would write" if report.is_dry else "written": "nothing" if report.refusal else out,
        **({"files not read": report.others} if report.others else {}),
        "rows": f"{info.rows:,}{rejected}",
        "dimension": info.dimension,
        "ids": report.ids,
        **({"made ids": made} if info.ids_made else {}),
        "ignored columns": ", ".join(report.ignored) or "none",
        "nulls replaced": nulls or "none",
        "seconds": f"{seconds:.2f} ({phases})",
        "rows/s": f"{info.rows / seconds:,.0f}",
        "peak memory": f"{_mb(report.peak_bytes)} MB anonymous",
        "fingerprint": info.fingerprint,
    }
    for name, value in lines.items():
        console.print(f"{name:<16} {value}")
    if report.is_dry and report.problems and not report.refusal:
        for line in ("the rejected rows:", *report.problems.split("\n")):
            console.print(line)


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f}"
