"""Every form of the connection gives the same client, and a wrong one an error that says what to change."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from airflow_provider_speechsense.api import ApiKey, IamToken, NoCredentials, Tls
from airflow_provider_speechsense.emulator import Access, Emulator, EmulatorSettings, Fault
from airflow_provider_speechsense.exceptions import ConfigurationError
from airflow_provider_speechsense.hooks.speechsense import SpeechSenseHook
from tests.helpers import Connect

CONN = "AIRFLOW_CONN_SPEECHSENSE_DEFAULT"
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----"


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set the default connection to exactly this, with a password if none is given."""

    def set_connection(extra: Any = None, **fields: Any) -> SpeechSenseHook:
        connection = {"conn_type": "speechsense", "password": "AQVN-secret", **fields}
        if extra is not None:
            connection["extra"] = extra
        monkeypatch.setenv(CONN, json.dumps(connection))
        return SpeechSenseHook()

    return set_connection


# --- the forms of a connection


@pytest.mark.parametrize(
    "written",
    [
        json.dumps(
            {
                "conn_type": "speechsense",
                "host": "sense.corp.example",
                "port": 9443,
                "password": "AQVN-secret",
                "extra": {
                    "tls": True,
                    "strict_metadata": True,
                    "rpc_timeout": 15,
                    "space_id": "f3fuclf1kufs5msk4tns",
                    "search_endpoint": "search.corp.example:9444",
                },
            }
        ),
        "speechsense://:AQVN-secret@sense.corp.example:9443/?tls=true&strict_metadata=1&rpc_timeout=15"
        "&space_id=f3fuclf1kufs5msk4tns&search_endpoint=search.corp.example%3A9444",
        "speechsense://:AQVN-secret@sense.corp.example:9443/?__extra__="
        + quote(
            json.dumps(
                {
                    "tls": "True",
                    "strict_metadata": "yes",
                    "rpc_timeout": "15.0",
                    "space_id": " f3fuclf1kufs5msk4tns ",
                    "search_endpoint": "search.corp.example:9444",
                    "organization_id": "",
                }
            )
        ),
        json.dumps(
            {
                "conn_type": "speechsense",
                "host": "sense.corp.example:9443",
                "password": "AQVN-secret\n",
                "extra": json.dumps(
                    {
                        "extra__speechsense__tls": True,
                        "extra__speechsense__strict_metadata": "on",
                        "extra__speechsense__rpc_timeout": "15",
                        "extra__speechsense__space_id": "f3fuclf1kufs5msk4tns",
                        "extra__speechsense__search_endpoint": "search.corp.example:9444",
                        "extra__speechsense__project_id": None,
                    }
                ),
            }
        ),
    ],
    ids=["JSON with real types", "URI", "URI with nested JSON", "JSON with an older form's prefixed text"],
)
def test_every_way_of_writing_a_connection_means_the_same(
    written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONN, written)
    settings = SpeechSenseHook().get_settings()
    assert settings.endpoint == "sense.corp.example:9443"
    assert settings.search_endpoint == "search.corp.example:9444"
    assert settings.operation_endpoint is None
    assert settings.credentials == ApiKey("AQVN-secret")
    assert settings.tls == Tls()
    assert settings.scope == {"space_id": "f3fuclf1kufs5msk4tns"}
    assert settings.rpc_timeout == 15
    assert settings.strict_metadata is True


def test_a_connection_with_nothing_but_a_key_reaches_the_cloud(given: Any) -> None:
    settings = given().get_settings()
    assert settings.endpoint == "api.speechsense.yandexcloud.net:443"
    assert settings.tls == Tls()
    assert settings.rpc_timeout == 60
    assert settings.strict_metadata is False
    assert settings.scope == {}


