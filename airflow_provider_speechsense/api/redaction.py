"""Secrets taken out of texts that others wrote, such as a server's, by what secrets look like."""

from __future__ import annotations

import re

_SECRETS = re.compile(
    # An IAM token, as the vendor documents its shape.
    r"t1\.[A-Za-z0-9_-]+={0,2}\.[A-Za-z0-9_-]{86}={0,2}"
    # A JWT: two JSON objects and a signature, in base64.
    r"|eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"
    # A private key, cut off or not.
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)


def redact(text: str) -> str:
    """Return ``text`` with ``***`` in the place of every IAM token, JWT and private key."""
    return _SECRETS.sub("***", text)
