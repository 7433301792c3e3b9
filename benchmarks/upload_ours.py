"""Stream a file with this package's client; print seconds and how far memory grew. Run by run.py."""

from __future__ import annotations

import sys
import time

from measure import report, resident_bytes

from airflow_provider_speechsense.api import ApiKey, ClientSettings, SpeechSenseClient

address, key, path, chunk_size = sys.argv[1:5]
settings = ClientSettings(endpoint=address, credentials=ApiKey(key), tls=None)
with SpeechSenseClient(settings) as client:
    before = resident_bytes()
    started = time.perf_counter()
    client.upload_stream(
        path, {"date": "2026-03-12T09:00:00Z"}, connection_id="eag0bench", chunk_size=int(chunk_size)
    )
    report(time.perf_counter() - started, before)
