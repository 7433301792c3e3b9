"""What Airflow is told about this package. Imports nothing: Airflow may ask before it is configured."""

from __future__ import annotations

from typing import Any


def _text(label: str, description: str, **schema: Any) -> dict[str, Any]:
    return {
        "label": label,
        "description": description,
        "schema": {"type": ["string", "null"], **schema},
    }


def connection_fields() -> dict[str, dict[str, Any]]:
    """Return the connection's own fields: the one description behind every form, in every Airflow."""
    return {
        "auth_type": _text(
            "Authentication",
            "What the secret is: an API key of a service account, an IAM token (lasts 12 hours), or none.",
            enum=["api_key", "iam_token", "none"],
            default="api_key",
        ),
        "organization_id": _text("Organization ID", "Default for operators that do not name one."),
        "space_id": _text("Space ID", "Default for operators that do not name one."),
        "project_id": _text("Project ID", "Default for operators that do not name one."),
        "connection_id": _text(
            "SpeechSense connection ID", "The SpeechSense connection that uploads go to by default."
        ),
        "tls": {
            "label": "TLS",
            "description": "Encrypt. Without it, a secret is only ever sent to this machine itself.",
            "schema": {"type": ["boolean", "null"], "default": True},
        },
        "ca_cert": _text("CA certificate", "PEM text or a path, where a private CA signed the server's."),
        "client_cert": _text("Client certificate", "PEM text or a path, for mutual TLS."),
        "client_private_key": _text(
            "Client private key", "PEM text or a path, for mutual TLS.", format="password"
        ),
        "search_endpoint": _text(
            "Search endpoint", "host:port of Search and Get, where they differ (Hybrid)."
        ),
        "operation_endpoint": _text("Operation endpoint", "host:port of operations, where they differ."),
        "rpc_timeout": {
            "label": "Call timeout, s",
            "description": "Seconds for one attempt of a call; uploads get more, by their size.",
            "schema": {"type": ["number", "null"], "default": 60},
        },
        "strict_metadata": {
            "label": "Strict metadata",
            "description": "Fail, not only warn, on missing template keys and on dates without a time zone.",
            "schema": {"type": ["boolean", "null"], "default": False},
        },
    }


def field_behaviour() -> dict[str, Any]:
    """Return what the form does with Airflow's standard fields."""
    return {
        "hidden-fields": ["login", "schema"],
        "relabeling": {"password": "API key or IAM token"},
        "placeholders": {
            "host": "api.speechsense.yandexcloud.net",
            "port": "443; SpeechSense Hybrid: 9000",
        },
    }


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, a fresh one at each call: Airflow adds to it."""
    package = "airflow_provider_speechsense"
    integration = "Yandex SpeechSense"

    def modules(*names: str) -> list[dict[str, Any]]:
        return [{"integration-name": integration, "python-modules": [f"{package}.{n}" for n in names]}]

    return {
        "package-name": "airflow-provider-speechsense",
        "name": integration,
        "description": "Speech analytics of calls and chats with Yandex SpeechSense, cloud or on premises.",
        "integrations": [
            {
                "integration-name": integration,
                "external-doc-url": "https://yandex.cloud/en/docs/speechsense/",
                "tags": ["service"],
            }
        ],
        "connection-types": [
            {
                "connection-type": "speechsense",
                "hook-class-name": f"{package}.hooks.speechsense.SpeechSenseHook",
                "hook-name": integration,
                "ui-field-behaviour": field_behaviour(),
                "conn-fields": connection_fields(),
            }
        ],
        "hooks": modules("hooks.speechsense"),
        "operators": modules("operators.upload", "operators.talks"),
        "sensors": modules("sensors.speechsense"),
        "triggers": modules("triggers.speechsense"),
    }
