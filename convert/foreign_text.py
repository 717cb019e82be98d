"""Text from outside, made fit to show: on a terminal, in a log line, in an error.

A server, a file or a row may hold escape sequences that a terminal obeys, controls that turn
the direction of writing around, and line feeds that forge a line of a log. What is neither
stays as it is, in any script.
"""

from __future__ import annotations

import json
import unicodedata

# A quoted value longer than this is shortened; it came from outside and may be megabytes.
_MAX_QUOTED_CHARS = 60


def fit_to_show(text: str) -> str:
    """Return `text` in one line, with each control and format character escaped."""
    if text.isprintable():
        return text
    return "".join(char if _is_harmless(char) else ascii(char)[1:-1] for char in text)


def fit_lines(text: str) -> str:
    """Return `text` as `fit_to_show` does, but for its line feeds, which stay."""
    return "\n".join(map(fit_to_show, text.split("\n")))


def fit_json(text: str) -> str:
    """Return JSON with each control and format character in it escaped as JSON does."""
    if text.isprintable():
        return text
    return "".join(char if _is_harmless(char) else json.dumps(char)[1:-1] for char in text)


def quoted(value: str) -> str:
    """Return `value` in quotes, escaped and shortened, fit for an error text or a log line."""
    shown = value[:_MAX_QUOTED_CHARS]
    quote = '"' if "'" in shown and '"' not in shown else "'"
    escaped = shown.replace("\\", "\\\\").replace(quote, f"\\{quote}")
    more = f"... ({len(value)} characters)" if len(value) > len(shown) else ""
    return f"{quote}{fit_to_show(escaped)}{quote}{more}"


def _is_harmless(char: str) -> bool:
    # Spaces of other scripts aren't printable to Python: U+3000 of Korean and Japanese texts.
    return char.isprintable() or unicodedata.category(char) == "Zs"
