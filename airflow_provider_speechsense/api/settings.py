"""Everything a client needs to know, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_provider_speechsense.api.auth import Credentials, NoCredentials
from airflow_provider_speechsense.api.retry import RetryPolicy
from airflow_provider_speechsense.api.transport import DEFAULT_ENDPOINT, Tls


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """How to reach the service, who we are, and how patient to be.

    :param endpoint: ``host:port`` of the service
    :param search_endpoint: where Search and Get go, if elsewhere (Hybrid)
    :param operation_endpoint: where operations are asked for first, if elsewhere
    :param credentials: who we are
    :param tls: how to encrypt; None for plain text, which takes no secret beyond this machine
    :param scope: defaults for ``organization_id``, ``space_id``, ``project_id``, ``connection_id``
    :param rpc_timeout: seconds for one attempt of a unary call
    :param longest_call: seconds that no attempt of any call may go beyond, whatever its own timeout
    :param strict_metadata: make errors of what connection templates ask for
    :param retry: how often and how long to try
    """

    endpoint: str = DEFAULT_ENDPOINT
    search_endpoint: str | None = None
    operation_endpoint: str | None = None
    credentials: Credentials = field(default_factory=NoCredentials)
    tls: Tls | None = field(default_factory=Tls)
    scope: Mapping[str, str] = field(default_factory=dict)
    rpc_timeout: float = 60.0
    longest_call: float = math.inf
    strict_metadata: bool = False
    retry: RetryPolicy = field(default_factory=RetryPolicy)
