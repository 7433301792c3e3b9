"""Connections as the service's console declares them: a type, and the metadata keys it knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any


class FieldType(StrEnum):
    """The type of a metadata key. The API's names have the prefix ``FIELD_TYPE_``."""

    STRING = "string"
    NUMBER = "number"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    DATE = "date"
    JSON = "json"


class ConnectionType(StrEnum):
    """What a connection takes."""

    TWO_CHANNEL = "two_channel"
    ONE_CHANNEL = "one_channel"
    #: One channel, cut into talks: takes UploadBadge and nothing else.
    SPLITTING = "splitting"
    CHAT = "chat"


@dataclass(frozen=True)
class Key:
    """A metadata key that a connection declares."""

    type: FieldType = FieldType.STRING
    required: bool = False


def _template(*names: str) -> Mapping[str, Key]:
    types = {"date": FieldType.DATE, "direction_outgoing": FieldType.BOOLEAN}
    return MappingProxyType({name: Key(types.get(name, FieldType.STRING), required=True) for name in names})


_OPERATOR = ("operator_name", "operator_id")
_CLIENT = ("client_name", "client_id")
_CALL = (*_OPERATOR, *_CLIENT, "date", "direction_outgoing", "language")

#: The keys that the service's own templates ask for. That of one-channel audio without splitting is not
#: documented; it is taken to be that of two channels.
TEMPLATES: Mapping[ConnectionType, Mapping[str, Key]] = MappingProxyType(
    {
        ConnectionType.TWO_CHANNEL: _template(*_CALL),
        ConnectionType.ONE_CHANNEL: _template(*_CALL),
        ConnectionType.SPLITTING: _template(*_OPERATOR, "date", "language"),
        ConnectionType.CHAT: _template(*_CALL, "bot_name", "bot_id"),
    }
)


@dataclass(frozen=True)
class Connection:
    """A connection that the emulator enforces.

    :param type: what it takes
    :param keys: its metadata keys by name; default the service's template for the type
    """

    type: ConnectionType
    keys: Mapping[str, Key] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.keys:
            object.__setattr__(self, "keys", TEMPLATES[self.type])


def parse_connections(document: Any) -> dict[str, Connection]:
    """Read connections from JSON.

    :param document: ``{id: {"type": "two_channel", "keys": {name: {"type": "date", "required": true}}}}``;
        ``keys`` may be left out, and a key may be just the name of its type
    :raises ValueError: naming the connection and what is wrong
    """
    if not isinstance(document, dict):
        raise ValueError("connections: expected an object of connections by id")
    return {connection_id: _parse_connection(connection_id, item) for connection_id, item in document.items()}


def _parse_connection(connection_id: str, item: Any) -> Connection:
    try:
        keys = {}
        for name, key in item.get("keys", {}).items():
            declared = {"type": key} if isinstance(key, str) else key
            field_type = FieldType(declared.get("type", FieldType.STRING))
            keys[name] = Key(field_type, bool(declared.get("required", False)))
        return Connection(ConnectionType(item["type"]), keys)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"connection {connection_id!r}: {error}") from error
