"""Tokens are had for keys, shared, renewed in time and after a refusal; and nobody ever sees a secret."""

from __future__ import annotations

import contextlib
import http.server
import json
import logging
import os
import pickle
import socket
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from airflow_provider_speechsense.api import ApiKey, Tls, protos, tokens
from airflow_provider_speechsense.api.redaction import redact
from airflow_provider_speechsense.api.retry import ONE_ATTEMPT
from airflow_provider_speechsense.api.tokens import ComputeMetadata, ServiceAccountKey, audience_of
from airflow_provider_speechsense.emulator import EmulatorSettings, ManualClock
from airflow_provider_speechsense.emulator.faults import Script
from airflow_provider_speechsense.emulator.iam import IamTokenService, IssuedTokens
from airflow_provider_speechsense.emulator.refusal import Refusal
from airflow_provider_speechsense.emulator.services import World
from airflow_provider_speechsense.emulator.store import Store
from airflow_provider_speechsense.exceptions import (
    AuthenticationError,
    ConfigurationError,
    DeadlineExceededError,
    QuotaExceededError,
    ServiceUnavailableError,
    SpeechSenseError,
)
from tests.api.conftest import Connect, StartServer
from tests.api.support import Authority, Behaviour, TinyServer, abort

MINUTE, HOUR = 60.0, 3600.0
ACCOUNT, KEY_ID = "aje0000000000000acct", "aje00000000000000key"
CREATE, SEARCH = "IamTokenService/Create", "TalkService/Search"
WARNING = f"PLEASE DO NOT REMOVE THIS LINE! Yandex.Cloud SA Key ID <{KEY_ID}>\n"
#: More than any of this takes, less than anybody would wait for.
SOON = 20.0

KeyFile = dict[str, Any]


def pem_of(key: Any, *, password: bytes | None = None, classic: bool = False) -> str:
    kind = serialization.PrivateFormat.TraditionalOpenSSL if classic else serialization.PrivateFormat.PKCS8
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, kind, lock).decode()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def key_file(private_key: rsa.RSAPrivateKey) -> KeyFile:
    return {
        "id": KEY_ID,
        "service_account_id": ACCOUNT,
        "created_at": "2025-06-01T00:00:00Z",
        "key_algorithm": "RSA_2048",
        "public_key": "-----BEGIN PUBLIC KEY-----\n",
        "private_key": WARNING + pem_of(private_key),
    }


@pytest.fixture(autouse=True)
def _no_token_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_slots", {})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


# --- servers


@dataclass
class Iam:
    """A token service, and a service that takes its tokens."""

    service: IamTokenService
    tokens: IssuedTokens
    server: TinyServer = field(default_factory=TinyServer)
    #: What happens instead, to one exchange after another.
    instead: list[Behaviour] = field(default_factory=list)
    signed: list[str] = field(default_factory=list)

    def create(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.signed.append(request.jwt)
        behave = self.instead.pop(0) if self.instead else self.answer
        return behave(request, context)

    def answer(self, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return self.service.create(request, None)  # type: ignore[arg-type]
        except Refusal as refusal:
            context.abort(grpc.StatusCode[refusal.code], refusal.text)

    def search(self, request: Any, context: grpc.ServicerContext) -> Any:
        authorization = dict(context.invocation_metadata()).get("authorization", "")
        if str(authorization).removeprefix("Bearer ") not in self.tokens:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "The token is invalid or has expired")
        return protos.speechsense.SearchTalkResponse(talks_count=7)

    @property
    def exchanges(self) -> int:
        return len(self.signed)


StartIam = Callable[..., Iam]


@pytest.fixture
def start_iam(
    start_server: StartServer,
    open_until_the_end: contextlib.ExitStack,
    clock: ManualClock,
    private_key: rsa.RSAPrivateKey,
) -> StartIam:
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    public = private_key.public_key().public_bytes(serialization.Encoding.PEM, kind).decode()

    def start(
        life: float = 12 * HOUR, credentials: grpc.ServerCredentials | None = None, **options: Any
    ) -> Iam:
        store = Store()
        open_until_the_end.callback(store.close)
        settings = EmulatorSettings(clock=clock, authorized_keys={KEY_ID: (ACCOUNT, public)})
        issued = IssuedTokens(clock, life)
        world = World(settings, store, Script())
        iam = Iam(IamTokenService(world, issued, **options), issued)
        iam.server = start_server({CREATE: iam.create, SEARCH: iam.search}, credentials)
        return iam

    return start


@pytest.fixture
def iam(start_iam: StartIam) -> Iam:
    return start_iam()


Account = Callable[..., ServiceAccountKey]


@pytest.fixture
def account(iam: Iam, key_file: KeyFile, clock: ManualClock, pauses: list[float]) -> Account:
    """Make credentials for the token service, in plain text."""

    def make(key: Any = None, **changes: Any) -> ServiceAccountKey:
        usual = {"iam_endpoint": iam.server.address, "tls": None, "now": clock, "sleep": pauses.append}
        return ServiceAccountKey(key or key_file, **(usual | changes))

    return make


@dataclass
class Metadata:
    """A virtual machine's metadata service.

    :param answers: status and body, one after another; the last stays
    """

    address: str = ""
    answers: list[tuple[int, Any]] = field(default_factory=list)
    requests: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)


