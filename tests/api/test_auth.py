"""Credentials become the header that the service wants, and what cannot be one is refused at once."""

from __future__ import annotations

import pytest

from airflow_provider_speechsense.api import ApiKey, IamToken, NoCredentials
from airflow_provider_speechsense.exceptions import ConfigurationError


def test_each_kind_has_its_scheme() -> None:
    assert ApiKey("AQVN1").authorization() == "Api-Key AQVN1"
    assert IamToken("t1.abc.def").authorization() == "Bearer t1.abc.def"
    assert NoCredentials().authorization() is None


def test_white_space_around_a_secret_is_a_slip_of_the_clipboard() -> None:
    assert ApiKey(" \tAQVN1\n") == ApiKey("AQVN1")


@pytest.mark.parametrize("secret", ["AQ\nVN", "AQ\r\nVN", "AQ VN", "AQ\x00VN", "ключ", "Api-Key AQVN"])
def test_a_secret_broken_within_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ConfigurationError, match="copy it again, in one piece") as caught:
        ApiKey(secret)
    assert secret not in str(caught.value)


@pytest.mark.parametrize(("kind", "name"), [(ApiKey, "API key"), (IamToken, "IAM token")])
@pytest.mark.parametrize("secret", ["", "  \n"])
def test_an_empty_secret_is_refused_with_where_to_put_one(
    kind: type[ApiKey] | type[IamToken], name: str, secret: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"no {name}.*connection's password"):
        kind(secret)


def test_a_secret_is_not_in_the_text_of_its_object() -> None:
    assert "AQVN1" not in repr(ApiKey("AQVN1"))


def test_only_what_has_a_secret_says_so_and_none_of_these_can_be_renewed() -> None:
    assert ApiKey("a").has_secret()
    assert IamToken("a").has_secret()
    assert not NoCredentials().has_secret()
    assert not any(credentials.renew() for credentials in (ApiKey("a"), IamToken("a"), NoCredentials()))
