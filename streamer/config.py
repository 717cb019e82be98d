"""Settings: one frozen object, from the command line, the environment and .env.

Nothing else reads the environment. A wrong value is a SettingsError that names the
variable.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ByteSize, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from convert.foreign_text import quoted
from streamer.chunking import MAX_CHUNK_ROWS
from streamer.errors import StreamerError

# The longest that a duration may be, 24 days: what PostgreSQL can say in milliseconds. Waits of
# threads, timers of event loops and gRPC's deadlines take more, but not any float: beyond 292
# years, and for inf and nan, they raise.
MAX_SECONDS = 2_147_483
_Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS)]
_SecondsOrZero = Annotated[float, Field(ge=0, le=MAX_SECONDS)]
_PACKAGE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
Port = Annotated[int, Field(ge=0, le=65_535)]


class SettingsError(StreamerError):
    """A setting has a value that it can't have."""

    exit_code = 2


class LogLevel(StrEnum):
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class Engine(StrEnum):
    WIRE = "wire"
    GRPCIO = "grpcio"


class OnUnknownCheckpoint(StrEnum):
    ACCEPT = "accept"
    REFUSE = "refuse"


def _packages(value: Any) -> Any:  # noqa: ANN401
    """Split `a.b, c` into packages of protobuf; ValueError."""
    if not isinstance(value, str):
        return value
    listed = value.strip().removesuffix(",")
    packages = [package.strip() for package in listed.split(",")] if listed else []
    for package in packages:
        if not _PACKAGE.fullmatch(package):
            message = f"{quoted(package)} is no protobuf package, such as com.example.jobs"
            raise ValueError(message)
    return packages


class Settings(BaseSettings):
    """Every setting, under its variable's name in lower case; README.md explains them."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    # None, or empty: every address that this machine has.
    grpc_host: str | None = None
    grpc_port: Port = 50051
    max_workers: Annotated[int, Field(ge=1, le=1024)] = 16
    data_path: Path = Path("data/processed_recruitment_data.arrow")
    chunk_size: Annotated[int, Field(ge=1, le=MAX_CHUNK_ROWS)] | Literal["auto"] = 300
    max_message_size: Annotated[ByteSize, Field(ge=1024, le=2**31 - 1)] = ByteSize(16 << 20)
    # Packages in which the services answer, too, besides their own and none.
    service_aliases: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_packages)] = ()
    # What becomes of a call whose checkpoint is not a row of the dataset.
    on_unknown_checkpoint: OnUnknownCheckpoint = OnUnknownCheckpoint.ACCEPT
    engine: Engine = Engine.WIRE
    # Encoded heads of rows that are kept for the next stream; 0 keeps none.
    head_cache_size: Annotated[ByteSize, Field(ge=0)] = ByteSize(32 << 20)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    # Clients must show a certificate of this CA.
    tls_client_ca: Path | None = None
    # What peers of the wire engine may ask for; streamer/engines/wire/limits.py has the reasons.
    max_connections: Annotated[int, Field(ge=1)] = 512
    max_streams_per_connection: Annotated[int, Field(ge=1, le=2**31 - 1)] = 256
    max_streams: Annotated[int, Field(ge=1)] = 512
    max_header_list_size: Annotated[ByteSize, Field(ge=1024, le=1 << 20)] = ByteSize(16 << 10)
    max_request_size: Annotated[ByteSize, Field(ge=1024, le=2**31 - 1)] = ByteSize(64 << 10)
    # How much work they may make without progress, as a multiple of what flood.py says.
    flood_tolerance: Annotated[float, Field(ge=0.1, le=1000)] = 1.0
    handshake_timeout_seconds: _Seconds = 20.0
    idle_timeout_seconds: _Seconds = 900.0
    stall_timeout_seconds: _Seconds = 300.0
    # After how long clients are asked to connect again, and how long their calls may go on then.
    max_connection_age_seconds: _Seconds | None = None
    max_connection_age_grace_seconds: _SecondsOrZero | None = None
    max_connections_per_address: Annotated[int, Field(ge=1)] | None = None
    # How long a stop waits for streams that are under way.
    shutdown_grace_seconds: _SecondsOrZero = 10.0
    # What `pull` asks for a message, and commits at a time; for how long it tries.
    pull_chunk_size: Annotated[int, Field(ge=1, le=MAX_CHUNK_ROWS)] = 2048
    pull_commit_size: Annotated[ByteSize, Field(ge=1, le=1 << 30)] = ByteSize(8 << 20)
    pull_tries: Annotated[int, Field(ge=1)] = 10
    pull_timeout_seconds: _Seconds = 300.0
    # How long it waits while another program loads the same table.
    lock_timeout_seconds: _Seconds = 60.0
    # Where `receive` listens: whoever reaches it may write.
    receive_host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    # What `receive` commits at a time, and takes of each upload ahead of the database.
    receive_commit_size: Annotated[ByteSize, Field(ge=1, le=1 << 30)] = ByteSize(8 << 20)
    receive_window_size: Annotated[ByteSize, Field(ge=65_535, le=2**31 - 1)] = ByteSize(1 << 20)
    # The database's maintenance_work_mem while an index is built, such as 1GB.
    index_memory: str | None = None
    # Where `pull` and `receive` write, where --into doesn't say it: it may hold a password.
    database_url: str | None = None
    # Where `upload` sends to.
    batch_server_host: str = "localhost"
    batch_server_port: Port = 50052
    # Rows that are acknowledged together; 10,000 of 384 floats are 16 MB.
    upload_segment_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    upload_tries: Annotated[int, Field(ge=1, le=100)] = 3
    # The first wait before a segment is sent again; each further one is twice as long.
    upload_retry_seconds: _SecondsOrZero = 2.0
    upload_timeout_seconds: _Seconds = 300.0
    log_level: Annotated[LogLevel, BeforeValidator(lambda level: str(level).upper())] = (
        LogLevel.INFO
    )
    log_file: Path | None = None

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            message = "TLS_CERT and TLS_KEY belong together"
            raise ValueError(message)
        if self.tls_client_ca is not None and self.tls_cert is None:
            message = "TLS_CLIENT_CA needs TLS_CERT and TLS_KEY"
            raise ValueError(message)
        return self


def required_database(settings: Settings) -> str:
    """Return DATABASE_URL; SettingsError if nobody has given it."""
    if not settings.database_url:
        message = "no database: give --into or DATABASE_URL"
        raise SettingsError(message)
    return settings.database_url


def load_settings(**overrides: Any) -> Settings:  # noqa: ANN401
    """Return the settings; what `overrides` has, unless None, goes before the environment."""
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        problems: dict[str, str] = {}
        for e in error.errors():
            if not e["loc"]:  # about several variables, which its text names
                problems[""] = str(e["ctx"]["error"])
                continue
            variable = str(e["loc"][0]).upper()
            said = problems.get(variable, f"{variable} is {quoted(str(e['input']))}")
            problems[variable] = f"{said}: {e['msg']}"
        raise SettingsError("; ".join(problems.values())) from None
    except UnicodeDecodeError:
        message = ".env is not UTF-8"
        raise SettingsError(message) from None