def metadata_token(value: str = "t1.vm.first", expires_in: Any = 39_944) -> tuple[int, Any]:
    return 200, {"access_token": value, "expires_in": expires_in, "token_type": "Bearer"}


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    serving = Metadata(answers=[metadata_token()])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            serving.requests.append((self.path, dict(self.headers)))
            many = len(serving.answers) > 1
            status, body = serving.answers.pop(0) if many else serving.answers[0]
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"http://{serving.address}/elsewhere")
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        def log_message(self, format: str, *args: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    serving.address = f"127.0.0.1:{server.server_port}"
    yield serving
    server.shutdown()
    server.server_close()
    thread.join(SOON)


Machine = Callable[..., ComputeMetadata]


@pytest.fixture
def machine(metadata: Metadata, clock: ManualClock, pauses: list[float]) -> Machine:
    def make(address: str | None = metadata.address, **changes: Any) -> ComputeMetadata:
        usual: dict[str, Any] = {"now": clock, "sleep": pauses.append}
        return ComputeMetadata(address, **(usual | changes))

    return make


# --- secrets


def everything_told(error: BaseException | None) -> str:
    """Return what an error may show in a log or crash report, locals of this package's frames included."""
    told = ""
    while error:
        told += f"{error} {error!r} {vars(error)} {''.join(traceback.format_exception(error))}"
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if "airflow_provider_speechsense" in frame.f_code.co_filename:
                told += "".join(f"{name}={value!r}\n" for name, value in frame.f_locals.items())
        error = error.__cause__ or error.__context__
    return told


def assert_tells_no_secret(told: str, *secrets: str) -> None:
    assert told
    for secret in secrets:
        for line in secret.splitlines():
            assert line not in told or len(line) < 20 or line.startswith(("-----", "PLEASE"))
            assert repr(line)[1:-1] not in told or len(line) < 20 or line.startswith(("-----", "PLEASE"))


def why_not(credentials: ServiceAccountKey | ComputeMetadata, *secrets: str) -> SpeechSenseError:
    """Return the error of credentials that cannot authorize."""
    with pytest.raises(SpeechSenseError) as caught:
        credentials.authorization()
    assert_tells_no_secret(everything_told(caught.value), *secrets)
    return caught.value


# --- exchanging a key


def test_a_key_is_exchanged_for_a_token_that_the_service_takes(
    account: Account, iam: Iam, connect: Connect
) -> None:
    assert connect(iam.server, credentials=account()).count() == 7
    assert [call.method for call in iam.server.calls] == [CREATE, SEARCH]


def test_the_exchange_carries_no_authorization_of_its_own_and_has_a_deadline(
    account: Account, iam: Iam
) -> None:
    account().authorization()
    (call,) = iam.server.calls
    assert "authorization" not in call.headers
    assert call.seconds_left is not None
    assert 0 < call.seconds_left < 11


def test_what_is_signed_is_what_the_vendor_documents(account: Account, iam: Iam, clock: ManualClock) -> None:
    account().authorization()
    (signed,) = iam.signed
    assert jwt.get_unverified_header(signed) == {"typ": "JWT", "alg": "PS256", "kid": KEY_ID}
    claims = jwt.decode(signed, options={"verify_signature": False})
    assert claims.keys() == {"iss", "aud", "iat", "exp"}
    assert claims["iss"] == ACCOUNT
    assert claims["aud"] == "https://iam.api.cloud.yandex.net/iam/v1/tokens"
    assert claims["iat"] <= clock() < claims["exp"] <= claims["iat"] + 3600


def test_a_clock_that_is_a_little_fast_does_no_harm(account: Account, iam: Iam, clock: ManualClock) -> None:
    assert account(now=lambda: clock() + 50).authorization()
    error = why_not(account(now=lambda: clock() + 12 * HOUR))
    assert "it is of the future" in str(error)
    assert "that this machine's clock is right" in str(error)


@pytest.mark.parametrize(
    ("endpoint", "audience"),
    [
        ("iam.api.cloud.yandex.net:443", "https://iam.api.cloud.yandex.net/iam/v1/tokens"),
        ("iam.api.yandexcloud.kz:443", "https://iam.api.yandexcloud.kz/iam/v1/tokens"),
        ("localhost:9000", "https://iam.api.cloud.yandex.net/iam/v1/tokens"),
    ],
)
def test_a_region_has_an_audience_of_its_own_and_this_machine_none(endpoint: str, audience: str) -> None:
    assert audience_of(endpoint) == audience


def test_another_audience_can_be_named(start_iam: StartIam, account: Account) -> None:
    iam = start_iam(audience="https://iam.example/tokens")
    credentials = account(iam_endpoint=iam.server.address, audience="https://iam.example/tokens")
    assert credentials.authorization().startswith("Bearer t1.")


def test_it_has_a_secret_and_an_address(account: Account, metadata: Metadata, machine: Machine) -> None:
    assert account().has_secret()
    assert machine().has_secret()
    with pytest.raises(ConfigurationError, match="iam_endpoint: 'iam' is not host:port"):
        account(iam_endpoint="iam")


def test_the_exchange_is_encrypted_like_everything(
    start_iam: StartIam, account: Account, authority: Authority
) -> None:
    own = authority.issue("localhost")
    iam = start_iam(credentials=grpc.ssl_server_credentials([(own.key, own.cert)]))
    endpoint = iam.server.address.replace("127.0.0.1", "localhost")
    trusting = account(iam_endpoint=endpoint, tls=Tls(ca_cert=authority.cert))
    assert trusting.authorization()
    error = why_not(account(iam_endpoint=endpoint, tls=Tls()))
    assert isinstance(error, ConfigurationError)
    assert "certificate is not trusted" in str(error)
    assert "as ca_cert" in str(error)
    assert iam.exchanges == 1


def test_no_signed_request_goes_to_another_host_in_plain_text(account: Account) -> None:
    error = why_not(account(iam_endpoint="iam.example:443"))
    assert isinstance(error, ConfigurationError)
    assert "would send the secret readably to iam.example:443; nothing was sent" in str(error)


# --- key files


def variants(key_file: KeyFile) -> dict[str, Any]:
    private = key_file["private_key"]
    return {
        "parsed": key_file,
        "text": json.dumps(key_file),
        "indented, with white space around": f"\n{json.dumps(key_file, indent=2)}\n",
        "with a byte order mark": "\ufeff" + json.dumps(key_file),
        "with real line breaks": json.dumps(key_file).replace("\\n", "\n"),
        "with line breaks escaped twice": json.dumps(key_file).replace("\\n", "\\\\n"),
        "with Windows line breaks": key_file | {"private_key": private.replace("\n", "\r\n")},
        "without the warning": key_file | {"private_key": private.removeprefix(WARNING)},
        "without what is not needed": {
            name: key_file[name] for name in ("id", "service_account_id", "private_key")
        },
        "with white space around ids": key_file | {"id": f" {KEY_ID}\n"},
    }


@pytest.mark.parametrize("how", variants({"private_key": ""} | dict.fromkeys(["id", "service_account_id"])))
def test_a_key_file_may_have_come_by_many_ways(account: Account, key_file: KeyFile, how: str) -> None:
    assert account(variants(key_file)[how]).authorization().startswith("Bearer t1.")


def test_a_key_in_the_older_pem_form_does_too(
    account: Account, key_file: KeyFile, private_key: rsa.RSAPrivateKey
) -> None:
    assert account(key_file | {"private_key": pem_of(private_key, classic=True)}).authorization()


def broken(key_file: KeyFile) -> dict[str, tuple[Any, str]]:
    private = key_file["private_key"]
    middle = len(private) // 2
    rsa_only = "private_key is damaged, or no RSA key of 2048 bits or more without a password"
    elliptic = pem_of(ec.generate_private_key(ec.SECP256R1()))
    return {
        "a path": ("/etc/key.json", "it is no JSON object"),
        "cut off": (json.dumps(key_file)[:-100], "it is no JSON object"),
        "a list": ("[]", "it is no JSON object"),
        "nested without end": ("[" * 100_000, "it is no JSON object"),
        "empty": (
            "{}",
            "id is missing or no id, and service_account_id is missing or no id, "
            "and private_key is missing or no whole PEM text",
        ),
        "without id": (key_file | {"id": ""}, "id is missing or no id"),
        "without account": (
            key_file | {"service_account_id": None},
            "service_account_id is missing or no id",
        ),
        "with fields exchanged": (
            key_file | {"id": private, "private_key": KEY_ID},
            "id is missing or no id, and private_key is missing",
        ),
        "without private key": (key_file | {"private_key": 1}, "private_key is missing or no whole PEM text"),
        "half a private key": (
            key_file | {"private_key": private[:middle]},
            "private_key is missing or no whole PEM text",
        ),
        "damaged": (key_file | {"private_key": private[:middle] + private[middle + 9 :]}, rsa_only),
        "elliptic": (key_file | {"private_key": elliptic}, rsa_only),
        "small": (key_file | {"private_key": pem_of(rsa.generate_private_key(65537, 1024))}, rsa_only),
        "locked": (key_file | {"private_key": pem_of(_a_key(private), password=b"open sesame")}, rsa_only),
    }


def _a_key(pem: str) -> Any:
    return serialization.load_pem_private_key(pem.removeprefix(WARNING).encode(), None)


BROKEN = [
    *("a path", "cut off", "a list", "nested without end", "empty", "without id", "without account"),
    *("with fields exchanged", "without private key", "half a private key", "damaged", "elliptic"),
    *("small", "locked"),
]


@pytest.mark.parametrize("how", BROKEN)
def test_a_faulty_key_file_is_told_by_field_and_remedy_and_never_shown(key_file: KeyFile, how: str) -> None:
    key, why = broken(key_file)[how]
    with pytest.raises(ConfigurationError) as caught:
        ServiceAccountKey(key, called="service_account_json_path")
    text = str(caught.value)
    assert text.startswith(f"service_account_json_path in the connection holds no authorized key: {why}")
    assert "What to do: make one with 'yc iam key create" in text
    assert_tells_no_secret(everything_told(caught.value), key_file["private_key"])


def test_every_fault_is_tested(key_file: KeyFile) -> None:
    assert [*broken(key_file)] == BROKEN


# --- one token for all


def test_a_token_is_shared_by_all_who_have_the_key(account: Account, iam: Iam) -> None:
    credentials = account()
    assert credentials.authorization() == credentials.authorization() == account().authorization()
    assert iam.exchanges == 1


@pytest.mark.parametrize("difference", ["key", "tls", "audience"])
def test_who_has_only_the_ids_of_a_key_or_asks_elsewhere_does_not_get_its_token(
    account: Account, iam: Iam, key_file: KeyFile, authority: Authority, difference: str
) -> None:
    account().authorization()
    others: dict[str, dict[str, Any]] = {
        "key": {"key": key_file | {"private_key": pem_of(rsa.generate_private_key(65537, 2048))}},
        "tls": {"tls": Tls(ca_cert=authority.cert)},
        "audience": {"audience": "https://iam.example/tokens"},
    }
    why_not(account(**others[difference], retry=ONE_ATTEMPT))


@pytest.fixture
def at_once(account: Account, clock: ManualClock) -> Callable[[], list[Any]]:
    """Have 16 threads ask for a token at the same time; return what they got, tokens or errors."""
    everybody = threading.Barrier(16)
    met = threading.local()

    def now() -> float:
        # Each looks at the clock before it asks for a token: nobody goes on before all have.
        if not hasattr(met, "once"):
            met.once = True
            everybody.wait(SOON)
        return clock()

    def ask(credentials: ServiceAccountKey) -> str | SpeechSenseError:
        try:
            return credentials.authorization()
        except SpeechSenseError as error:
            return error

    def ask_all() -> list[Any]:
        credentials = account(now=now)
        with ThreadPoolExecutor(16) as pool:
            return list(pool.map(ask, [credentials] * 16))

    return ask_all


def test_many_threads_at_once_make_one_exchange(at_once: Callable[[], list[Any]], iam: Iam) -> None:
    (token,) = {*at_once()}
    assert token.startswith("Bearer t1.")
    assert iam.exchanges == 1


def test_threads_that_stand_in_line_for_a_dead_service_learn_of_it_together(
    at_once: Callable[[], list[Any]], account: Account, iam: Iam
) -> None:
    iam.instead += [abort("UNAVAILABLE", "maintenance")] * 5
    errors = at_once()
    assert iam.exchanges == 5, "the tries of one thread"
    assert {type(error) for error in errors} == {ServiceUnavailableError}
    assert len({*map(str, errors)}) == 1
    assert len({*map(id, errors)}) == 16, "each raises its own"
    assert account().authorization().startswith("Bearer t1."), "who comes later asks anew"


def test_while_one_thread_gets_the_next_token_the_others_go_on_with_theirs(
    account: Account, iam: Iam, clock: ManualClock
) -> None:
    credentials = account()
    old = credentials.authorization()
    clock.advance(HOUR)
    asked, go_on = threading.Event(), threading.Event()

    def slowly(request: Any, context: grpc.ServicerContext) -> Any:
        asked.set()
        assert go_on.wait(SOON)
        return iam.answer(request, context)

    iam.instead.append(slowly)
    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(credentials.authorization)
        assert asked.wait(SOON)
        assert credentials.authorization() == old
        go_on.set()
        new = renewing.result(SOON)
    assert new != old
    assert credentials.authorization() == new


def test_a_forked_process_neither_waits_for_a_lock_of_its_parent_nor_shares_its_token(
    account: Account, iam: Iam, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = account()
    parents = credentials.authorization()
    (slot,) = tokens._slots.values()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with slot.lock:
            held.set()
            done.wait(SOON)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hold)
        assert held.wait(SOON)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        try:
            assert credentials.authorization() != parents
        finally:
            done.set()


# --- renewing in time


@pytest.mark.parametrize(("life", "renewed_after"), [(12 * HOUR, HOUR), (HOUR, 55 * MINUTE), (600, 540)])
def test_a_token_is_renewed_hourly_and_a_tenth_or_five_minutes_before_its_end(
    start_iam: StartIam, account: Account, clock: ManualClock, life: float, renewed_after: float
) -> None:
    iam = start_iam(life)
    credentials = account(iam_endpoint=iam.server.address)
    first = credentials.authorization()
    clock.advance(renewed_after - 1)
    assert credentials.authorization() == first
    clock.advance(1)
    assert credentials.authorization() != first
    assert iam.exchanges == 2


def test_a_token_is_used_while_it_is_good_though_it_cannot_be_renewed(
    account: Account, iam: Iam, clock: ManualClock, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    credentials = account()
    old = credentials.authorization()
    clock.advance(HOUR)
    iam.instead += [abort("UNAVAILABLE", "maintenance")] * 2
    assert [credentials.authorization() for _ in range(3)] == [old] * 3
    assert (iam.exchanges, pauses) == (2, []), "one try, without a pause"
    assert "The IAM token, good for 660 min more, could not be renewed yet" in caplog.text
    assert "maintenance" in caplog.text

    clock.advance(MINUTE)
    assert credentials.authorization() == old
    assert iam.exchanges == 3
    clock.advance(MINUTE)
    assert credentials.authorization() != old
    assert_tells_no_secret(caplog.text, old.removeprefix("Bearer "), *iam.signed)


def test_a_key_deleted_meanwhile_stops_nothing_before_the_token_ends(
    account: Account, iam: Iam, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = account()
    old = credentials.authorization()
    iam.instead += [abort("UNAUTHENTICATED", "key not found")] * 3
    clock.advance(11 * HOUR)
    assert credentials.authorization() == old
    assert "key not found" in caplog.text
    clock.advance(HOUR)
    assert isinstance(why_not(credentials, old), AuthenticationError)


# --- renewing after a refusal


def test_a_call_refused_for_its_token_is_made_again_with_a_new_one(
    account: Account, iam: Iam, connect: Connect, pauses: list[float]
) -> None:
    client = connect(iam.server, credentials=account())
    client.count()
    iam.tokens.revoke_all()
    assert client.count() == 7
    methods = [CREATE, SEARCH, SEARCH, CREATE, SEARCH]
    assert [call.method for call in iam.server.calls] == methods
    assert pauses == []


def test_a_refused_token_is_not_renewed_again_if_another_thread_did(account: Account, iam: Iam) -> None:
    credentials = account()
    with ThreadPoolExecutor(1) as another:
        old = credentials.authorization()
        assert another.submit(credentials.authorization).result(SOON) == old
        assert credentials.renew()
        new = credentials.authorization()
        assert new != old
        assert another.submit(credentials.renew).result(SOON)
        assert another.submit(credentials.authorization).result(SOON) == new
    assert iam.exchanges == 2


def test_a_thread_that_was_given_none_had_none_refused(account: Account, iam: Iam) -> None:
    credentials = account()
    given = credentials.authorization()
    with ThreadPoolExecutor(1) as another:
        assert another.submit(credentials.renew).result(SOON)
    assert credentials.authorization() == given
    assert iam.exchanges == 1


def test_if_the_token_service_gives_out_the_refused_token_again_there_is_no_other(
    account: Account, iam: Iam, connect: Connect
) -> None:
    same = protos.iam.CreateIamTokenResponse(iam_token="t1.same.again")
    same.expires_at.FromSeconds(2_000_000_000)
    iam.instead += [lambda request, context: same] * 3
    credentials = account()
    assert credentials.authorization() == "Bearer t1.same.again"
    assert not credentials.renew()
    with pytest.raises(AuthenticationError, match="SpeechSense does not accept the credentials"):
        connect(iam.server, credentials=credentials).count()


def test_a_refused_token_that_cannot_be_replaced_ends_in_the_reason(
    account: Account, iam: Iam, connect: Connect
) -> None:
    client = connect(iam.server, credentials=account(retry=ONE_ATTEMPT))
    client.count()
    iam.tokens.revoke_all()
    iam.instead.append(abort("UNAVAILABLE", "maintenance"))
    with pytest.raises(ServiceUnavailableError, match=r"No IAM token .*maintenance"):
        client.count()
    assert client.count() == 7


# --- when the token service fails


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL"])
def test_passing_errors_are_ridden_out(account: Account, iam: Iam, pauses: list[float], code: str) -> None:
    iam.instead += [abort(code)] * 4
    assert account().authorization()
    assert len(pauses) == 4


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("UNAVAILABLE", ServiceUnavailableError),
        ("INTERNAL", ServiceUnavailableError),
        ("DEADLINE_EXCEEDED", DeadlineExceededError),
        ("RESOURCE_EXHAUSTED", QuotaExceededError),
    ],
)
def test_passing_errors_that_stay_are_told_as_the_token_services(
    account: Account, iam: Iam, code: str, kind: type[SpeechSenseError]
) -> None:
    iam.instead += [abort(code, "no luck")] * 9
    error = why_not(account(), *iam.signed)
    assert type(error) is kind
    assert error.retryable
    assert error.code is None, "it is not the status of the call that the token was for"
    assert f"No IAM token for key {KEY_ID} of service account {ACCOUNT} ({code}): " in str(error)
    assert f"{CREATE} on {iam.server.address}, request id " in str(error)
    assert "check iam_endpoint in the connection" in str(error)


def test_an_endpoint_that_is_another_service_is_told(account: Account, start_server: StartServer) -> None:
    error = why_not(account(iam_endpoint=start_server({}).address))
    assert isinstance(error, ConfigurationError)
    assert "(UNIMPLEMENTED)" in str(error)
    assert "check iam_endpoint" in str(error)


def test_where_nobody_listens_the_network_is_named(account: Account, pauses: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"127.0.0.1:{listener.getsockname()[1]}"
    error = why_not(account(iam_endpoint=endpoint))
    assert isinstance(error, ServiceUnavailableError)
    assert f"No connection to {endpoint}" in str(error)
    assert len(pauses) == 4


@pytest.mark.parametrize(
    "code", ["UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION"]
)
def test_a_refused_key_is_named_with_the_remedy_and_not_tried_again(
    account: Account, iam: Iam, pauses: list[float], code: str
) -> None:
    iam.instead.append(abort(code, "the key is not known", x_request_id="r-1"))
    error = why_not(account(called="service_account_json_path"))
    assert isinstance(error, AuthenticationError)
    assert not error.retryable
    assert error.server_request_id == "r-1"
    assert f"key {KEY_ID} of service account {ACCOUNT} ({code}): the token service " in str(error)
    assert "the key is not known" in str(error)
    assert "make a new authorized key and replace the one in service_account_json_path" in str(error)
    assert (iam.exchanges, pauses) == (1, [])


@pytest.mark.parametrize("value", ["", "t1.two\nlines", "t1.two words", "t1.ключ"])
def test_an_answer_without_a_token_that_can_be_sent_is_none(account: Account, iam: Iam, value: str) -> None:
    answer = protos.iam.CreateIamTokenResponse(iam_token=value)
    iam.instead.append(lambda request, context: answer)
    error = why_not(account(), value)
    assert isinstance(error, ServiceUnavailableError)
    assert "answered without a token that can be used" in str(error)
    assert account().authorization().startswith("Bearer t1.")


def test_a_token_without_an_end_is_used_but_once(account: Account, iam: Iam) -> None:
    answer = protos.iam.CreateIamTokenResponse(iam_token="t1.a.b")
    iam.instead.append(lambda request, context: answer)
    credentials = account()
    assert credentials.authorization() == "Bearer t1.a.b"
    assert credentials.authorization() != "Bearer t1.a.b"


# --- the metadata service


def test_a_virtual_machines_token_is_asked_for_as_the_vendor_documents(
    machine: Machine, metadata: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert machine().authorization() == "Bearer t1.vm.first"
    ((path, headers),) = metadata.requests
    assert path == "/computeMetadata/v1/instance/service-accounts/default/token"
    assert headers["Metadata-Flavor"] == "Google"


def test_the_environment_may_name_the_metadata_services_address(
    machine: Machine, metadata: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert repr(machine(None)) == "ComputeMetadata(169.254.169.254:80)"
    monkeypatch.setenv("YC_METADATA_ADDR", metadata.address)
    assert machine(None).authorization() == "Bearer t1.vm.first"
    monkeypatch.setenv("YC_METADATA_ADDR", "http://169.254.169.254/")
    with pytest.raises(ConfigurationError, match=r"YC_METADATA_ADDR: 'http://169.254.169.254/' is not"):
        machine(None)


def test_a_virtual_machines_token_is_shared_and_renewed_like_any(
    machine: Machine, metadata: Metadata, clock: ManualClock
) -> None:
    metadata.answers = [metadata_token("t1.vm.1", "600"), metadata_token("t1.vm.2", 600.5)]
    assert machine().authorization() == machine().authorization() == "Bearer t1.vm.1"
    clock.advance(540)
    assert machine().authorization() == "Bearer t1.vm.2"
    assert len(metadata.requests) == 2
    credentials = machine()
    assert credentials.authorization()
    assert not credentials.renew(), "the metadata service keeps its token until it ends"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_metadata_service_out_of_order_is_tried_again_a_few_times(
    machine: Machine, metadata: Metadata, pauses: list[float], status: int
) -> None:
    metadata.answers = [(status, b""), (status, b""), metadata_token()]
    assert machine().authorization() == "Bearer t1.vm.first"
    assert pauses == [0.5, 0.5]

    metadata.answers = [(status, b"")]
    tokens._slots.clear()
    error = why_not(machine())
    assert isinstance(error, ServiceUnavailableError)
    assert f"out of order (HTTP status {status})" in str(error)
    assert len(pauses) == 4


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"no service account"),
        (302, b""),
        (200, b"<html>t1.vm.first</html>"),
        (200, b'{"access_token": "t1.vm.first", "expi'),
        (200, b"[]"),
        (200, b"[" * 60_000),
        (200, {"access_token": "t1.vm.first"}),
        (200, {"access_token": "t1.vm.first", "expires_in": "soon"}),
        (200, {"access_token": "t1.vm.first", "expires_in": 10**400}),
        (200, {"access_token": "t1.vm.first\n", "expires_in": 60}),
        (200, {"access_token": None, "expires_in": 60}),
    ],
)
def test_a_metadata_service_that_gives_no_token_is_none_of_a_service_account(
    machine: Machine, metadata: Metadata, status: int, body: Any
) -> None:
    metadata.answers = [(status, body)]
    error = why_not(machine(), "t1.vm.first")
    assert isinstance(error, ConfigurationError)
    assert f"gives no token (HTTP status {status}): this is no virtual machine of Yandex Cloud" in str(error)
    assert "set auth_type in the connection to service_account or api_key" in str(error)
    assert {path for path, _ in metadata.requests} == {metadata.requests[0][0]}, "it follows no redirection"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "a..b", "no-such-host.invalid"])
