"""From an Airflow connection to a client of the service."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_speechsense.exceptions import ConfigurationError, SpeechSenseError
from airflow_provider_speechsense.get_provider_info import connection_fields, field_behaviour

if TYPE_CHECKING:
    from airflow_provider_speechsense.api.auth import Credentials
    from airflow_provider_speechsense.api.client import SpeechSenseClient
    from airflow_provider_speechsense.api.retry import RetryPolicy
    from airflow_provider_speechsense.api.settings import ClientSettings
    from airflow_provider_speechsense.api.transport import Tls

_SCOPE = ("organization_id", "space_id", "project_id", "connection_id")
#: Where the service's gRPC is served: the cloud, and SpeechSense Hybrid.
_CLOUD_PORT, _HYBRID_PORT = 443, 9000
#: Seconds that a look may take, at most: one that hangs keeps a thread from others.
_POLL_TIMEOUT = 20.0
#: Seconds that a connection test may take: a person is waiting.
_TEST_TIMEOUT = 10.0


class SpeechSenseHook(BaseHook):
    """Gives a SpeechSense client for an Airflow connection.

    :param speechsense_conn_id: the connection, of type ``speechsense``
    """

    conn_name_attr = "speechsense_conn_id"
    default_conn_name = "speechsense_default"
    conn_type = "speechsense"
    hook_name = "Yandex SpeechSense"

    def __init__(self, speechsense_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.speechsense_conn_id = speechsense_conn_id

    def get_conn(self, *, retry: RetryPolicy | None = None) -> SpeechSenseClient:
        """Return a client, which is a context manager; connections are made when it is first used.

        :raises ConfigurationError: the connection is wrong, with what to change
        """
        from airflow_provider_speechsense.api.client import SpeechSenseClient

        return SpeechSenseClient(self.get_settings(retry=retry))

    def get_settings(self, *, retry: RetryPolicy | None = None) -> ClientSettings:
        """Read the connection, once, into plain settings; its secrets are registered with Airflow's masker.

        :raises ConfigurationError: the connection is wrong, with what to change
        """
        from airflow.providers.common.compat.sdk import mask_secret

        from airflow_provider_speechsense.api.retry import RetryPolicy
        from airflow_provider_speechsense.api.settings import ClientSettings

        conn = self.get_connection(self.speechsense_conn_id)
        fields = _Fields(conn.extra_dejson)
        for secret in (conn.password, fields.text("client_private_key")):
            if secret:
                mask_secret(secret)
                # This is what is sent: a slip of the clipboard is cut off.
                mask_secret(secret.strip())
        return ClientSettings(
            endpoint=_endpoint(conn.host, conn.port),
            search_endpoint=fields.text("search_endpoint"),
            operation_endpoint=fields.text("operation_endpoint"),
            credentials=_credentials(fields, conn.password or ""),
            tls=_tls(fields),
            scope={name: value for name in _SCOPE if (value := fields.text(name))},
            rpc_timeout=fields.number("rpc_timeout", 60.0),
            strict_metadata=fields.boolean("strict_metadata", False),
            retry=retry or RetryPolicy(),
        )

    def get_polling_settings(self, timeout: float = _POLL_TIMEOUT) -> ClientSettings:
        """Return the settings for looks that are made again and again: one attempt each, and a short one.

        :param timeout: seconds for a call, at most
        """
        from airflow_provider_speechsense.api.retry import ONE_ATTEMPT

        settings = self.get_settings(retry=ONE_ATTEMPT)
        return replace(settings, rpc_timeout=min(settings.rpc_timeout, timeout))

    def test_connection(self) -> tuple[bool, str]:
        """Try the connection with one small search, which no quota is known to count."""
        try:
            from airflow_provider_speechsense.api.client import SpeechSenseClient

            with SpeechSenseClient(self.get_polling_settings(_TEST_TIMEOUT)) as client:
                count = client.count()
        except SpeechSenseError as error:
            if error.code in ("INVALID_ARGUMENT", "NOT_FOUND"):
                return True, (
                    "SpeechSense accepts the credentials. It could not look for talks: "
                    f"{error.message} Check the default organization, space and project."
                )
            return False, str(error)
        except Exception as error:
            return False, f"{type(error).__name__}: {error}"
        return True, f"Connected: {count} talks can be seen with the connection's default scope."

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's own fields for Airflow up to 3.1; newer ones read provider info."""
        from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
        from wtforms import BooleanField, PasswordField, StringField

        widgets: dict[str, Any] = {}
        for name, field in connection_fields().items():
            label, schema = field["label"], field["schema"]
            shared = {"description": field["description"], "default": schema.get("default")}
            if "boolean" in schema["type"]:
                widgets[name] = BooleanField(label, **shared)
            elif schema.get("format") == "password":
                widgets[name] = PasswordField(label, widget=BS3PasswordFieldWidget(), **shared)
            else:
                widgets[name] = StringField(label, widget=BS3TextFieldWidget(), **shared)
        return widgets

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return what the form does with Airflow's standard fields, for Airflow up to 3.1."""
        return {key.replace("-", "_"): value for key, value in field_behaviour().items()}


