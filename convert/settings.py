"""What the environment and .env say about where the data is, and what .env misspells."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

from pydantic_settings import BaseSettings, DotEnvSettingsSource, SettingsConfigDict

from convert.foreign_text import quoted

# A name that other programs have variations of (DATABASE_URI, DATABASE_URLS).
_SHARED_NAMES = {"DATABASE_URL"}


class Settings(BaseSettings):
    """PKL_PATH and DATA_PATH; README.md explains them."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    pkl_path: Path = Path("data/processed_recruitment_data.pkl")
    data_path: Path = Path("data/processed_recruitment_data.arrow")


def misspelt(settings: type[BaseSettings]) -> list[str]:
    """Return a warning for each variable of .env that is nearly the name of a setting.

    Nearly is one slip of the pen: most misspellings are that (Damerau, 1964: 80 %), and names
    that other programs have chosen hardly ever.
    """
    names = {name.upper() for name in settings.model_fields}
    found = [name.upper() for name in DotEnvSettingsSource(settings).env_vars]
    return [
        f".env sets {quoted(variable)}, which is no setting: is {name} meant?"
        for variable in found
        if variable not in names
        for name in sorted(names - _SHARED_NAMES)
        if _is_one_slip(variable, name)
    ]


def _is_one_slip(text: str, name: str) -> bool:
    """Whether one character is wrong, added or missing, or two neighbours are swapped."""
    first = next(n for n, (a, b) in enumerate(zip_longest(text, name)) if a != b)
    text, name = text[first:], name[first:]
    swapped = name[1::-1] + name[2:]
    return name[1:] == text[1:] or name == text[1:] or name[1:] == text or swapped == text
