"""Who we are to the service: what to put into the ``authorization`` header, and how to renew it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from airflow_provider_speechsense.exceptions import ConfigurationError


class Credentials(Protocol):
    """Something that can authorize a call."""

    def authorization(self) -> str | None:
        """Return the header's value, or None to send no header. May talk to a token service."""

    def renew(self) -> bool:
        """Get a new secret after the service refused this one; False if there is no other to get."""

    def has_secret(self) -> bool:
        """Tell whether ``authorization`` gives away something that others must not see."""


@dataclass(frozen=True)
class _FixedSecret:
    """A secret that is what it is: white space around it is a slip of the clipboard, within it a mistake.

    :raises ConfigurationError: the secret is empty or cannot be a header's value
    """

    secret: str = field(repr=False)

    scheme = ""
    called = ""

    def __post_init__(self) -> None:
        secret = self.secret.strip()
        if not secret:
            raise ConfigurationError(
                f"The connection has no {self.called}.",
                hint=f"put the {self.called} into the connection's password, or choose another auth_type.",
            )
        if not (secret.isascii() and secret.isprintable()) or " " in secret:
            raise ConfigurationError(
                f"The {self.called} has a line break, a space or another character within that none has.",
                hint="copy it again, in one piece; the secret is shown only once, when it is made.",
            )
        object.__setattr__(self, "secret", secret)

    def authorization(self) -> str | None:
        return f"{self.scheme} {self.secret}"

    def renew(self) -> bool:
        return False

    def has_secret(self) -> bool:
        return True


@dataclass(frozen=True)
class ApiKey(_FixedSecret):
    """An API key of a service account, with the scope ``yc.speech-sense.use``."""

    scheme = "Api-Key"
    called = "API key"


@dataclass(frozen=True)
class IamToken(_FixedSecret):
    """An IAM token as it is. It lives at most 12 hours and is not renewed: for trying things out."""

    scheme = "Bearer"
    called = "IAM token"


@dataclass(frozen=True)
class NoCredentials:
    """No header at all: for SpeechSense Hybrid with its security off."""

    def authorization(self) -> str | None:
        """Return None."""
        return None

    def renew(self) -> bool:
        """Return False."""
        return False

    def has_secret(self) -> bool:
        """Return False."""
        return False
