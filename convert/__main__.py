"""The command `python -m convert`."""

from __future__ import annotations

import csv
import datetime as dt
import importlib.abc
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click

from convert import __version__
from convert.columns.named_ids import KNOWN_NAMESPACES, NAMESPACE
from convert.errors import ConvertError
from convert.fields import COLUMN_NAMES, EMPTY_VALUES
from convert.foreign_text import quoted
from convert.ids import IdMode
from convert.inspect import inspect, print_contents
from convert.options import Options
from convert.pipeline import convert
from convert.report import Phases, print_report
from convert.streams import prepare_streams
from convert.terminal import Command, complain, complain_of, ends_by_signal, say

if TYPE_CHECKING:
    from convert.settings import Settings


def _columns(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    aliases = {name: field for field, names in COLUMN_NAMES.items() for name in names}
    columns = {}
    for value in values:
        field, equals, name = value.partition("=")
        field = aliases.get(field, field)
        if not equals or field not in COLUMN_NAMES:
            message = f"{quoted(value)} is not FIELD=NAME; the fields are {', '.join(COLUMN_NAMES)}"
            raise click.BadParameter(message)
        columns[field] = name
    return columns


def _time_ms(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        message = f"{quoted(value)} is not a time like 2025-12-11T15:30:00Z"
        raise click.BadParameter(message) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    time_ms = (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)
    if time_ms < 0:
        message = f"{quoted(value)} is before 1970, which no id can say"
        raise click.BadParameter(message)
    return time_ms


def _id_from(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[str, ...]:
    if value is None:
        return ()
    try:
        [columns] = csv.reader([value], strict=True)
    except csv.Error:
        columns = []
    if not columns or not all(columns) or len(set(columns)) < len(columns):
        message = f"{quoted(value)} is not COLUMN[,COLUMN]; each of them once"
        raise click.BadParameter(message)
    return tuple(columns)


def _namespace(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> UUID | None:
    if value is None:
        return None
    if value in KNOWN_NAMESPACES:
        return KNOWN_NAMESPACES[value]
    try:
        return UUID(value)
    except ValueError:
        message = f"{quoted(value)} is neither a UUID nor one of {', '.join(KNOWN_NAMESPACES)}"
        raise click.BadParameter(message) from None


def _check_id_options(
    ids: str | None, id_from: tuple[str, ...], id_namespace: UUID | None, id_time: int | None
) -> None:
    """Raise UsageError where options about ids don't go together."""
    message = None
    if ids == IdMode.UUID5:
        if not id_from:
            message = "--ids uuid5 needs --id-from COLUMN[,COLUMN]: what tells rows apart"
        elif id_time is not None:
            message = "--id-time is for generated ids: those of --ids uuid5 hold no time"
    elif id_from:
        message = "--id-from goes with --ids uuid5"
    elif id_namespace is not None:
        message = "--id-namespace goes with --ids uuid5 --id-from COLUMN"
    if message:
        raise click.UsageError(message)


_EPILOG = """\b
Examples:
  python -m convert data/processed_recruitment_data.pkl
  python -m convert jobs.pkl.gz -o jobs.arrow --column company_name=Employer
  python -m convert jobs.pkl --column 'vector=emb_*' --empty exp_years
  python -m convert jobs.pkl --skip-invalid
  python -m convert jobs.parquet --ids uuid5 --id-from url --dry-run
  python -m convert parts/ -o jobs.arrow
  python -m convert inspect jobs.pkl      what is in a file that nobody trusts

\b
Exit codes:
  0  written, or up to date already
  1  a source that can't be read or is refused, invalid rows, repeated ids, or a file that
     can't be written
  2  wrong options or settings
  130, 143  ended by SIGINT or SIGTERM
"""


@click.command("python -m convert", cls=Command, epilog=_EPILOG)
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="OUT.arrow",
    help="Where to write.  [default: the source's name with .arrow; DATA_PATH without a source]",
)
@click.option(
    "--ids",
    type=click.Choice([mode.value for mode in IdMode]),
    help="keep the source's ids; make a uuid5 of --id-from, the same for the same values "
    "wherever they are; or generate UUIDv7s (uuid7) or ULIDs, the same for the same file alone.  "
    "[default: keep if the source has ids, else uuid7]",
)
@click.option(
    "--id-from",
    callback=_id_from,
    metavar="COLUMN[,COLUMN]",
    help='The columns of the source that --ids uuid5 makes ids of. "Quotes" keep a comma.',
)
@click.option(
    "--id-namespace",
    callback=_namespace,
    metavar="UUID",
    help=f"The namespace of those ids: a UUID, or {', '.join(KNOWN_NAMESPACES)}.  "
    f"[default: this project's own, {NAMESPACE}]",
)
@click.option(
    "--id-time",
    callback=_time_ms,
    metavar="TIME",
    help="The time in generated ids, e.g. 2025-12-11T15:30:00Z.  [default: the source's "
    "modification time]",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    callback=_columns,
    metavar="FIELD=NAME",
    help=f"What the source calls a field ({', '.join(COLUMN_NAMES)}). Repeatable. "
    "'vector=emb_*' takes a vector of columns emb_0, emb_1, ..., one a dimension.",
)
@click.option(
    "--empty",
    multiple=True,
    type=click.Choice(list(EMPTY_VALUES)),
    metavar="FIELD",
    help=f"Where the source has no column for FIELD ({', '.join(EMPTY_VALUES)}), leave it empty: "
    '"", of exp_years 0. Repeatable.',
)
@click.option(
    "--skip-invalid",
    is_flag=True,
    help="Leave invalid rows out and write each of them whole to OUT.arrow.rejected.jsonl.",
)
@click.option(
    "--ignore-others",
    is_flag=True,
    help="Leave out files of a folder that aren't read, such as a README; otherwise an error.",
)
@click.option("--force", is_flag=True, help="Write even if OUT is up to date.")
@click.option(
    "--dry-run", is_flag=True, help="Say what would be written, and which rows are wrong."
)
@click.option("--if-present", is_flag=True, help="Do nothing if there is no SOURCE.")
@click.version_option(__version__, message="embedding-streamer %(version)s")
def main(
    *, source: Path | None, out: Path | None, ids: str | None, id_from: tuple[str, ...],
    id_namespace: UUID | None, id_time: int | None, columns: dict[str, str],
    empty: tuple[str, ...], skip_invalid: bool, ignore_others: bool, force: bool, dry_run: bool,
    if_present: bool,
) -> None:  # fmt: skip
    """Rewrite an embeddings pickle, once, into a UUID-sorted Arrow file.

    SOURCE is a pickled list of dicts or DataFrame, a Parquet or Arrow (Feather), JSON Lines
    or CSV file, plain or compressed (gzip, bzip2, xz, zstd, zip), or a folder of such files
    in any depth, whose rows become one dataset; without it, PKL_PATH from the environment or
    .env. Nothing in a pickle is executed. Invalid rows are an error before anything is
    written.
    """
    _check_id_options(ids, id_from, id_namespace, id_time)
    if source is None:
        settings = _settings()
        source, out = settings.pkl_path, out or settings.data_path
    out = out or _beside(source)
    if not out.name:
        message = "the output (-o, DATA_PATH) has no name"
        raise click.UsageError(message)
    if if_present and _is_missing(source):
        say(f"no {source}; {out} stays as it is")
        return
    options = Options(
        source=source,
        out=out,
        columns=columns,
        ids=IdMode(ids) if ids else None,
        id_time_ms=id_time,
        skip_invalid=skip_invalid,
        force=force,
        empty=frozenset(empty),
        ignore_others=ignore_others,
        id_from=id_from,
        id_namespace=id_namespace or NAMESPACE,
        dry_run=dry_run,
    )
    try:
        report = convert(options, Phases())
    except ConvertError as error:
        complain_of(error)
        sys.exit(1)
    if report is None:
        say(f"{out} is up to date (--force writes it anyway)")
    else:
        print_report(report, out)
        if report.refusal is not None:
            complain_of(report.refusal)
            sys.exit(1)


@click.command("python -m convert inspect", cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
def inspect_command(file: Path) -> None:
    """Say what is in FILE: shape, columns, types, rows, and the globals that a pickle names.

    Nothing of it is executed, imported or made, so that files can be looked at that
    nobody would dare to unpickle. Exit code 1: it can't be read to its end, or is refused.
    """
    try:
        contents = inspect(file, Phases())
    except ConvertError as error:
        complain_of(error)
        sys.exit(1)
    print_contents(contents)
    if contents.error is not None:
        complain_of(contents.error)
        sys.exit(1)


def _settings() -> Settings:
    from pydantic import ValidationError  # noqa: PLC0415 - with the settings, a fifth of a second

    from convert.settings import Settings, misspelt  # noqa: PLC0415

    try:
        settings = Settings()
    except ValidationError as error:
        raise click.UsageError(str(error)) from None
    except UnicodeDecodeError:
        message = ".env is not UTF-8"
        raise click.UsageError(message) from None
    for warning in misspelt(Settings):
        complain(f"warning: {warning}")
    return settings


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:  # the conversion says what is wrong with it
        return False
    return False


def _beside(source: Path) -> Path:
    """Return the source's path with its .pkl, .pkl.gz ... replaced by .arrow."""
    source = source if source.name else source.resolve()  # "." has no name
    name = source.name.removesuffix(source.suffix) if source.suffix != ".pkl" else source.name
    return source.with_name(f"{name.removesuffix('.pkl')}.arrow")


class _NoPandas(importlib.abc.MetaPathFinder):
    """Keeps pyarrow from importing pandas where it is installed.

    pyarrow does so to see whether what it is given is a Series, which it never is here:
    that took 0.4 s and 40 MB.
    """

    def find_spec(self, name: str, _path: object, _target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def run() -> None:
    """Run the command that the arguments name."""
    with ends_by_signal():
        prepare_streams()
        if sys.argv[1:2] == ["inspect"]:
            inspect_command(sys.argv[2:], prog_name="python -m convert inspect")
        main(prog_name="python -m convert")


if __name__ == "__main__":
    sys.meta_path.insert(0, _NoPandas())
    run()
