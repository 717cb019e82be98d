"""Settings: where they come from, and how wrong ones are refused."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from pydantic import ValidationError

from convert.settings import Settings as ConvertSettings
from convert.settings import misspelt
from streamer.__main__ import main
from streamer.config import Settings, SettingsError, load_settings

_VARIABLES = [name.upper() for name in Settings.model_fields]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run in an empty folder without any of the variables."""
    monkeypatch.chdir(tmp_path)
    for variable in _VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def test_defaults_are_the_documented_ones() -> None:
    """Without any setting a server listens on 50051 and sends chunks of 300 rows."""
    settings = load_settings()

    assert (50051, 300, 16 << 20) == (
        settings.grpc_port, settings.chunk_size, settings.max_message_size,
    )  # fmt: skip
    assert ("localhost", 50052) == (settings.batch_server_host, settings.batch_server_port)


def test_options_go_before_environment_before_env_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest source wins."""
    Path(".env").write_text("GRPC_PORT=1\nMAX_WORKERS=2\nCHUNK_SIZE=3\n")
    monkeypatch.setenv("GRPC_PORT", "4")
    monkeypatch.setenv("MAX_WORKERS", "5")

    settings = load_settings(grpc_port=6, max_workers=None)

    assert (6, 5, 3) == (settings.grpc_port, settings.max_workers, settings.chunk_size)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GRPC_PORT", "abc"),
        ("GRPC_PORT", "65536"),
        ("GRPC_PORT", "-1"),
        ("MAX_WORKERS", "0"),
        ("CHUNK_SIZE", "0"),
        ("CHUNK_SIZE", "10001"),
        ("CHUNK_SIZE", "many"),
        ("MAX_MESSAGE_SIZE", "10"),
        ("MAX_MESSAGE_SIZE", "3GiB"),
        ("BATCH_SERVER_PORT", "x"),
        ("SHUTDOWN_GRACE_SECONDS", "-1"),
        ("LOG_LEVEL", "LOUD"),
        ("ENGINE", "steam"),
        ("SERVICE_ALIASES", "com.example.jobs,,x"),
        ("MAX_CONNECTION_AGE_SECONDS", "0"),
        ("MAX_CONNECTION_AGE_SECONDS", "inf"),
        ("MAX_CONNECTION_AGE_GRACE_SECONDS", "-1"),
        ("MAX_CONNECTIONS_PER_ADDRESS", "0"),
        ("RECEIVE_HOST", ""),
        ("SERVICE_ALIASES", "/com.example"),
        ("SERVICE_ALIASES", "com.1x"),
        ("ON_UNKNOWN_CHECKPOINT", "restart"),
        ("HEAD_CACHE_SIZE", "-1"),
        ("MAX_CONNECTIONS", "0"),
        ("MAX_STREAMS_PER_CONNECTION", "0"),
        ("MAX_STREAMS", "0"),
        ("MAX_HEADER_LIST_SIZE", "100"),
        ("MAX_REQUEST_SIZE", "1"),
        ("HANDSHAKE_TIMEOUT_SECONDS", "0"),
        ("IDLE_TIMEOUT_SECONDS", "nan"),
        ("STALL_TIMEOUT_SECONDS", "-5"),
    ],
)
def test_wrong_value_is_an_error_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """Name and value are in the text, for whoever has to mend it."""
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsError, match=f"{variable} is '{value}'"):
        load_settings()


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("CHUNK_SIZE", "auto", "auto"),
        ("MAX_MESSAGE_SIZE", "4194304", 4 << 20),
        ("MAX_MESSAGE_SIZE", "4MiB", 4 << 20),
        ("LOG_FILE", "logs/x.log", Path("logs/x.log")),
        ("LOG_LEVEL", "debug", "DEBUG"),
        ("SERVICE_ALIASES", "com.alpha.backend.grpc, x_1", ("com.alpha.backend.grpc", "x_1")),
        ("SERVICE_ALIASES", "", ()),
        ("SERVICE_ALIASES", "com.alpha.backend.grpc, ", ("com.alpha.backend.grpc",)),
    ],
)
def test_values_may_be_written_as_people_do(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: object
) -> None:
    """Sizes take units, the chunk size takes `auto`."""
    monkeypatch.setenv(variable, value)

    assert expected == getattr(load_settings(), variable.lower())


def test_settings_are_frozen() -> None:
    """Nothing changes a setting after the start."""
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().grpc_port = 1


def test_example_shows_every_setting_with_its_default() -> None:
    """.env.example can be copied as it is."""
    example = Path(__file__).parent.parent / ".env.example"
    Path(".env").write_text(example.read_text())

    assert Settings(_env_file=None) == load_settings()  # type: ignore[call-arg]
    for variable in [*_VARIABLES, "PKL_PATH"]:
        assert f"{variable}=" in example.read_text()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"TLS_CERT": "a.pem"}, "TLS_CERT and TLS_KEY belong together"),
        ({"TLS_KEY": "a.key"}, "TLS_CERT and TLS_KEY belong together"),
        ({"TLS_CLIENT_CA": "ca.pem"}, "TLS_CLIENT_CA needs TLS_CERT and TLS_KEY"),
    ],
)
def test_half_of_a_tls_setup_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], text: str
) -> None:
    """A server never falls back to plain text because one variable is missing."""
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=text):
        load_settings()


def test_env_example_names_every_setting_with_its_default() -> None:
    """Whoever copies .env.example changes nothing."""
    example = Path(__file__).parent.parent / ".env.example"
    defaults = load_settings()
    Path(".env").write_text(example.read_text())

    assert defaults == load_settings()
    named = {line.strip("# ").partition("=")[0] for line in example.read_text().splitlines()}
    assert set(_VARIABLES) <= named


_DURATIONS = [name for name in Settings.model_fields if name.endswith("_seconds")]


def test_durations_are_all_that_is_counted_in_parts() -> None:
    """Every number that needn't be whole is a duration, and says so; but for one multiple."""
    parts = {name for name, f in Settings.model_fields.items() if "float" in str(f.annotation)}

    assert len(_DURATIONS) >= 8
    assert {*_DURATIONS, "flood_tolerance"} == parts


