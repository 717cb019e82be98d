"""What the environment and .env say about where the data is."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """PKL_PATH and DATA_PATH; README.md explains them."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    pkl_path: Path = Path("data/processed_recruitment_data.pkl")
    data_path: Path = Path("data/processed_recruitment_data.arrow")
