"""Texts of any length: most of a DataFrame's bytes, shared, null among long ones, not Unicode."""

from __future__ import annotations

import pandas as pd

from tests.shapes.catalogue import converted, frame, pickled, refused

_LONG = [
    "• " + "long " * 20_000, None, "한빛 " * 400, "• " + "long " * 20_000, "", "x" * 300
]  # fmt: skip
_SHARED = "y" * 100_000

SHAPES = [
    converted("long texts in a DataFrame", pickled(frame(company_name=_LONG).astype(object))),
    converted(
        "long texts in a list of dicts",
        pickled(frame(company_name=_LONG).astype(object).to_dict("records")),
    ),
    converted(
        "long texts that rows and columns share",
        pickled(frame(company_name=_SHARED, english_level=_SHARED).astype(object)),
    ),
    converted(
        "long texts in pandas' own type of text",
        pickled(frame(company_name=_LONG).astype({"company_name": "string"})),
    ),
    refused(
        "a long text that isn't Unicode",
        pickled(frame(company_name=pd.Series(["x" * 300 + "\ud800", *_LONG[1:]], dtype=object))),
        words=["company_name", "is not valid Unicode"],
    ),
]
