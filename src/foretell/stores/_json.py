"""JSON that every reader accepts, though floats may be infinite or not numbers.

JSON has no such numbers, and SQLite refuses Python's spelling of them. They are written as {"~float": "nan"}; keys that
begin with "~" get another one, so that nobody's data can be mistaken for it.
"""

from __future__ import annotations

import json
import math
from typing import Any

_MARK = "~float"


def dumps(value: Any) -> str:
    """The value as compact ASCII JSON; what `loads` returns is equal to it.

    Raises:
        TypeError: something in it is no plain data.
    """
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_escape(value), allow_nan=False, separators=(",", ":"))
    return json.dumps(_escape(value), separators=(",", ":")) if '"~' in text else text


def loads(text: str) -> Any:
    """The inverse of `dumps`."""
    value = json.loads(text)
    return _unescape(value) if '"~' in text else value


def _escape(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return {_MARK: repr(float(value))}
        case dict():
            return {f"~{key}" if str(key).startswith("~") else key: _escape(item) for key, item in value.items()}
        case list() | tuple():
            return [_escape(item) for item in value]
    return value


def _unescape(value: Any) -> Any:
    match value:
        case dict() if _MARK in value:
            return float(value[_MARK])
        case dict():
            return {key.removeprefix("~") if key[:1] == "~" else key: _unescape(item) for key, item in value.items()}
        case list():
            return [_unescape(item) for item in value]
    return value
