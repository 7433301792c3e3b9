"""The token service takes only what an authorized key signed, and its tokens are good until they end."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.emulator import Emulator, EmulatorSettings, ManualClock, iam
from airflow_provider_speechsense.emulator.refusal import Refusal
from tests.emulator.support import CLIENT_OPTIONS, Bench, messages

HOUR = 3600.0
ACCOUNT, KEY_ID = "aje0000000000000acct", "aje00000000000000key"
SHAPE = re.compile(r"t1\.[A-Z0-9a-z_-]+[=]{0,2}\.[A-Z0-9a-z_-]{86}[=]{0,2}")


@pytest.fixture(scope="module")
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def public_key(private_key: rsa.RSAPrivateKey) -> str:
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return private_key.public_key().public_bytes(serialization.Encoding.PEM, kind).decode()


@pytest.fixture
def bench(public_key: str) -> Iterator[Bench]:
    clock = ManualClock()
    settings = EmulatorSettings(clock=clock, authorized_keys={KEY_ID: (ACCOUNT, public_key)})
    with Emulator(settings) as emulator, grpc.insecure_channel(emulator.address, CLIENT_OPTIONS) as channel:
        yield Bench(emulator, clock, channel)


Sign = Callable[..., str]


@pytest.fixture
def sign(bench: Bench, private_key: rsa.RSAPrivateKey) -> Sign:
    """Sign a good request, with changes to its claims; those that are None are left out."""

    def signed(key: Any = private_key, algorithm: str = "PS256", key_id: Any = KEY_ID, **changes: Any) -> str:
        now = bench.clock()
        good = {"iss": ACCOUNT, "aud": iam.AUDIENCE, "iat": now, "exp": now + HOUR}
        claims = {name: value for name, value in (good | changes).items() if value is not None}
        return jwt.encode(claims, key, algorithm, headers={"kid": key_id} if key_id else None)

    return signed


def exchange(bench: Bench, signed: str) -> Any:
    request = protos.iam.CreateIamTokenRequest(jwt=signed)
    return bench.call("IamTokenService/Create", request, authorization="")


def works(bench: Bench, token: str) -> bool:
    """Tell whether the service takes a token."""
    request = messages.GetTalkRequest(talk_ids=["aud1"])
    try:
        bench.call("TalkService/Get", request, authorization=f"Bearer {token}")
    except grpc.RpcError as error:
        return {"UNAUTHENTICATED": False}[error.code().name]
    return True


# --- giving out


def test_a_signed_request_is_answered_with_a_token_that_the_services_take(bench: Bench, sign: Sign) -> None:
    answer = exchange(bench, sign())
    assert SHAPE.fullmatch(answer.iam_token)
    assert answer.expires_at.seconds == bench.clock() + 12 * HOUR
    assert works(bench, answer.iam_token)
    assert not works(bench, answer.iam_token[:-1])


def test_each_request_gets_a_token_of_its_own_and_the_older_stays_good(bench: Bench, sign: Sign) -> None:
    first, second = (exchange(bench, sign()).iam_token for _ in range(2))
    assert first != second
    assert works(bench, first)
    assert works(bench, second)


def test_a_token_ends_by_the_emulators_clock(bench: Bench, sign: Sign) -> None:
    token = exchange(bench, sign()).iam_token
    bench.clock.advance(12 * HOUR - 1)
    assert works(bench, token)
    bench.clock.advance(1)
    assert not works(bench, token)


# --- refusing


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"key_id": "aje000000000000other"}, "its key id is unknown"),
        ({"key_id": None}, "its key id is unknown"),
        ({"iss": "aje000000000000other"}, "its issuer is not the service account of the key"),
        ({"iss": None}, 'missing the "iss" claim'),
        ({"aud": "https://iam.example/iam/v1/tokens"}, "Audience doesn't match"),
        ({"algorithm": "RS256"}, "alg value is not allowed"),
        ({"algorithm": "HS256", "key": "0123456789abcdef" * 4}, "alg value is not allowed"),
        ({"exp": 1.0}, "it has expired"),
        ({"exp": 1e11}, "it is good for more than 3600 s"),
        ({"exp": float("nan")}, "it has expired"),
        ({"exp": "soon"}, "could not convert"),
        ({"iat": 1e11, "exp": 1e11 + HOUR}, "it is of the future"),
    ],
)
def test_a_request_that_is_not_as_it_must_be_is_unauthenticated(
    bench: Bench, sign: Sign, changes: dict[str, Any], why: str
) -> None:
    refusal = bench.refused(
        "IamTokenService/Create", protos.iam.CreateIamTokenRequest(jwt=sign(**changes)), authorization=""
    )
    assert refusal[0] == "UNAUTHENTICATED"
    assert refusal[1].startswith("The JWT is not accepted: ")
    assert why in refusal[1]


def test_a_request_that_another_key_signed_is_unauthenticated(bench: Bench, sign: Sign) -> None:
    forged = sign(key=rsa.generate_private_key(65537, 2048))
    for request in (forged, "nonsense", sign()[:-8]):
        message = protos.iam.CreateIamTokenRequest(jwt=request)
        code, _ = bench.refused("IamTokenService/Create", message, authorization="")
        assert code == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("identity", "why"),
    [
        ({}, "jwt is required"),
        ({"yandex_passport_oauth_token": "y0_x"}, "takes only a jwt"),
        ({"jwt": "x" * 8001}, "longer than 8000 characters"),
    ],
)
def test_what_is_no_signed_request_is_invalid(bench: Bench, identity: dict[str, str], why: str) -> None:
    message = protos.iam.CreateIamTokenRequest(**identity)
    code, text = bench.refused("IamTokenService/Create", message, authorization="")
    assert code == "INVALID_ARGUMENT"
    assert why in text


# --- for other accounts, and revoking


def test_who_has_a_token_may_ask_for_one_of_a_known_account(bench: Bench, sign: Sign) -> None:
    bearer = f"Bearer {exchange(bench, sign()).iam_token}"
    method, request = (
        "IamTokenService/CreateForServiceAccount",
        protos.iam.CreateIamTokenForServiceAccountRequest,
    )
    answer = bench.call(method, request(service_account_id=ACCOUNT), authorization=bearer)
    assert works(bench, answer.iam_token)
    asked = {account: bench.refused(method, request(service_account_id=account)) for account in ("", "aje1")}
    assert [code for code, _ in asked.values()] == ["INVALID_ARGUMENT", "NOT_FOUND"]
    nobody = bench.refused(method, request(service_account_id=ACCOUNT), authorization="")
    assert nobody[0] == "UNAUTHENTICATED"


def test_a_revoked_token_is_good_no_more(bench: Bench, sign: Sign) -> None:
    token, other = (exchange(bench, sign()).iam_token for _ in range(2))
    request = protos.iam.RevokeIamTokenRequest(iam_token=token)
    assert bench.call("IamTokenService/Revoke", request).subject_id == ACCOUNT
    assert not works(bench, token)
    assert works(bench, other)
    assert bench.refused("IamTokenService/Revoke", request)[0] == "NOT_FOUND"
    assert bench.refused("IamTokenService/Revoke", type(request)())[0] == "INVALID_ARGUMENT"


def test_all_tokens_can_be_revoked_at_once(bench: Bench, sign: Sign) -> None:
    tokens = [exchange(bench, sign()).iam_token for _ in range(2)]
    assert list(bench.emulator.tokens) == tokens
    bench.emulator.tokens.revoke_all()
    assert len(bench.emulator.tokens) == 0
    assert not any(works(bench, token) for token in tokens)


# --- secrets, and what must be there


def test_records_hold_neither_requests_nor_tokens(bench: Bench, sign: Sign) -> None:
    signed = sign()
    token = exchange(bench, signed).iam_token
    bench.call("IamTokenService/Revoke", protos.iam.RevokeIamTokenRequest(iam_token=token))
    shown = repr([dataclasses.asdict(call) for call in bench.emulator.calls]) + repr(bench.emulator.tokens)
    assert '"***"' in shown
    assert signed not in shown
    assert token not in shown


def service(keys: Mapping[str, tuple[str, str]]) -> iam.IamTokenService:
    settings = EmulatorSettings(clock=ManualClock(), authorized_keys=keys)
    world: Any = dataclasses.make_dataclass("World", ["settings", "now"])(settings, settings.clock())
    return iam.IamTokenService(world, iam.IssuedTokens(settings.clock, HOUR))


def test_the_libraries_are_needed_only_where_there_are_keys(
    monkeypatch: pytest.MonkeyPatch, public_key: str
) -> None:
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(ImportError, match=r"checks authorized keys with PyJWT and cryptography: pip install"):
        service({KEY_ID: (ACCOUNT, public_key)})
    request, call = protos.iam.CreateIamTokenRequest(jwt="eyJ"), None
    with pytest.raises(Refusal, match=r"UNAUTHENTICATED: .*no authorized key is registered"):
        service({}).create(request, call)  # type: ignore[arg-type]


def test_a_public_key_that_is_none_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="PEM"):
        service({KEY_ID: (ACCOUNT, "ssh-rsa AAAA")})