class _Fields:
    """The extras of a connection, whichever way it was written: a URI makes text of every value."""

    def __init__(self, extra: Any) -> None:
        if not isinstance(extra, dict):
            raise ConfigurationError(
                f"The connection's extra is a {type(extra).__name__}.",
                hint="make it a JSON object, or empty.",
            )
        self._extra = extra

    def _value(self, name: str) -> Any:
        # Older forms put the type's name before each field.
        value = self._extra.get(name, self._extra.get(f"extra__speechsense__{name}"))
        return None if value == "" else value

    def text(self, name: str) -> str | None:
        value = self._value(name)
        return None if value is None else str(value).strip() or None

    def boolean(self, name: str, default: bool) -> bool:
        value = self._value(name)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        text = str(value).strip().lower()
        if text in ("true", "1", "yes", "on"):
            return True
        if text in ("false", "0", "no", "off"):
            return False
        raise ConfigurationError(f"{name} in the connection is {value!r}.", hint="set it to true or false.")

    def number(self, name: str, default: float) -> float:
        value = self._value(name)
        if value is None:
            return default
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = 0.0
        if not 0 < number < float("inf"):
            raise ConfigurationError(
                f"{name} in the connection is {value!r}.", hint="set it to a number of seconds above 0."
            )
        return number

    def pem(self, name: str) -> bytes | None:
        """Return PEM text, or what the file at that path holds."""
        value = self.text(name)
        if value is None:
            return None
        if "-----BEGIN" in value:
            # A URI or an environment variable often carries line breaks as two characters.
            return value.replace("\\n", "\n").encode()
        try:
            return Path(value).read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"{name} in the connection is neither PEM text nor a readable file: {error.strerror}.",
                hint="paste the PEM text, or give a path that exists on every worker and triggerer.",
            ) from None


def _endpoint(host: str | None, port: int | None) -> str:
    from airflow_provider_speechsense.api.transport import DEFAULT_ENDPOINT

    host = (host or "").strip().removesuffix("/") or DEFAULT_ENDPOINT.rpartition(":")[0]
    if host.count(":") > 1 and "/" not in host and not host.startswith("["):
        # IPv6, which loses its brackets in a connection's URI.
        host = f"[{host}]"
    if not host.startswith("[") and ("/" in host or ":" in host):
        # host:port in the host field, or a URL, which is refused with a hint.
        return host
    cloud = host.endswith((".yandexcloud.net", ".yandex.net"))
    return f"{host}:{port or (_CLOUD_PORT if cloud else _HYBRID_PORT)}"


def _credentials(fields: _Fields, secret: str) -> Credentials:
    from airflow_provider_speechsense.api.auth import ApiKey, IamToken, NoCredentials

    auth_type = (fields.text("auth_type") or "api_key").lower()
    if auth_type == "api_key":
        return ApiKey(secret)
    if auth_type == "iam_token":
        return IamToken(secret)
    if auth_type == "none":
        return NoCredentials()
    raise ConfigurationError(
        f"auth_type in the connection is {auth_type!r}.", hint="set it to api_key, iam_token or none."
    )


def _tls(fields: _Fields) -> Tls | None:
    from airflow_provider_speechsense.api.transport import Tls

    if not fields.boolean("tls", True):
        return None
    return Tls(
        ca_cert=fields.pem("ca_cert"),
        client_cert=fields.pem("client_cert"),
        client_private_key=fields.pem("client_private_key"),
    )