@pytest.mark.parametrize(
    ("fields", "endpoint"),
    [
        ({"host": "api.speechsense.yandexcloud.net"}, "api.speechsense.yandexcloud.net:443"),
        ({"host": "sense.corp.example"}, "sense.corp.example:9000"),
        ({"host": "sense.corp.example", "port": 443}, "sense.corp.example:443"),
        ({"host": " sense.corp.example:8443 "}, "sense.corp.example:8443"),
        ({"host": "sense.corp.example/"}, "sense.corp.example:9000"),
        ({"host": "[fd00::1]", "port": 9001}, "[fd00::1]:9001"),
        ({"host": "fd00::1", "port": 9001}, "[fd00::1]:9001"),
        ({"port": 8443}, "api.speechsense.yandexcloud.net:8443"),
    ],
)
def test_the_port_is_the_clouds_or_hybrids_unless_given(
    fields: dict[str, Any], endpoint: str, given: Any
) -> None:
    assert given(**fields).get_settings().endpoint == endpoint


@pytest.mark.parametrize("host", ["https://api.speechsense.yandexcloud.net", "sense/path"])
def test_a_host_that_is_none_is_refused_with_an_example(host: str, given: Any) -> None:
    with pytest.raises(ConfigurationError, match="without a scheme or path, such as"):
        given(host=host).get_conn()


@pytest.mark.parametrize(
    ("auth_type", "credentials"),
    [
        ("api_key", ApiKey("AQVN-secret")),
        ("IAM_TOKEN", IamToken("AQVN-secret")),
        ("none", NoCredentials()),
        ("", ApiKey("AQVN-secret")),
    ],
)
def test_auth_type_says_what_the_password_is(auth_type: str, credentials: Any, given: Any) -> None:
    assert given({"auth_type": auth_type}).get_settings().credentials == credentials


def test_an_unknown_auth_type_is_named_with_the_known_ones(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"'oauth'\. What to do: .*api_key, iam_token or none"):
        given({"auth_type": "oauth"}).get_settings()


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ({"tls": "maybe"}, "tls in the connection is 'maybe'"),
        ({"strict_metadata": 2}, "strict_metadata in the connection is 2"),
        ({"rpc_timeout": "fast"}, "rpc_timeout in the connection is 'fast'"),
        ({"rpc_timeout": 0}, "a number of seconds above 0"),
        ({"rpc_timeout": "inf"}, "a number of seconds above 0"),
        ({"rpc_timeout": [60]}, "a number of seconds above 0"),
        ({"ca_cert": "/nowhere/ca.pem"}, "ca_cert in the connection is neither PEM text nor a readable file"),
        ({"client_cert": PEM}, "client_cert and client_private_key go together"),
        ([1, 2], "extra is a list"),
    ],
)
def test_an_extra_that_means_nothing_is_named(extra: Any, text: str, given: Any) -> None:
    with pytest.raises(ConfigurationError, match=text):
        given(json.dumps(extra)).get_settings()


@pytest.mark.parametrize("off", [False, "false", "0", "No", "off"])
def test_tls_is_switched_off_by_every_kind_of_false(off: Any, given: Any) -> None:
    assert given({"tls": off, "auth_type": "none"}).get_settings().tls is None


