"""What Airflow expects of every operator and sensor: templates, mapping, serialization, cheap imports."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import airflow
import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator, BaseSensorOperator

from airflow_provider_speechsense.operators.talks import SpeechSenseGetOperator, SpeechSenseSearchOperator
from airflow_provider_speechsense.operators.upload import (
    SpeechSenseBadgeOperator,
    SpeechSenseStreamOperator,
    SpeechSenseTextOperator,
    SpeechSenseUploadOperator,
)
from airflow_provider_speechsense.sensors.speechsense import SpeechSenseBadgeSensor, SpeechSenseTalkSensor

if airflow.__version__.startswith("2."):
    from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization
else:
    from airflow.serialization.serialized_objects import DagSerialization

METADATA = {"operator_id": "{{ run_id }}", "date": "{{ ts }}"}
#: Every class, with the arguments that it cannot do without, and one to map over.
CLASSES: dict[type, tuple[dict[str, Any], str]] = {
    SpeechSenseUploadOperator: ({"metadata": METADATA, "audio": "{{ run_id }}.wav"}, "audio"),
    SpeechSenseStreamOperator: ({"metadata": METADATA, "audio": "{{ run_id }}.wav"}, "audio"),
    SpeechSenseTextOperator: ({"metadata": METADATA, "messages": [{"text": "{{ run_id }}"}]}, "messages"),
    SpeechSenseBadgeOperator: ({"metadata": METADATA, "audio": "{{ run_id }}.wav"}, "audio"),
    SpeechSenseSearchOperator: ({"filters": [{"key": "userMeta.{{ run_id }}"}]}, "query"),
    SpeechSenseGetOperator: ({"talk_ids": ["{{ run_id }}"]}, "talk_ids"),
    SpeechSenseTalkSensor: ({"talk_ids": ["{{ run_id }}"]}, "talk_ids"),
    SpeechSenseBadgeSensor: ({"operation_id": "{{ run_id }}"}, "operation_id"),
}
every_class = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)

#: What may come from a template: all ids, URIs, metadata and masks.
TEMPLATED = {
    "audio", "audio_format", "metadata", "users", "messages", "connection_id", "talk_id", "talk_ids",
    "operation_id", "organization_id", "space_id", "project_id", "filters", "query", "sort", "limit",
    "results_mask", "output_uri", "wait_for", "speechsense_conn_id",
}  # fmt: skip


def parameters_of(kind: type) -> set[str]:
    """Return the names of a class's own constructor arguments, its bases' of this package included."""
    return {
        name
        for base in kind.__mro__
        if base.__module__.startswith("airflow_provider_speechsense")
        for name, parameter in inspect.signature(vars(base).get("__init__", lambda: None)).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def make(kind: type, **arguments: Any) -> Any:
    return kind(task_id="task", **CLASSES[kind][0], **arguments)


def dag(**arguments: Any) -> DAG:
    return DAG(dag_id="conventions", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), **arguments)


@every_class
def test_all_ids_uris_metadata_and_masks_are_template_fields(kind: type) -> None:
    assert set(kind.template_fields) == parameters_of(kind) & TEMPLATED


@every_class
def test_template_fields_are_attributes_as_they_were_given(kind: type) -> None:
    given = {name: f"<{name}>" for name in kind.template_fields}
    task = kind(task_id="task", **given)
    assert {name: getattr(task, name) for name in given} == given


@every_class
def test_templates_are_rendered_within_dicts_and_lists(kind: type) -> None:
    task = make(kind)
    task.render_template_fields({"run_id": "run7", "ts": "2026-03-12T09:41:07+00:00"})
    rendered = json.dumps([getattr(task, name) for name in kind.template_fields])
    assert "run7" in rendered
    assert "{{" not in rendered


@every_class
def test_a_task_survives_the_serialization_of_its_dag(kind: type) -> None:
    with dag() as written:
        make(kind)
    data = json.loads(json.dumps(DagSerialization.to_dict(written)))
    task = DagSerialization.from_dict(data).get_task("task")
    assert task.task_type == kind.__name__
    assert list(task.template_fields) == list(kind.template_fields)
    for name, value in CLASSES[kind][0].items():
        assert getattr(task, name) == value
    assert task.ui_color == kind.ui_color != BaseOperator.ui_color


@every_class
def test_a_task_can_be_mapped_and_serialized(kind: type) -> None:
    arguments, mapped = CLASSES[kind]
    rest = {name: value for name, value in arguments.items() if name != mapped}
    with dag() as written:
        kind.partial(task_id="task", speechsense_conn_id="other", **rest).expand(**{mapped: ["a", "b"]})
    data = json.loads(json.dumps(DagSerialization.to_dict(written)))
    task = DagSerialization.from_dict(data).get_task("task")
    assert type(task).__name__.endswith("MappedOperator")
    assert task.partial_kwargs["speechsense_conn_id"] == "other"


@every_class
def test_default_args_reach_every_argument(kind: type) -> None:
    # A value that no class has by default.
    defaults = {name: f"<{name}>" for name in parameters_of(kind)}
    with dag(default_args=defaults):
        task = kind(task_id="task")
    assert {name: getattr(task, name) for name in defaults} == defaults


@every_class
def test_the_default_connection_is_the_documented_one(kind: type) -> None:
    assert make(kind).speechsense_conn_id == "speechsense_default"


@every_class
def test_deferring_follows_airflows_own_default(kind: type) -> None:
    if "deferrable" in parameters_of(kind):
        assert make(kind).deferrable is False
    assert issubclass(kind, BaseSensorOperator) is kind.__name__.endswith("Sensor")


def test_every_argument_is_documented() -> None:
    for kind in CLASSES:
        documented = kind.__doc__ or ""
        if kind is SpeechSenseStreamOperator:
            documented += SpeechSenseUploadOperator.__doc__ or ""
        shared = {"space_id", "project_id", "connection_id"} if "as do" in documented else set()
        missing = {n for n in parameters_of(kind) - shared if f":param {n}:" not in documented}
        assert missing == set(), kind


IMPORTS = """
import importlib, json, pkgutil, sys
import airflow.providers.common.compat.sdk as sdk, airflow.triggers.base
sdk.DAG, sdk.BaseOperator, sdk.BaseSensorOperator, sdk.BaseHook
before = set(sys.modules)

import airflow_provider_speechsense as package
for kind in ("hooks", "operators", "sensors", "triggers"):
    for found in pkgutil.iter_modules([f"{package.__path__[0]}/{kind}"], f"{package.__name__}.{kind}."):
        importlib.import_module(found.name)
print(json.dumps([sorted(before), sorted(set(sys.modules) - before)]), file=sys.stderr)
"""


def test_importing_everything_that_a_dag_may_import_loads_no_heavy_library() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, timeout=100, check=True
    )
    airflows, ours = map(set, json.loads(done.stderr.splitlines()[-1]))
    assert "airflow_provider_speechsense.operators.upload" in ours
    assert "grpc" not in airflows, "nothing would be measured"
    assert ours & {"grpc", "google.protobuf", "requests", "pyarrow", "yandexcloud", "fsspec"} == set()
