"""How the emulator says no."""

from __future__ import annotations


class Refusal(Exception):
    """An answer other than OK, with the status that the client will see.

    :param code: name of the gRPC status, such as ``INVALID_ARGUMENT``
    :param text: what the client reads in ``details()``
    :param retry_after_seconds: when the client is told to come back
    """

    def __init__(self, code: str, text: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.retry_after_seconds = retry_after_seconds


def invalid(text: str) -> Refusal:
    """Return the refusal of a request that no repetition will make right."""
    return Refusal("INVALID_ARGUMENT", text)


def not_found(text: str) -> Refusal:
    """Return the refusal of a request for what is not there."""
    return Refusal("NOT_FOUND", text)
