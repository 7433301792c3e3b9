"""What can be set about the emulator: limits, access, pace, and every undocumented behaviour as a switch."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Flag, auto
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from airflow_provider_speechsense.api.models import Algorithm
from airflow_provider_speechsense.emulator.connections import Connection

#: Accepted unless others are set, so that a first try needs no configuration.
DEFAULT_API_KEY = "emulator-key"


class Access(Flag):
    """What a key or token may do."""

    READ = auto()
    UPLOAD = auto()
    FULL = READ | UPLOAD


@dataclass(frozen=True, kw_only=True)
class EmulatorSettings:
    """How the emulator serves and behaves. Durations are in seconds.

    What the service documents is the default; where it is silent, the default is said at the switch.

    :param host: address to listen on
    :param port: 0 picks a free one
    :param tls_cert: PEM file; with ``tls_key`` the port speaks TLS, else plain text
    :param client_ca: PEM file; with it, clients must show a certificate of this CA
    :param threads: calls served at a time; a stalled call holds one
    :param clock: seconds since 1970, for everything that takes its time; tests give a ``ManualClock``
    :param keep_calls: so many of the last calls are kept for ``Emulator.calls``

    :param security_enabled: False takes any or no credentials, like Hybrid with its security off
    :param api_keys: what each API key may do
    :param tokens: what each bearer token may do
    :param authorized_keys: service account and public key (PEM) by key id, of which tokens are given out
    :param iam_token_seconds: how long a token that was given out is good
    :param subject_id: who ``created_by`` names
    :param organization_id: of all talks; empty accepts whatever a request names; so do the next two
    :param space_id: of all talks
    :param project_id: of all talks

    :param connections: connections by id that are enforced; any other id is taken as it comes
    :param classifiers: words and phrases by the name of the tag they set on chats

    :param max_message_bytes: of one request
    :param max_audio_seconds: of one recording, at most the service's 4 hours
    :param max_stream_bytes: of one streamed recording; the service documents none
    :param max_value_bytes: of one metadata value, in UTF-8
    :param max_keys: of one talk's metadata
    :param max_get_ids: more ids in one Get are answered like an answer that got too large
    :param max_search_results: of one query, over all pages
    :param drain_refused_bytes: so much of a refused stream is read before the refusal is sent. In one process
        with a client that has gRPC's own retries on, an abort before that can crash grpcio

    :param get_quota: (seconds, limit) of each window, per project; empty switches quotas off
    :param quota_unit: whether one Get spends 1, or 1 for each id

    :param queue_seconds: a talk is not started for so long
    :param processing_seconds: then its algorithms take so long together, in equal parts
    :param algorithm_seconds: algorithms that take another time
    :param badge_seconds: UploadBadge's operation takes so long
    :param badge_pause_seconds: a badge recording is cut where nobody speaks for so long
    :param get_visibility_delay: a new talk is unknown to Get for so long
    :param search_visibility_delay: a new talk is not found by Search for so long
    """

    host: str = "127.0.0.1"
    port: int = 0
    tls_cert: Path | str | None = None
    tls_key: Path | str | None = None
    client_ca: Path | str | None = None
    threads: int = 64
    clock: Callable[[], float] = time.time
    keep_calls: int = 10_000

    security_enabled: bool = True
    api_keys: Mapping[str, Access] = field(default_factory=lambda: {DEFAULT_API_KEY: Access.FULL})
    tokens: Mapping[str, Access] = field(default_factory=dict)
    authorized_keys: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    iam_token_seconds: float = 43_200.0
    subject_id: str = "aje0000000000000emul"
    organization_id: str = ""
    space_id: str = ""
    project_id: str = ""

    connections: Mapping[str, Connection] = field(default_factory=dict)
    classifiers: Mapping[str, Sequence[str]] = field(default_factory=dict)

    max_message_bytes: int = 134_217_728
    max_audio_seconds: float = 4 * 3600.0
    max_stream_bytes: int | None = None
    max_value_bytes: int = 1024
    max_keys: int = 200
    max_get_ids: int = 100
    max_search_results: int = 10_000
    drain_refused_bytes: int = 4 * 1024 * 1024

    get_quota: Sequence[tuple[float, int]] = ((1, 20), (60, 200), (3600, 2_000), (86_400, 20_000))
    quota_unit: Literal["request", "dialog"] = "request"

    queue_seconds: float = 0.2
    processing_seconds: float = 1.8
    algorithm_seconds: Mapping[Algorithm, float] = field(default_factory=dict)
    badge_seconds: float = 2.0
    badge_pause_seconds: float = 3.0
    get_visibility_delay: float = 0.0
    search_visibility_delay: float = 0.0

    #: Status of a Get with too many ids. That the text is "message exceeds maximum size" is documented.
    oversize_get_code: str = "RESOURCE_EXHAUSTED"
    #: What a mask that is there, but has no paths, asks for.
    empty_mask_returns: Literal["base", "everything"] = "base"
    #: What a request without a mask asks for.
    unset_mask_returns: Literal["base", "everything"] = "everything"
    #: Whether talk_state comes back even if the mask leaves it out.
    talk_state_without_mask: bool = False
    #: A Get of ids none of which is known, or visible yet.
    unknown_talk_id: Literal["omit", "not_found"] = "omit"
    #: A Get of known and unknown ids together.
    mixed_talk_ids: Literal["omit", "not_found"] = "omit"
    #: Whether one failed algorithm makes the whole talk FAILED, at once and with the rest not started.
    failed_algorithm_fails_talk: bool = True
    #: After so long a FAILED talk is analysed again, this time with success; None leaves it FAILED.
    failed_recovers_after: float | None = None
    #: A first upload whose client chose the talk_id itself.
    client_talk_id: Literal["ignored", "refused"] = "ignored"
    #: Whether an upload without a key that the connection requires is refused.
    missing_keys_refused: bool = True
    #: Whether keys that the connection does not declare are taken, and dropped, or refused.
    unknown_keys_accepted: bool = True
    #: Whether a value that is not of its key's declared type is refused.
    ill_typed_values_refused: bool = True
    #: Whether ids in TalkMetadata.users may send chat messages, next to operator_id, client_id and bot_id.
    users_may_send: bool = False
    #: What a date without an offset is.
    naive_dates: Literal["utc", "refused"] = "utc"
    #: The number of the first channel in Query.channel_number.
    query_channel_base: Literal[0, 1] = 0
    #: Whether filters may say "user." for "userMeta.", as a comment of the API does.
    user_prefix_accepted: bool = False
    #: Whether talks_count stops at max_search_results.
    talks_count_capped: bool = False
    #: Whether the talks of a badge are already analysed when its operation is done.
    badge_talks_analysed_when_done: bool = False
    #: Whether operations are served on the main port; else on one of their own, ``operation_address``.
    operations_on_service_endpoint: bool = True

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for each in dataclasses.fields(self):
            allowed = get_args(hints[each.name])
            value = getattr(self, each.name)
            if get_origin(hints[each.name]) is Literal and value not in allowed:
                raise ValueError(f"{each.name} is {value!r}; allowed are {', '.join(map(repr, allowed))}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together")
        if self.client_ca is not None and self.tls_cert is None:
            raise ValueError("client_ca needs tls_cert and tls_key")
