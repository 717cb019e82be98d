#!/usr/bin/env python3
"""Makes a believable recruitment pickle, the same for the same options.

    python data/make_sample.py                    141,897 rows, list of dicts, ~505 MB
    python data/make_sample.py --rows 2000 --out data/small.pkl
    python data/make_sample.py --shape dataframe64 --names real --out data/real.pkl

Seeded: 12,000 companies (a fifth of them Korean), 24 keywords, six English levels,
UUIDv5 ids, unit vectors. The DataFrame shapes need pandas (pip install -e '.[test]').
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

DEFAULT_ROWS = 141_897
COMPANIES = 12_000
KEYWORDS = (
    "Java", "Python", "JavaScript", "PHP", ".NET", "QA", "DevOps", "Android", "iOS", "Golang",
    "Ruby", "C++", "Scala", "Rust", "Unity", "Design", "Marketing", "Sales", "Support", "HR",
    "Data Science", "SQL", "Project Manager", "Business Analyst",
)  # fmt: skip
ENGLISH_LEVELS = ("no_english", "basic", "pre", "intermediate", "upper", "fluent")
SHAPES = ("records", "records32", "records64", "dataframe32", "dataframe64")
YEARS = (0, 1, 2, 3, 5, 7, 10)
_PARTS = (
    ("Nova", "Blue", "Quantum", "Bright", "Iron", "Cloud", "Delta", "Silver", "Green", "Apex"),
    ("Soft", "Systems", "Labs", "Works", "Data", "Logic", "Media", "Trade", "Games", "Health"),
    ("", " Inc.", " GmbH", " LLC", " Ltd", " & Co", " Group", " Team", " Studio", " Agency"),
)
_KOREAN_PARTS = (
    ("한빛", "서울", "대한", "미래", "우리", "새롬", "가온", "나눔", "하늘", "바다"),
    ("소프트", "데이터", "전자", "정보", "게임즈", "헬스", "미디어", "로직", "테크", "랩스"),
    ("", " 주식회사", "(주)", " 그룹", " 코리아", " 연구소", " 스튜디오", " 파트너스", "넷", "원"),
)
REAL_NAMES = {
    "company_name": "Company Name",
    "exp_years": "Exp Years",
    "english_level": "English Level",
    "primary_keyword": "Primary Keyword",
}


def company_names() -> list[str]:
    """Return COMPANIES distinct names, every fifth of them Korean."""
    names = []
    for number in range(COMPANIES):
        parts = _KOREAN_PARTS if number % 5 == 0 else _PARTS
        a, b, c = (number // 10**digit % 10 for digit in range(3))
        suffix = f" {number // 1000}" if number >= 1000 else ""
        names.append(f"{parts[0][a]}{parts[1][b]}{parts[2][c]}{suffix}")
    return names


def make_columns(rows: int, dim: int, seed: int) -> dict[str, Any]:
    """Return the columns under their documented names; vectors are float32 (rows, dim)."""
    random = np.random.default_rng(seed)
    companies = np.array(company_names(), object)
    # A few companies post most of the jobs.
    popularity = 1 / np.arange(1, COMPANIES + 1) ** 0.7
    company = random.choice(COMPANIES, rows, p=popularity / popularity.sum())
    vectors = random.standard_normal((rows, dim), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return {
        "id": [str(uuid.uuid5(uuid.NAMESPACE_URL, f"job/{seed}/{row}")) for row in range(rows)],
        "company_name": companies[company].tolist(),
        "exp_years": random.choice(YEARS, rows).tolist(),
        "english_level": random.choice(ENGLISH_LEVELS, rows).tolist(),
        "primary_keyword": random.choice(KEYWORDS, rows).tolist(),
        "job_post_vectors": vectors,
    }


def with_real_names(columns: dict[str, Any]) -> dict[str, Any]:
    """Return `columns` as the team's own pickle has them: names, years as text, extras."""
    renamed = {REAL_NAMES.get(name, name): values for name, values in columns.items()}
    renamed["Exp Years"] = [f"{n}y" if n else "no_exp" for n in columns["exp_years"]]
    keywords = columns["primary_keyword"]
    renamed["Position"] = [f"Senior {keyword} Engineer" for keyword in keywords]
    renamed["Long Description"] = [
        f"{company} is looking for a {keyword} engineer. " * 3
        for company, keyword in zip(columns["company_name"], keywords, strict=True)
    ]
    return renamed


def make_source(columns: dict[str, Any], shape: str) -> list[dict[str, Any]] | pd.DataFrame:
    """Return `columns` in one of the shapes that the pickles have."""
    vectors: NDArray[np.float32] = columns["job_post_vectors"]
    dtype = np.float64 if shape.endswith("64") else np.float32
    rows = vectors.tolist() if shape == "records" else [row.astype(dtype) for row in vectors]
    columns = {**columns, "job_post_vectors": rows}
    if shape.startswith("records"):
        names = list(columns)
        return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    import pandas as pd  # noqa: PLC0415 - a plain install, which has no pandas, makes records

    return pd.DataFrame(columns)


def write(source: object, out: Path) -> None:
    """Pickle `source` into `out`, which is there whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            pickle.dump(source, file, protocol=4)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=DEFAULT_ROWS, help="default: %(default)s")
    parser.add_argument("--dim", type=int, default=384, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--shape", choices=SHAPES, default="records",
        help="list of dicts with a list of floats each, or with an array of float32 or float64; "
        "DataFrame with an array a row",
    )  # fmt: skip
    parser.add_argument(
        "--names", choices=("documented", "real"), default="documented",
        help="column names (and years as '2y', further columns) of the real pickle",
    )  # fmt: skip
    parser.add_argument("--without-ids", action="store_true", help="leave the id column out")
    parser.add_argument("--out", type=Path, help="default: PKL_PATH")
    parser.add_argument(
        "--if-needed", action="store_true",
        help="make nothing if the file or the dataset at DATA_PATH is there",
    )  # fmt: skip
    options = parser.parse_args()
    if options.rows < 0 or options.dim < 1:
        parser.error("--rows must be at least 0 and --dim at least 1")

    try:
        settings = Settings()
    except ValueError as error:  # a wrong value, or a file that isn't UTF-8
        parser.error(f".env or environment: {error}")
    out: Path = options.out or settings.pkl_path
    if options.if_needed and (out.exists() or settings.data_path.exists()):
        return
    print(f"making {options.rows:,} rows of {options.dim} floats ...", file=sys.stderr)
    columns = make_columns(options.rows, options.dim, options.seed)
    if options.without_ids:
        del columns["id"]
    if options.names == "real":
        columns = with_real_names(columns)
    source = make_source(columns, options.shape)
    del columns
    print(f"writing {out} ...", file=sys.stderr)
    write(source, out)
    print(f"{out}: {out.stat().st_size / 1e6:,.1f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
