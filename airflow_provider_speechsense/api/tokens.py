"""Credentials that are exchanged for IAM tokens: an authorized key, or the virtual machine that we run on.

Tokens are short-lived, so here is also when the next is due. Who shares a process and a key shares a token.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import astuple, dataclass, field, replace
from typing import Any

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.api.auth import NoCredentials
from airflow_provider_speechsense.api.authorized_key import parse_key
from airflow_provider_speechsense.api.calls import Caller
from airflow_provider_speechsense.api.redaction import redact
from airflow_provider_speechsense.api.retry import ONE_ATTEMPT, RetryPolicy
from airflow_provider_speechsense.api.transport import Channels, Tls, check_endpoint, is_loopback
from airflow_provider_speechsense.exceptions import (
    AuthenticationError,
    ConfigurationError,
    Facts,
    ServiceUnavailableError,
    SpeechSenseError,
)

log = logging.getLogger(__name__)

DEFAULT_IAM_ENDPOINT = "iam.api.cloud.yandex.net:443"
DEFAULT_METADATA_ADDRESS = "169.254.169.254"

#: The vendor advises to ask hourly, though a token lives up to 12 hours: an outage finds one with hours left.
_RENEW_AFTER = 3600.0
#: No token is used up to its last moment: clocks differ, and the next may take some tries. But a tenth of its
#: life is enough, or tokens that live for minutes would be asked for all the time.
_MARGIN, _MARGIN_SHARE = 300.0, 0.1
#: Pause after a failure to renew a token that is still good: calls must not line up for a dead service.
_RENEW_AGAIN_AFTER = 60.0
#: Waiting out an hour's quota, as uploads may, would hold up every thread.
_PATIENT = RetryPolicy(max_quota_wait=120.0)

_TLS = Tls()
#: Seconds for one exchange: it is small, and calls wait for it.
_EXCHANGE_TIMEOUT = 10.0
#: The longest that the token service takes.
_JWT_LIFE = 3600
#: It may not be of the future by the service's clock, which may be behind ours.
_JWT_BACKDATED = 60

_METADATA_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"
#: It answers from the same machine, within milliseconds.
_METADATA_TIMEOUT, _METADATA_TRIES, _METADATA_PAUSE = 1.0, 3, 0.5

#: What a header can carry.
_SENDABLE = re.compile(r"[!-~]+")
#: By these the token service has looked at the key, and says no.
_REFUSALS = frozenset(
    {"UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION"}
)


@dataclass(frozen=True)
class _Token:
    """An IAM token; times are in seconds since 1970."""

    value: str = field(repr=False)
    expires_at: float
    renew_at: float


def _token(value: object, life: float, now: float) -> _Token | None:
    """Return the token of an answer, None if it has none that can be sent; ``life`` is in seconds."""
    if not isinstance(value, str) or not _SENDABLE.fullmatch(value):
        return None
    margin = min(_MARGIN, life * _MARGIN_SHARE)
    return _Token(value, expires_at=now + life, renew_at=now + min(_RENEW_AFTER, life - margin))


@dataclass
class _Slot:
    """Where the threads of a process share the token of one identity. Who replaces it holds the lock."""

    # Reentrant: a signal's handler may call the service while the same thread is in here.
    lock: threading.RLock = field(default_factory=threading.RLock)
    token: _Token | None = None
    #: Why the last try to get a first token failed.
    failure: SpeechSenseError | None = None

    def usable(self, now: float, refused: str | None) -> _Token | None:
        token = self.token
        return token if token and now < token.expires_at and token.value != refused else None


#: By process: a lock that another thread held during a fork would never open in the child.
_slots: dict[tuple[int, str], _Slot] = {}


class _Exchanged(ABC):
    """Credentials of which the service sees only tokens made from them.

    :param who: they are, for people
    :param identity: all that decides whose token it is; only a digest of it is kept
    """

    # Here too, because a crash may show an object that is not made yet.
    _who = ""

    def __init__(
        self,
        who: str,
        identity: object,
        retry: RetryPolicy,
        now: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._who = who
        self._identity = hashlib.sha256(repr((type(self).__name__, identity)).encode()).hexdigest()
        self._retry = retry
        self._now = now
        self._sleep = sleep
        # renew() is not told what was refused: it is what the same thread was given last.
        self._given = threading.local()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._who})"

    def authorization(self) -> str:
        """Return the header's value, with a token that is still good; ask for the next when it is due.

        :raises SpeechSenseError: there is none, and none could be had
        """
        token = self._current()
        self._given.value = token.value
        return f"Bearer {token.value}"

    def renew(self) -> bool:
        """Replace the token that this thread was given, unless another thread already has.

        :return: False if the token service gave out the refused one again
        :raises SpeechSenseError: none could be had
        """
        refused = getattr(self._given, "value", None)
        return self._current(refused).value != refused

    def has_secret(self) -> bool:
        """Return True."""
        return True

    def _current(self, refused: str | None = None) -> _Token:
        """Return a token other than ``refused``, if there is another."""
        slot = _slots.setdefault((os.getpid(), self._identity), _Slot())
        known = slot.failure
        held = slot.usable(self._now(), refused)
        if held and self._now() < held.renew_at:
            return held
        # As long as the token at hand is good, one thread gets the next and the others go on.
        if held is None:
            slot.lock.acquire()
        elif not slot.lock.acquire(blocking=False):
            return held
        try:
            held = slot.usable(self._now(), refused)
            failure = slot.failure
            if held is None and failure and failure is not known:
                # It failed while this thread stood in line, which need not wait as long once more.
                raise copy(failure)
            if held is None:
                slot.token = token = self._first(slot)
            elif self._now() >= held.renew_at:
                slot.token = token = self._renewed(held)
            else:
                token = held
            return token
        finally:
            slot.lock.release()

    def _first(self, slot: _Slot) -> _Token:
        """Return a token where there is none to go on with."""
        try:
            return self._obtain(self._retry)
        except SpeechSenseError as error:
            slot.failure = copy(error)
            raise

    def _renewed(self, held: _Token) -> _Token:
        """Return the next token, or ``held`` to be renewed later if none can be had now."""
        try:
            return self._obtain(ONE_ATTEMPT)
        except SpeechSenseError as error:
            minutes = (held.expires_at - self._now()) / 60
            log.warning("The IAM token, good for %.0f min more, could not be renewed yet: %s", minutes, error)
            return replace(held, renew_at=self._now() + _RENEW_AGAIN_AFTER)

    @abstractmethod
    def _obtain(self, retry: RetryPolicy) -> _Token:
        """Ask the token service."""


class ServiceAccountKey(_Exchanged):
    """The authorized key of a service account: for what is signed with it, the token service gives a token.

    :param key: the key file's JSON, as text or parsed
    :param iam_endpoint: ``host:port`` of the token service
    :param audience: whom the signed request names; by default the token service of the endpoint's region
    :param tls: how to encrypt; None for plain text, which goes to this machine only
    :param retry: how often and how long to try, when there is no token to go on with
    :param called: the connection's field that ``key`` is from, for messages
    :param now: seconds since 1970
    :raises ConfigurationError: the key or the endpoint is not what it should be
    """

    def __init__(
        self,
        key: str | Mapping[str, Any],
        *,
        iam_endpoint: str = DEFAULT_IAM_ENDPOINT,
        audience: str | None = None,
        tls: Tls | None = _TLS,
        retry: RetryPolicy = _PATIENT,
        called: str = "service_account_json",
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parsed = parse_key(key)
        # A crash's locals must not show it.
        del key
        if isinstance(parsed, str):
            raise ConfigurationError(
                f"{called} in the connection holds no authorized key: {parsed}.",
                hint="make one with 'yc iam key create --service-account-name NAME --output key.json', and "
                "put all of that file into service_account_json or its path into service_account_json_path.",
            )
        self._key = parsed
        self._endpoint = check_endpoint(iam_endpoint, "iam_endpoint")
        self._audience = audience or audience_of(self._endpoint)
        self._tls = tls
        self._called = called
        # Its modulus is no secret, yet only who has the whole key can come with it.
        whose = (parsed.id, parsed.service_account_id, parsed.private.public_key().public_numbers().n)
        where = (self._endpoint, self._audience, tls and astuple(tls))
        who = f"key {parsed.id} of service account {parsed.service_account_id}"
        super().__init__(who, (whose, where), retry, now, sleep)

    def _obtain(self, retry: RetryPolicy) -> _Token:
        try:
            token = self._exchange(retry)
        except SpeechSenseError as error:
            failed = self._explained(error)
        else:
            if token:
                return token
            failed = ServiceUnavailableError(
                "The token service answered without a token that can be used.",
                endpoint=self._endpoint,
                hint="check iam_endpoint in the connection, and try again later.",
            )
        # Raised out here it does not take along the frames below, whose locals hold the signed request.
        raise failed

    def _exchange(self, retry: RetryPolicy) -> _Token | None:
        request = protos.iam.CreateIamTokenRequest(jwt=self._signed())
        # Not kept: the next exchange is an hour away.
        channels = Channels(self._tls, has_secret=True)
        caller = Caller(channels, NoCredentials(), retry, self._sleep)
        name, endpoint = "IamTokenService/Create", self._endpoint
        try:
            answer = caller.unary(name, request, endpoint=endpoint, timeout=_EXCHANGE_TIMEOUT)
        finally:
            channels.close()
        now = self._now()
        return _token(answer.iam_token, answer.expires_at.seconds - now, now)

    def _signed(self) -> str:
        """Return a request for a token, as a JWT."""
        import jwt

        issued = int(self._now()) - _JWT_BACKDATED
        claims = {
            "iss": self._key.service_account_id,
            "aud": self._audience,
            "iat": issued,
            "exp": issued + _JWT_LIFE,
        }
        return jwt.encode(claims, self._key.private, algorithm="PS256", headers={"kid": self._key.id})

    def _explained(self, error: SpeechSenseError) -> SpeechSenseError:
        """Return the error anew, as one of the token service and of this key."""
        # Without ``code``: who reads that takes it for the status of the call that the token is for.
        facts = Facts(
            method=error.method,
            endpoint=error.endpoint,
            request_id=error.request_id,
            server_request_id=error.server_request_id,
            hint=error.hint,
        )
        status = f" ({error.code})" if error.code else ""
        # Servers quote what they refuse.
        what = redact(re.sub("^SpeechSense ", "the token service ", error.message))
        text = f"No IAM token for {self._who}{status}: {what}"
        if error.code in _REFUSALS:
            facts["hint"] = (
                "see that the key and its service account still exist and that this machine's clock is "
                f"right; else make a new authorized key and replace the one in {self._called}."
            )
            return AuthenticationError(text, **facts)
        if error.code == "UNIMPLEMENTED" or not isinstance(error, ConfigurationError):
            facts["hint"] = "check iam_endpoint in the connection and the network to it, and try again later."
        return type(error)(text, **facts)


class ComputeMetadata(_Exchanged):
    """The service account of the virtual machine that we run on; its metadata service gives out the tokens.

    :param address: ``host`` or ``host:port`` of that service; default: ``YC_METADATA_ADDR`` of the
        environment, then the cloud's own
    :param retry: how often to try, at most, when there is no token to go on with
    :param now: seconds since 1970
    :raises ConfigurationError: the address is none
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        retry: RetryPolicy = _PATIENT,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        address = (address or os.environ.get("YC_METADATA_ADDR") or DEFAULT_METADATA_ADDRESS).strip()
        self._address = check_endpoint(address if ":" in address else f"{address}:80", "YC_METADATA_ADDR")
        super().__init__(self._address, self._address, retry, now, sleep)

    def _obtain(self, retry: RetryPolicy) -> _Token:
        outcome = self._ask()
        for _ in range(min(retry.attempts, _METADATA_TRIES) - 1):
            if isinstance(outcome, _Token):
                break
            self._sleep(_METADATA_PAUSE)
            outcome = self._ask()
        if isinstance(outcome, SpeechSenseError):
            raise outcome
        return outcome

    def _ask(self) -> _Token | SpeechSenseError:
        # By neither a proxy of the environment nor a redirection: it is on this machine or nowhere.
        connection = http.client.HTTPConnection(self._address, timeout=_METADATA_TIMEOUT)
        try:
            connection.request("GET", _METADATA_PATH, headers={"Metadata-Flavor": "Google"})
            response = connection.getresponse()
            status, body = response.status, response.read(65_536)
        except (OSError, ValueError, http.client.HTTPException) as error:
            return self._not_here(f"does not answer ({type(error).__name__})")
        finally:
            connection.close()
        if status == 429 or status >= 500:
            return ServiceUnavailableError(
                f"The metadata service at {self._address} is out of order (HTTP status {status}).",
                hint="try again later.",
            )
        token = None
        # Whatever else it answers is no token.
        with suppress(Exception):
            answer = json.loads(body)
            token = _token(answer["access_token"], float(answer["expires_in"]), self._now())
        return token or self._not_here(f"gives no token (HTTP status {status})")

    def _not_here(self, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"The metadata service at {self._address} {what}: this is no virtual machine of Yandex Cloud "
            "with a service account.",
            hint="run on one and attach a service account to it; or set auth_type in the connection to "
            "service_account or api_key.",
        )


def audience_of(iam_endpoint: str) -> str:
    """Return the address that a signed request for tokens of this endpoint must name."""
    # What this machine serves stands for the cloud: an emulator, or a tunnel.
    if is_loopback(iam_endpoint):
        iam_endpoint = DEFAULT_IAM_ENDPOINT
    return f"https://{iam_endpoint.rpartition(':')[0]}/iam/v1/tokens"
