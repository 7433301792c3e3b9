"""The authorized key of a service account: what its file holds, or what is wrong with it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

#: The vendor makes keys of 2048 and 4096.
_RSA_BITS = 2048
_ID = re.compile(r"[A-Za-z0-9_.-]{1,50}")
_PEM = re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.*?-----END \1PRIVATE KEY-----", re.DOTALL)


@dataclass(frozen=True)
class AuthorizedKey:
    """The parts of a key file that sign requests for tokens."""

    id: str
    service_account_id: str
    private: RSAPrivateKey = field(repr=False)


# These two return what is wrong instead of raising it: their locals are secrets, and a crash may print them.


def parse_key(key: str | Mapping[str, Any]) -> AuthorizedKey | str:
    """Return the key that a key file holds, or what is wrong with it."""
    fields: object = key
    if isinstance(key, str):
        with suppress(ValueError, RecursionError):
            # Not strict: on its way through the environment an escaped line break may have become a real one.
            fields = json.loads(key.lstrip("\ufeff"), strict=False)
    if not isinstance(fields, Mapping):
        return "it is no JSON object"
    ids = {name: str(fields.get(name) or "").strip() for name in ("id", "service_account_id")}
    faults = [f"{name} is missing or no id" for name, value in ids.items() if not _ID.fullmatch(value)]
    private = _private_key(fields.get("private_key"))
    if isinstance(private, str):
        return ", and ".join([*faults, private])
    return ", and ".join(faults) or AuthorizedKey(**ids, private=private)


def _private_key(text: object) -> RSAPrivateKey | str:
    """Return the key in a PEM text, or what is wrong with it."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    # A search, because the vendor puts a line of warning first.
    pem = _PEM.search(text.replace("\\n", "\n")) if isinstance(text, str) else None
    if pem is None:
        return "private_key is missing or no whole PEM text"
    with suppress(ValueError, TypeError, UnsupportedAlgorithm):
        private = load_pem_private_key(pem[0].encode(), password=None)
        if isinstance(private, RSAPrivateKey) and private.key_size >= _RSA_BITS:
            return private
    return f"private_key is damaged, or no RSA key of {_RSA_BITS} bits or more without a password"
