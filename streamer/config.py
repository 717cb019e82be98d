"""Settings: one frozen object, from the command line, the environment and .env.

Nothing else reads the environment. A wrong value is a SettingsError that names the
variable.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ByteSize, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from streamer.chunking import MAX_CHUNK_ROWS
from streamer.errors import StreamerError

Port = Annotated[int, Field(ge=0, le=65_535)]


class SettingsError(StreamerError):
    """A setting has a value that it can't have."""

    exit_code = 2


class LogLevel(StrEnum):
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class Settings(BaseSettings):
    """Every setting, under its variable's name in lower case; README.md explains them."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    grpc_host: str = "0.0.0.0"  # noqa: S104 - a server is there to be reached
    grpc_port: Port = 50051
    max_workers: Annotated[int, Field(ge=1, le=1024)] = 16
    data_path: Path = Path("data/processed_recruitment_data.arrow")
    chunk_size: Annotated[int, Field(ge=1, le=MAX_CHUNK_ROWS)] | Literal["auto"] = 300
    max_message_size: Annotated[ByteSize, Field(ge=1024, le=2**31 - 1)] = ByteSize(16 << 20)
    # How long a stop waits for streams that are under way.
    shutdown_grace_seconds: Annotated[float, Field(ge=0)] = 10.0
    # Where `upload` sends to.
    batch_server_host: str = "localhost"
    batch_server_port: Port = 50052
    log_level: Annotated[LogLevel, BeforeValidator(lambda level: str(level).upper())] = (
        LogLevel.INFO
    )
    log_file: Path | None = None


def load_settings(**overrides: Any) -> Settings:  # noqa: ANN401
    """Return the settings; what `overrides` has, unless None, goes before the environment."""
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        problems: dict[str, str] = {}
        for e in error.errors():
            variable = str(e["loc"][0]).upper()
            said = problems.get(variable, f"{variable} is {e['input']!r}")
            problems[variable] = f"{said}: {e['msg']}"
        raise SettingsError("; ".join(problems.values())) from None
    except UnicodeDecodeError:
        message = ".env is not UTF-8"
        raise SettingsError(message) from None
