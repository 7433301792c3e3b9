"""Everything that can go wrong, named by what the user must do about it.

Nothing here knows Airflow: operators turn these errors into Airflow's own, see ``boundary``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, TypedDict, Unpack

#: A chat of ten thousand messages may have ten thousand faults; an error's text is read by people.
_SHOWN = 50


class Facts(TypedDict, total=False):
    """What may be known about the failed call; see ``SpeechSenseError``."""

    method: str | None
    endpoint: str | None
    code: str | None
    request_id: str | None
    server_request_id: str | None
    hint: str | None
    retryable: bool | None


class SpeechSenseError(Exception):
    """Base of all errors of this package.

    Its text reads: what happened; in brackets the method, endpoint, status code and request id, as far as
    they are known; and what to do next.

    :param message: who is at fault and what happened
    :param method: ``Service/Method`` of the RPC
    :param endpoint: ``host:port`` it was sent to
    :param code: gRPC status name, such as ``UNAVAILABLE``
    :param request_id: the id this package gave the request; quote it to the vendor's support
    :param server_request_id: the id the service gave it
    :param hint: what to do next; a class has a default
    :param retryable: whether the same call may succeed later; a class has a default
    """

    default_retryable: ClassVar[bool] = False
    default_hint: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        method: str | None = None,
        endpoint: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
        server_request_id: str | None = None,
        hint: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.method = method
        self.endpoint = endpoint
        self.code = code
        self.request_id = request_id
        self.server_request_id = server_request_id
        self.hint = hint or self.default_hint
        self.retryable = self.default_retryable if retryable is None else retryable

    def __str__(self) -> str:
        call = " on ".join(part for part in (self.method, self.endpoint) if part)
        ids = (("request id", self.request_id), ("server request id", self.server_request_id))
        named = [f"{label} {value}" for label, value in ids if value]
        facts = ", ".join(part for part in (call, self.code, *named) if part)
        text = f"{self.message} ({facts})" if facts else self.message
        if not self.hint:
            return text
        end = "" if text.endswith((".", "?", "!")) else "."
        return f"{text}{end} What to do: {self.hint}"

    def __reduce__(self) -> tuple[object, ...]:
        # The default rebuilds from the positional arguments alone and loses the rest.
        return _rebuild, (type(self), self.__dict__)


def listing(subject: str, violations: Sequence[str]) -> str:
    """Return the text that lists the faults found in ``subject`` before anything was sent."""
    shown = [f"\n  - {violation}" for violation in violations[:_SHOWN]]
    if len(violations) > _SHOWN:
        shown.append(f"\n  - and {len(violations) - _SHOWN} more.")
    plural = "s" if len(violations) > 1 else ""
    return f"{subject}: {len(violations)} fault{plural}, nothing was sent:{''.join(shown)}"


def _rebuild(cls: type[SpeechSenseError], state: dict[str, object]) -> SpeechSenseError:
    error = cls.__new__(cls)
    Exception.__init__(error, state["message"])
    error.__dict__.update(state)
    return error


class _ViolationsError(SpeechSenseError):
    """An input with several faults, all of them listed.

    :param violations: one sentence for each fault
    """

    subject: ClassVar[str]

    def __init__(self, violations: Sequence[str]) -> None:
        super().__init__(listing(self.subject, violations))
        self.violations = tuple(violations)


class ConfigurationError(SpeechSenseError):
    """The connection or an argument is wrong: correct it."""


class AuthenticationError(SpeechSenseError):
    """The service does not accept the credentials: renew or replace them."""

    default_hint = (
        "check the secret and auth_type of the connection, and that the key is neither deleted nor expired."
    )


class PermissionDeniedError(SpeechSenseError):
    """The credentials are good, but lack a role: have it granted."""

    default_hint = (
        "add the service account to the space in SpeechSense, with the role speech-sense.data.editor to "
        "upload or speech-sense.data.viewer to read; an API key also needs the scope yc.speech-sense.use."
    )


class InvalidMetadataError(_ViolationsError):
    """The talk's metadata is refused; ``violations`` has every fault."""

    subject = "Talk metadata"


class InvalidChatError(_ViolationsError):
    """The chat's messages are refused; ``violations`` has every fault."""

    subject = "Chat"


class InvalidRequestError(SpeechSenseError):
    """What was asked is wrong, by our own check or by the service's: correct the arguments.

    :param violations: one sentence for each fault, as far as they are told apart
    """

    default_hint = "compare the arguments with what the connection and project in SpeechSense declare."

    def __init__(self, message: str, *, violations: Sequence[str] = (), **facts: Unpack[Facts]) -> None:
        super().__init__(message, **facts)
        self.violations = tuple(violations)


class UnsupportedAudioError(SpeechSenseError):
    """The audio is not in a form that the service takes: convert it."""

    default_hint = (
        "send WAV with 16-bit PCM at 8-48 kHz, MP3, OggOpus, or headerless 16-bit PCM with its audio_format."
    )


class SourceReadError(SpeechSenseError):
    """The recording, metadata or chat file cannot be read: check the path and the rights to it."""

    default_retryable = True


class NotFoundError(SpeechSenseError):
    """What was asked for does not exist, or not yet.

    :param ids: the ids that were not found
    """

    default_hint = "check the ids, and that the talks belong to the space and project of the connection."

    def __init__(self, message: str, *, ids: Sequence[str] = (), **facts: Unpack[Facts]) -> None:
        super().__init__(message, **facts)
        self.ids = tuple(ids)


class QuotaExceededError(SpeechSenseError):
    """The service's quota is spent: wait, or ask for more."""

    default_retryable = True
    default_hint = (
        "poll less often, or ask the vendor for a larger quota; people in the console spend the same quota."
    )


class MessageTooLargeError(SpeechSenseError):
    """One message is over the limit: send or ask for less at a time."""

    default_hint = "use SpeechSenseStreamOperator for large recordings, and a results mask for large talks."


class ServiceUnavailableError(SpeechSenseError):
    """The service did not answer, or answered that it is out of order: try again later."""

    default_retryable = True
    default_hint = "check host, port and TLS of the connection; if they are right, try again later."


class DeadlineExceededError(SpeechSenseError):
    """No answer came in the time allowed: try again, or allow more."""

    default_retryable = True


class TalkFailedError(SpeechSenseError):
    """SpeechSense could not analyse talks.

    :param reasons: why, by talk id
    """

    default_hint = "look at the recordings named; a talk that failed is not analysed again by itself."

    def __init__(self, message: str, *, reasons: Mapping[str, str]) -> None:
        super().__init__(message)
        self.reasons = dict(reasons)


class OperationFailedError(SpeechSenseError):
    """A long-running operation ended with an error.

    :param operation_id: which one
    """

    def __init__(self, message: str, *, operation_id: str, **facts: Unpack[Facts]) -> None:
        super().__init__(message, **facts)
        self.operation_id = operation_id


class UnknownUploadOutcomeError(SpeechSenseError):
    """The connection broke when the service may already have had the upload: look before uploading again.

    It is not retryable, because a second upload is a second talk.
    """

    default_hint = (
        "search for the talk by a metadata value that only it has, and upload again if it is not there; "
        "a talk may take a while to be found."
    )


class LedgerReadError(SpeechSenseError):
    """The upload ledger cannot be read, so nobody can say what was already sent."""

    default_retryable = True