def test_where_no_metadata_service_answers_another_auth_type_is_advised(
    machine: Machine, pauses: list[float], address: str
) -> None:
    error = why_not(machine(address))
    assert isinstance(error, ConfigurationError)
    assert "does not answer (" in str(error)
    assert "set auth_type in the connection to service_account or api_key" in str(error)
    assert pauses == [0.5, 0.5]


def test_a_metadata_service_that_is_silent_is_not_waited_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    monkeypatch.setattr(tokens, "_METADATA_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        error = why_not(machine(f"127.0.0.1:{listener.getsockname()[1]}", retry=ONE_ATTEMPT))
    assert "does not answer (TimeoutError)" in str(error)
    assert pauses == []


def test_a_machines_token_is_used_while_it_is_good_though_the_metadata_service_is_gone(
    machine: Machine, metadata: Metadata, clock: ManualClock
) -> None:
    credentials = machine()
    credentials.authorization()
    metadata.answers = [(503, b"")]
    clock.advance(HOUR)
    assert credentials.authorization() == "Bearer t1.vm.first"
    clock.advance(11 * HOUR)
    assert isinstance(why_not(credentials), ServiceUnavailableError)


# --- nobody sees a secret


def test_texts_of_objects_show_who_and_no_secret(
    account: Account, iam: Iam, machine: Machine, key_file: KeyFile
) -> None:
    key, virtual = account(), machine()
    given = [each.authorization().removeprefix("Bearer ") for each in (key, virtual)]
    assert repr(key) == f"ServiceAccountKey(key {KEY_ID} of service account {ACCOUNT})"
    told = f"{key} {key!r} {vars(key)} {virtual} {virtual!r} {vars(virtual)} {tokens._slots}"
    assert_tells_no_secret(told, key_file["private_key"], *given, *iam.signed)


def test_what_a_server_quotes_is_not_passed_on(
    account: Account, iam: Iam, key_file: KeyFile, caplog: pytest.LogCaptureFixture
) -> None:
    def quote(request: Any, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, f"bad JWT {request.jwt}, try another")

    caplog.set_level(logging.DEBUG)
    iam.instead.append(quote)
    error = why_not(account())
    assert "bad JWT ***, try another" in str(error)
    told = everything_told(error) + caplog.text
    assert_tells_no_secret(told, key_file["private_key"], *iam.signed)


def test_a_whole_hour_is_logged_without_a_secret(
    account: Account,
    iam: Iam,
    connect: Connect,
    clock: ManualClock,
    key_file: KeyFile,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    client = connect(iam.server, credentials=account())
    iam.instead += [abort("UNAVAILABLE"), iam.answer, abort("INTERNAL")]
    for _ in range(4):
        client.count()
        clock.advance(HOUR / 2)
        iam.tokens.revoke_all()
    given = [str(call.headers.get("authorization", "")) for call in iam.server.calls]
    secrets = [each.removeprefix("Bearer ") for each in given if each]
    assert len({*secrets}) > 2
    assert_tells_no_secret(caplog.text, key_file["private_key"], *secrets, *iam.signed)


def test_they_cannot_be_carried_to_another_process(account: Account, machine: Machine) -> None:
    for credentials in (account(), machine()):
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(credentials)


def test_secrets_are_known_by_their_looks(account: Account, iam: Iam, key_file: KeyFile) -> None:
    token = account().authorization().removeprefix("Bearer ")
    private = key_file["private_key"]
    (signed,) = iam.signed
    text = f"token {token}, signed={signed!r} and {private}-- {json.dumps(private[:-100])}"
    assert redact(text) == f"token ***, signed='***' and {WARNING}***\n-- \"{WARNING[:-1]}\\n***"
    for harmless in ("t1.name = t2.name", "eyJ", "-----BEGIN CERTIFICATE-----", "s3://calls/t1.wav"):
        assert redact(harmless) == harmless


def test_an_api_key_is_none_of_these(connect: Connect, iam: Iam) -> None:
    with pytest.raises(AuthenticationError):
        connect(iam.server, credentials=ApiKey("AQVN")).count()
    assert iam.exchanges == 0


def test_importing_them_does_not_import_what_signs() -> None:
    import subprocess
    import sys

    script = (
        "import sys, airflow_provider_speechsense.api.tokens;"
        "sys.exit(str({'jwt', 'cryptography'} & {*sys.modules} or 0).replace('0', ''))"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False
    )
    assert run.stderr.strip() == ""
