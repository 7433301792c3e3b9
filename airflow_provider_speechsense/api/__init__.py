"""The SpeechSense service in plain Python: nothing here imports Airflow.

``with SpeechSenseClient(ClientSettings(credentials=ApiKey("..."))) as client: ...``
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_speechsense.api.auth import ApiKey, IamToken, NoCredentials
    from airflow_provider_speechsense.api.client import SpeechSenseClient
    from airflow_provider_speechsense.api.settings import ClientSettings
    from airflow_provider_speechsense.api.tokens import ComputeMetadata, ServiceAccountKey
    from airflow_provider_speechsense.api.transport import Tls

_HOME = {
    "ApiKey": "auth",
    "IamToken": "auth",
    "NoCredentials": "auth",
    "ClientSettings": "settings",
    "ComputeMetadata": "tokens",
    "ServiceAccountKey": "tokens",
    "SpeechSenseClient": "client",
    "Tls": "transport",
}

__all__ = [
    "ApiKey",
    "ClientSettings",
    "ComputeMetadata",
    "IamToken",
    "NoCredentials",
    "ServiceAccountKey",
    "SpeechSenseClient",
    "Tls",
]


def __getattr__(name: str) -> Any:
    # Late, because the client brings grpc, which Airflow's DAG processor must not pay for.
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