def test_certificates_are_pem_text_or_paths(given: Any, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(PEM)
    settings = given(
        {
            "ca_cert": str(tmp_path / "ca.pem"),
            "client_cert": PEM,
            # As an environment variable or a URI often carries it.
            "client_private_key": KEY.replace("\n", "\\n"),
        }
    ).get_settings()
    assert settings.tls == Tls(PEM.encode(), PEM.encode(), KEY.encode())


def test_a_path_to_a_certificate_that_is_none_is_refused(given: Any, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    with pytest.raises(ConfigurationError, match="ca_cert holds no PEM text"):
        given({"ca_cert": str(tmp_path / "ca.pem")}).get_settings()


@pytest.mark.parametrize(("rpc_timeout", "allowed"), [(60, 20), (5, 5)])
def test_looks_that_are_repeated_are_short_and_made_once(
    rpc_timeout: float, allowed: float, given: Any
) -> None:
    settings = given({"rpc_timeout": rpc_timeout}).get_polling_settings()
    assert settings.rpc_timeout == allowed
    assert settings.retry.attempts == 1
    assert settings.retry.max_quota_wait == 0


# --- secrets


@pytest.mark.parametrize(
    ("password", "text"),
    [
        ("AQVN\nsecret", "API key has a line break"),
        ("", "no API key"),
        ("ключ-сложный", "API key has a line break, a space or another character"),
    ],
)
def test_a_secret_that_cannot_be_one_is_refused_and_not_repeated(
    password: str, text: str, given: Any
) -> None:
    with pytest.raises(ConfigurationError, match=text) as caught:
        given(password=password).get_settings()
    assert not password or password not in str(caught.value)


def test_a_secret_over_plain_text_to_another_host_is_refused_before_anything_is_sent(given: Any) -> None:
    with (
        given({"tls": False}, host="sense.corp.example").get_conn() as client,
        pytest.raises(ConfigurationError, match="nothing was sent"),
    ):
        client.count()


def test_the_settings_do_not_show_secrets(given: Any) -> None:
    extra = {"client_cert": PEM, "client_private_key": KEY}
    shown = repr(given(extra).get_settings())
    assert "AQVN-secret" not in shown
    assert "MIIE" not in shown


def test_secrets_are_masked_in_logs(given: Any) -> None:
    given({"client_cert": PEM, "client_private_key": KEY}, password=" AQVN-padded ").get_settings()
    from airflow.providers.common.compat.sdk import redact

    # A name under which nothing is masked for the name's sake.
    shown = redact({"line": f"sent <AQVN-padded> and {KEY}"})["line"]
    assert "AQVN" not in shown
    assert "MIIE" not in shown


# --- test_connection


def test_a_good_connection_tests_well_with_one_small_search(emulator: Emulator, connect: Connect) -> None:
    passed, message = SpeechSenseHook().test_connection()
    assert (passed, message) == (True, "Connected: 0 talks can be seen with the connection's default scope.")
    (call,) = emulator.calls
    assert call.method == "TalkService/Search"
    assert call.request.page_size == 1
    assert call.deadline_seconds == pytest.approx(10, abs=2)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"password": "wrong"}, "does not accept the credentials"),
        ({"password": ""}, "no API key"),
        ({"host": "https://127.0.0.1"}, "is not host:port"),
        ({"extra": {"tls": "perhaps"}}, "set it to true or false"),
        ({"extra": {"tls": True}}, "does not speak TLS"),
    ],
)
def test_a_bad_connection_tests_badly_and_says_why(
    changes: dict[str, Any], text: str, connect: Connect
) -> None:
    connect(**changes)
    passed, message = SpeechSenseHook().test_connection()
    assert passed is False
    assert text in message
    assert "What to do:" in message


def test_a_key_without_a_role_tests_badly(connect: Connect) -> None:
    with Emulator(EmulatorSettings(api_keys={"upload-only": Access.UPLOAD})) as strict:
        connect(port=strict.port, password="upload-only")
        passed, message = SpeechSenseHook().test_connection()
    assert passed is False
    assert "speech-sense.data.viewer" in message


def test_a_service_that_is_down_is_tried_once(emulator: Emulator, connect: Connect) -> None:
    emulator.script(Fault(method="TalkService/Search", code="UNAVAILABLE", count=None))
    passed, message = SpeechSenseHook().test_connection()
    assert passed is False
    assert "not available" in message
    assert len(emulator.calls) == 1


def test_credentials_that_are_accepted_pass_though_the_scope_is_wrong(
    emulator: Emulator, connect: Connect
) -> None:
    emulator.script(Fault(method="TalkService/Search", code="INVALID_ARGUMENT", details="no such space"))
    passed, message = SpeechSenseHook().test_connection()
    assert passed is True
    assert "no such space" in message
    assert "Check the default organization, space and project" in message


def test_testing_a_connection_that_is_not_there_does_not_raise(tmp_path: Path) -> None:
    passed, message = SpeechSenseHook("speechsense_nowhere").test_connection()
    assert passed is False
    assert "speechsense_nowhere" in message


def test_a_connection_is_tested_without_the_context_of_a_task(emulator: Emulator, connect: Connect) -> None:
    # In a process of its own, as the API server and `airflow connections test` do it.
    program = (
        "from airflow_provider_speechsense.hooks.speechsense import SpeechSenseHook;"
        "print(*SpeechSenseHook(speechsense_conn_id='speechsense_default').test_connection())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert "True Connected: 0 talks" in done.stdout
