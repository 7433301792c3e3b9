"""Metadata values: which text forms each declared type has, and what they stand for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from airflow_provider_speechsense.emulator.connections import FieldType

#: What a value is compared as. Dates are seconds since 1970.
Value = str | int | float | bool


def parse_date(text: str, *, naive_allowed: bool = True) -> float:
    """Read an ISO 8601 date and time; one without an offset is taken as UTC.

    :raises ValueError: it is none, or naive where that is not allowed
    """
    if not re.match(r"\d{4}-\d{2}-\d{2}", text):
        raise ValueError("not an ISO 8601 date")
    date = datetime.fromisoformat(text)
    if date.tzinfo is None:
        if not naive_allowed:
            raise ValueError("a date without a UTC offset")
        date = date.replace(tzinfo=UTC)
    return date.timestamp()


def _number(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        raise ValueError("not an integer")
    return int(text)


def _decimal(text: str) -> float:
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII):
        raise ValueError("not a decimal number")
    return float(text)


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("neither true nor false")
    return text == "true"


def _json(text: str) -> str:
    try:
        json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return text


#: By declared type. Each raises ValueError for text that is not of its type.
PARSERS: Mapping[FieldType, Callable[[str], Value]] = {
    FieldType.STRING: str,
    FieldType.NUMBER: _number,
    FieldType.DECIMAL: _decimal,
    FieldType.BOOLEAN: _boolean,
    FieldType.DATE: parse_date,
    FieldType.JSON: _json,
}
