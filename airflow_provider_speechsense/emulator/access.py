"""Who may call what: API keys, bearer tokens, and what each is good for."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_speechsense.emulator.refusal import Refusal
from airflow_provider_speechsense.emulator.settings import Access, EmulatorSettings


def admit(
    authorization: str | None, needed: Access, settings: EmulatorSettings, issued: Mapping[str, Access]
) -> None:
    """Check the credentials of a call.

    :param authorization: the header's value, ``Api-Key <secret>`` or ``Bearer <token>``
    :param issued: what tokens that the emulator gave out are good for
    :param needed: what the method asks for; of several any is enough, and nothing needs no credentials
    :raises Refusal: UNAUTHENTICATED or PERMISSION_DENIED
    """
    if not settings.security_enabled or not needed:
        return
    if not authorization:
        raise Refusal("UNAUTHENTICATED", "Authentication is required: the authorization header is missing")
    scheme, _, secret = authorization.partition(" ")
    bearer = {**settings.tokens, **issued}
    known: Mapping[str, Mapping[str, Access]] = {"api-key": settings.api_keys, "bearer": bearer}
    if scheme.lower() not in known:
        raise Refusal("UNAUTHENTICATED", "The authorization header has neither the scheme Api-Key nor Bearer")
    granted = known[scheme.lower()].get(secret.strip())
    if granted is None:
        fault = "Unknown api key" if scheme.lower() == "api-key" else "The token is invalid or has expired"
        raise Refusal("UNAUTHENTICATED", fault)
    if not granted & needed:
        raise Refusal("PERMISSION_DENIED", "Permission denied: the role for this method is missing")


def redact(name: str, value: str | bytes) -> str:
    """Return a header's value for records and logs, of credentials only their kind."""
    text = value if isinstance(value, str) else value.hex()
    if name != "authorization":
        return text
    scheme, space, _ = text.partition(" ")
    return f"{scheme} ***" if space else "***"
