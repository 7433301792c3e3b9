"""Keys and tokens are checked, and may be good for a part of the API only."""

from __future__ import annotations

import pytest

from airflow_provider_speechsense.emulator import Access, EmulatorSettings
from airflow_provider_speechsense.emulator.access import admit
from tests.emulator.support import Serve, messages, tone, upload_request, wav

GET = messages.GetTalkRequest(talk_ids=["aud1"])
UPLOAD = upload_request(wav([tone((500, 5000))]))


@pytest.mark.parametrize(
    ("authorization", "text"),
    [
        ("", "authorization header is missing"),
        ("Api-Key wrong", "Unknown api key"),
        ("Bearer t1.unlisted", "invalid or has expired"),
        ("Bearer emulator-key", "invalid or has expired"),
        ("Basic eDp5", "neither the scheme"),
    ],
)
def test_bad_credentials_are_unauthenticated(serve: Serve, authorization: str, text: str) -> None:
    code, details = serve().refused("TalkService/Get", GET, authorization=authorization)
    assert code == "UNAUTHENTICATED"
    assert text in details


@pytest.mark.parametrize("authorization", ["Api-Key k1", "api-key k2", "Bearer t1.listed"])
def test_listed_keys_and_tokens_are_accepted(serve: Serve, authorization: str) -> None:
    bench = serve(api_keys={"k1": Access.FULL, "k2": Access.FULL}, tokens={"t1.listed": Access.FULL})
    bench.call("TalkService/Get", GET, authorization=authorization)


@pytest.mark.parametrize("authorization", ["", "Bearer 0", "nonsense"])
def test_without_security_anything_is_accepted(serve: Serve, authorization: str) -> None:
    bench = serve(security_enabled=False, api_keys={})
    assert bench.emulator.api_key == ""
    bench.call("TalkService/Get", GET, authorization=authorization)


def test_a_key_may_be_good_for_reading_or_for_uploading_only(serve: Serve) -> None:
    bench = serve(api_keys={"reader": Access.READ, "uploader": Access.UPLOAD})
    bench.call("TalkService/Get", GET, authorization="Api-Key reader")
    bench.call("TalkService/Upload", UPLOAD, authorization="Api-Key uploader")
    assert (
        bench.refused("TalkService/Upload", UPLOAD, authorization="Api-Key reader")[0] == "PERMISSION_DENIED"
    )
    assert bench.refused("TalkService/Get", GET, authorization="Api-Key uploader")[0] == "PERMISSION_DENIED"


def test_records_show_of_credentials_only_their_kind(serve: Serve) -> None:
    bench = serve()
    for authorization in ("Bearer t1.secret", "secret"):
        bench.refused("TalkService/Get", GET, authorization=authorization)
    assert [call.metadata["authorization"] for call in bench.emulator.calls] == ["Bearer ***", "***"]


def test_a_method_that_needs_nothing_takes_calls_without_credentials() -> None:
    admit(None, Access(0), EmulatorSettings(), {})
