"""The token service: authorized keys are exchanged for IAM tokens, which expire and can be revoked."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.emulator.calls import Call
from airflow_provider_speechsense.emulator.refusal import Refusal, invalid, not_found
from airflow_provider_speechsense.emulator.services import Service, World
from airflow_provider_speechsense.emulator.settings import Access

_messages = protos.iam

AUDIENCE = "https://iam.api.cloud.yandex.net/iam/v1/tokens"
#: Seconds from a signed request's making to its end; the service documents it, as it does the lengths below.
_MAX_JWT_LIFE = 3600
_MAX_JWT, _MAX_TOKEN, _MAX_ID = 8000, 4096, 50


@dataclass(frozen=True)
class _Issued:
    subject_id: str
    expires_at: float


class IssuedTokens(Mapping[str, Access]):
    """The tokens given out that are good at this moment; each may do everything.

    :param clock: seconds since 1970
    :param life: seconds from giving one out to its end
    """

    def __init__(self, clock: Callable[[], float], life: float) -> None:
        self._clock = clock
        self._life = life
        self._lock = threading.Lock()
        self._tokens: dict[str, _Issued] = {}

    def __getitem__(self, token: str) -> Access:
        with self._lock:
            if self._clock() < self._tokens[token].expires_at:
                return Access.FULL
        raise KeyError(token)

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            now = self._clock()
            return iter([token for token, issued in self._tokens.items() if now < issued.expires_at])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return f"IssuedTokens({len(self)})"

    def issue(self, subject_id: str) -> Any:
        """Give out a new token, as the API's answer."""
        # As long as the real ones: 64 bytes are 86 characters.
        token = f"t1.{secrets.token_urlsafe(96)}.{secrets.token_urlsafe(64)}"
        issued = _Issued(subject_id, self._clock() + self._life)
        with self._lock:
            self._tokens[token] = issued
        answer = _messages.CreateIamTokenResponse(iam_token=token)
        answer.expires_at.FromMicroseconds(round(issued.expires_at * 1e6))
        return answer

    def revoke(self, token: str) -> str | None:
        """End a token now; return whose it was, None if it was not good any more."""
        with self._lock:
            issued = self._tokens.pop(token, None)
        return issued.subject_id if issued and self._clock() < issued.expires_at else None

    def revoke_all(self) -> None:
        """End all tokens now."""
        with self._lock:
            self._tokens.clear()


class IamTokenService(Service):
    """Tokens for the authorized keys of the settings.

    :param tokens: where the tokens go that are given out
    :param audience: whom a signed request must name
    :raises ImportError: there are keys, but not the libraries that check signatures
    :raises ValueError: a public key is none
    """

    name = "IamTokenService"
    #: Who asks for a token has none yet.
    access: ClassVar[Mapping[str, Access]] = {"Create": Access(0)}

    def __init__(self, world: World, tokens: IssuedTokens, audience: str = AUDIENCE) -> None:
        super().__init__(world)
        keys = world.settings.authorized_keys
        self._keys = {key_id: (account, _public_key(pem)) for key_id, (account, pem) in keys.items()}
        self._accounts = {account for account, _ in keys.values()}
        self._tokens = tokens
        self._audience = audience

    def create(self, request: Any, call: Call) -> Any:
        kind = request.WhichOneof("identity")
        if kind != "jwt":
            raise invalid("the emulator takes only a jwt" if kind else "jwt is required")
        signed = request.jwt
        # The request is kept in the records.
        request.jwt = "***"
        if len(signed) > _MAX_JWT:
            raise invalid(f"jwt is longer than {_MAX_JWT} characters")
        return self._tokens.issue(self._check(signed))

    def create_for_service_account(self, request: Any, call: Call) -> Any:
        account = request.service_account_id
        if not 0 < len(account) <= _MAX_ID:
            raise invalid(f"service_account_id must have 1 to {_MAX_ID} characters")
        if account not in self._accounts:
            raise not_found(f"Service account {account} not found")
        return self._tokens.issue(account)

    def revoke(self, request: Any, call: Call) -> Any:
        token, request.iam_token = request.iam_token, "***"
        if not 0 < len(token) <= _MAX_TOKEN:
            raise invalid(f"iam_token must have 1 to {_MAX_TOKEN} characters")
        subject_id = self._tokens.revoke(token)
        if subject_id is None:
            raise not_found("The token is unknown, or has expired")
        return _messages.RevokeIamTokenResponse(subject_id=subject_id)

    def _check(self, signed: str) -> str:
        """Return the service account that signed the request.

        :raises Refusal: UNAUTHENTICATED, with what is wrong
        """
        if not self._keys:
            raise _refused("no authorized key is registered")
        import jwt

        try:
            key_id = jwt.get_unverified_header(signed).get("kid")
            account, public_key = self._keys[str(key_id)]
            # Times are checked below, by the emulator's clock.
            claims = jwt.decode(
                signed,
                public_key,
                algorithms=["PS256"],
                audience=self._audience,
                options={
                    "require": ["iss", "aud", "iat", "exp"],
                    "verify_iat": False,
                    "verify_exp": False,
                    "verify_nbf": False,
                },
            )
            issued, expires = float(claims["iat"]), float(claims["exp"])
        except KeyError:
            raise _refused("its key id is unknown") from None
        except (jwt.PyJWTError, TypeError, ValueError) as error:
            raise _refused(str(error)) from None
        now = self._world.now
        # By what must hold, because a NaN makes every comparison false.
        rules = {
            "its issuer is not the service account of the key": claims["iss"] == account,
            "it is of the future": issued <= now,
            "it has expired": now < expires,
            f"it is good for more than {_MAX_JWT_LIFE} s": expires - issued <= _MAX_JWT_LIFE,
        }
        for fault, holds in rules.items():
            if not holds:
                raise _refused(fault)
        return account


def _refused(why: str) -> Refusal:
    return Refusal("UNAUTHENTICATED", f"The JWT is not accepted: {why}")


def _public_key(pem: str) -> Any:
    try:
        import jwt  # noqa: F401 - to say now, and not at the first call, that it is not there
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise ImportError(
            "the emulator checks authorized keys with PyJWT and cryptography: pip install 'pyjwt[crypto]'"
        ) from error
    return load_pem_public_key(pem.encode())
