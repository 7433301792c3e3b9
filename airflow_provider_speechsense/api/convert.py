"""Between protobuf messages and plain Python, both ways.

Plain means: the API's snake_case names, integers as numbers, enums by name, times as RFC 3339 text, durations
in seconds, wrapped values bare; what is unset is absent. It is JSON as it stands.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.api.metadata import parse_time

M = TypeVar("M", bound=Message)

#: Zero is a place here, the first channel or the start of the recording, so it is given although proto3
#: cannot tell it from unset. Elsewhere a zero says that nothing was computed.
_ZERO_IS_A_VALUE = frozenset({"channel_number", "start_time_ms", "end_time_ms", "offset"})

_INTEGERS = frozenset({FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64})
_FLOATS = frozenset({FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE})
#: By google.protobuf name: the types that have one field, ``value``.
_WRAPPERS = frozenset({"Int64Value", "DoubleValue", "StringValue", "BoolValue"})


def to_dict(message: Message) -> dict[str, Any]:
    """Return ``message`` as a plain dict; an enum value this release does not know stays a number."""
    plain = {
        field.name: _plain(field, value)
        for field, value in message.ListFields()
        # A share of nothing. JSON has no word for it.
        if not (isinstance(value, float) and not math.isfinite(value))
    }
    for field in message.DESCRIPTOR.fields:
        if field.name in _ZERO_IS_A_VALUE and not field.has_presence:
            plain.setdefault(field.name, 0)
    return plain


def _plain(field: Any, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(value)
    if _is_repeated(field):
        return [_plain_one(field, item) for item in value]
    return _plain_one(field, value)


def _plain_one(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    if field.message_type is None:
        return value
    match _well_known(field):
        case "Timestamp":
            return value.ToJsonString()
        case "Duration":
            return value.ToTimedelta().total_seconds()
        case "Any":
            return unpack(value)
        case name if name in _WRAPPERS:
            return value.value
    return to_dict(value)


def unpack(packed: Any) -> dict[str, Any]:
    """Return what a ``google.protobuf.Any`` holds, or its bare type if this package does not know that."""
    try:
        message = protos.message_class(packed.TypeName())()
    except KeyError:
        return {"type_url": packed.type_url}
    packed.Unpack(message)
    return to_dict(message)


def from_dict(message: M, given: Any, where: str, faults: list[str]) -> M:
    """Fill ``message`` from a plain dict and return it.

    :param where: what the user calls the dict; every fault begins with the path from there
    :param faults: gets a sentence for each key or value that does not fit
    """
    if not isinstance(given, Mapping):
        faults.append(f"{where} is {given!r}, not a dict.")
        return message
    fields = message.DESCRIPTOR.fields_by_name
    for key, value in given.items():
        if key not in fields:
            faults.append(unknown_name(f"{where}.{key}", str(key), list(fields)))
        elif value is not None:
            _fill(message, fields[key], value, f"{where}.{key}", faults)
    for oneof in message.DESCRIPTOR.oneofs:
        members = [f.name for f in oneof.fields if given.get(f.name) is not None]
        if len(members) > 1:
            faults.append(f"{where} has {' and '.join(members)}: only one of them can be.")
    return message


def unknown_name(path: str, name: str, known: list[str]) -> str:
    """Return the sentence that says that ``path`` is unknown, and what may have been meant."""
    close = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}."
    return f"{path} is unknown: {meant}"


def _is_repeated(field: Any) -> bool:
    # Newer protobuf deprecates label, older does not have is_repeated.
    repeated = getattr(field, "is_repeated", None)
    if repeated is not None:
        return bool(repeated)
    return bool(field.label == FieldDescriptor.LABEL_REPEATED)


def _well_known(field: Any) -> str | None:
    full_name: str = field.message_type.full_name
    return full_name.removeprefix("google.protobuf.") if full_name.startswith("google.protobuf.") else None


def _fill(message: Message, field: Any, value: Any, path: str, faults: list[str]) -> None:
    if _is_repeated(field):
        if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
            faults.append(f"{path} is {value!r}, not a list.")
            return
        target = getattr(message, field.name)
        for i, item in enumerate(value):
            if field.message_type is not None:
                from_dict(target.add(), item, f"{path}[{i}]", faults)
            elif (scalar := _scalar(field, item, f"{path}[{i}]", faults)) is not None:
                target.append(scalar)
    elif field.message_type is None:
        if (scalar := _scalar(field, value, path, faults)) is not None:
            setattr(message, field.name, scalar)
    else:
        target = getattr(message, field.name)
        # A message counts as given even when everything in it has its default.
        target.SetInParent()
        _fill_message(target, _well_known(field), value, path, faults)


def _fill_message(target: Any, well_known: str | None, value: Any, path: str, faults: list[str]) -> None:
    if well_known == "Timestamp":
        _fill_timestamp(target, value, path, faults)
    elif well_known == "Duration":
        seconds = value.total_seconds() if isinstance(value, timedelta) else value
        try:
            target.FromTimedelta(timedelta(seconds=_float(seconds)))
        except (ValueError, OverflowError):
            faults.append(f"{path} is {value!r}, not a number of seconds or a timedelta.")
    elif well_known in _WRAPPERS:
        field = target.DESCRIPTOR.fields_by_name["value"]
        if (scalar := _scalar(field, value, path, faults)) is not None:
            target.value = scalar
    else:
        from_dict(target, value, path, faults)


def _fill_timestamp(target: Any, value: Any, path: str, faults: list[str]) -> None:
    try:
        moment = parse_time(value) if isinstance(value, str) else value
    except ValueError as error:
        faults.append(f"{path}: {error}.")
        return
    if not isinstance(moment, datetime):
        faults.append(f"{path} is {value!r}, not a datetime or text like 2025-04-24T14:34:19Z.")
    elif moment.tzinfo is None:
        faults.append(f"{path} is {value}, which names no time zone: add Z for UTC, or the offset.")
    else:
        try:
            target.FromDatetime(moment)
        except (OverflowError, ValueError):
            faults.append(f"{path} is {value}, which is not between the years 1 and 9999 in UTC.")


def _scalar(field: Any, value: Any, path: str, faults: list[str]) -> Any:
    """Return ``value`` as the field takes it, or None after adding to ``faults``."""
    if field.enum_type is not None:
        return _enum_number(field, value, path, faults)
    kind, parse = _PARSERS[field.type]
    try:
        return parse(value)
    except ValueError:
        faults.append(f"{path} is {value!r}, not {kind}.")
        return None


def _enum_number(field: Any, value: Any, path: str, faults: list[str]) -> int | None:
    by_name = field.enum_type.values_by_name
    # The common prefix may be left out: DESC for SORT_ORDER_DESC.
    zero: str = field.enum_type.values_by_number[0].name
    prefix = zero.removesuffix("UNSPECIFIED")
    name = str(value).upper()
    found = by_name.get(name) or by_name.get(prefix + name)
    if found is None:
        faults.append(unknown_name(f"{path} {value!r}", name, [n for n in by_name if n != zero]))
        return None
    return int(found.number)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    value.encode()
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool) and value not in ("true", "false", "True", "False"):
        raise ValueError
    return value in (True, "true", "True")


def _integer(value: Any) -> int:
    # Text too: a rendered template is one.
    if isinstance(value, bool | float) or not -(2**63) <= (number := int(_number_or_text(value))) < 2**63:
        raise ValueError
    return number


def _float(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(number := float(_number_or_text(value))):
        raise ValueError
    return number


def _number_or_text(value: Any) -> float | str:
    if not isinstance(value, int | float | str):
        raise ValueError
    return value


_PARSERS = {
    FieldDescriptor.TYPE_STRING: ("a string", _text),
    FieldDescriptor.TYPE_BOOL: ("true or false", _boolean),
    **dict.fromkeys(_INTEGERS, ("an integer", _integer)),
    **dict.fromkeys(_FLOATS, ("a number", _float)),
}