@pytest.mark.parametrize("value", ["inf", "nan", "1e10", "-inf", "-1", "2147484"])
@pytest.mark.parametrize("name", _DURATIONS)
def test_durations_end_somewhere(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """What no timer can wait for is refused at start; uploads were INTERNAL with it."""
    monkeypatch.setenv(name.upper(), value)

    with pytest.raises(SettingsError, match=f"{name.upper()} is '{value}'"):
        load_settings()


def test_no_option_is_a_duration_without_end() -> None:
    """Options are bounded as settings are; none is a number that isn't whole, so far."""
    context = click.Context(main)
    commands = [main.get_command(context, name) for name in main.list_commands(context)]
    options = [option for command in commands if command for option in command.params]

    assert len(options) > 40
    for option in options:
        is_bounded = isinstance(option.type, click.FloatRange) and option.type.max is not None
        assert is_bounded or not isinstance(option.type, click.types.FloatParamType)


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("GRPC_PROT=1", "GRPC_PORT"),
        ("grpc_prot=1", "GRPC_PORT"),
        ("MAX_CONNECTION=5", "MAX_CONNECTIONS"),
        ("export CHUNKSIZE=5", "CHUNK_SIZE"),
        ("RECIEVE_WINDOW_SIZE=1MiB", "RECEIVE_WINDOW_SIZE"),
        ("LOG_LEVELL=DEBUG", "LOG_LEVEL"),
        ("TLS_CERT_=x", "TLS_CERT"),
        ("GRPC_P0RT=1", "GRPC_PORT"),
    ],
)
def test_a_misspelt_variable_is_found(line: str, meant: str) -> None:
    """A letter too many, too few or wrong, or two of them swapped."""
    Path(".env").write_text(f"{line}\n")

    (warning,) = misspelt(Settings)

    assert f"is {meant} meant?" in warning
    assert line.removeprefix("export ").partition("=")[0].upper() in warning


def test_variables_of_other_programs_are_let_be() -> None:
    """A .env is shared: what only resembles a setting of ours is somebody else's."""
    Path(".env").write_text(
        "DATABASE_URI=a\nTEST_DATABASE_URL=b\nDATABASE_URL2=c\nPGHOST=d\nPGPORT=5432\nPORT=80\n"
        "HOST=e\nGRPC_TRACE=all\nGRPC_VERBOSITY=debug\nAPP_LOG_LEVEL=x\nMAX_THREADS=3\n"
        "READ_TIMEOUT_SECONDS=3\nPOOL_TIMEOUT_SECONDS=3\nDB_LOCK_TIMEOUT_SECONDS=3\nPKL_PATH=x\n"
        "HTTP_PORT=1\nDB_PATH=x\nLOG_DIR=x\nGRPC_PORT=1\nDATABASE_URL=postgresql://x\n"
    )

    assert [] == misspelt(Settings)
    assert [] == misspelt(ConvertSettings)


def test_without_an_env_file_nothing_is_misspelt() -> None:
    """Variables of the environment are everybody's: they aren't looked at."""
    assert [] == misspelt(Settings)
