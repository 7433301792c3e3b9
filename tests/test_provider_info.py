"""Airflow finds this package, its connection type and all of the type's fields, from one description."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.resources
import json
import pkgutil
import subprocess
import sys
from typing import Any

import airflow
import jsonschema
import pytest

import airflow_provider_speechsense
from airflow_provider_speechsense.get_provider_info import (
    connection_fields,
    field_behaviour,
    get_provider_info,
)
from airflow_provider_speechsense.hooks.speechsense import SpeechSenseHook

AIRFLOW_2 = airflow.__version__.startswith("2.")
DISTRIBUTION = "airflow-provider-speechsense"


def test_the_running_airflows_schema_accepts_it() -> None:
    schema = (importlib.resources.files("airflow") / "provider_info.schema.json").read_text()
    jsonschema.validate(get_provider_info(), json.loads(schema))


def test_each_caller_gets_a_dict_of_its_own() -> None:
    # Airflow 3 adds to the one it gets.
    first = get_provider_info()
    first["connection-types"][0]["conn-fields"]["tls"]["label"] = "changed"
    first["documentation-url"] = "added"
    assert get_provider_info() != first
    assert get_provider_info() == get_provider_info()


def test_asking_for_it_imports_nothing() -> None:
    program = (
        "import sys; import airflow_provider_speechsense.get_provider_info as asked;"
        "before = set(sys.modules); asked.get_provider_info();"
        "known = {'airflow_provider_speechsense', 'airflow_provider_speechsense.get_provider_info'};"
        "ours = {n for n in sys.modules if n.startswith('airflow_provider_')};"
        "print(sorted(ours - known), sorted(set(sys.modules) - before),"
        " sorted({'airflow', 'grpc', 'google.protobuf'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["[]", "[]", "[]"]


def test_the_entry_point_leads_to_it_under_the_distributions_own_name() -> None:
    # Any other name breaks the discovery of every provider of a deployment.
    (entry_point,) = (
        point
        for point in importlib.metadata.entry_points(group="apache_airflow_provider")
        if point.dist and point.dist.name == DISTRIBUTION
    )
    assert entry_point.load() is get_provider_info
    assert get_provider_info()["package-name"] == DISTRIBUTION


def test_everything_it_names_is_there() -> None:
    info = get_provider_info()
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for group in info[kind]:
            for name in group["python-modules"]:
                importlib.import_module(name)
    (connection_type,) = info["connection-types"]
    module, _, name = connection_type["hook-class-name"].rpartition(".")
    assert getattr(importlib.import_module(module), name) is SpeechSenseHook
    assert connection_type["connection-type"] == SpeechSenseHook.conn_type
    assert connection_type["hook-name"] == SpeechSenseHook.hook_name


def test_every_public_module_is_named() -> None:
    info = get_provider_info()
    for kind in ("hooks", "operators", "sensors", "triggers"):
        package = importlib.import_module(f"airflow_provider_speechsense.{kind}")
        public = {
            f"{package.__name__}.{found.name}"
            for found in pkgutil.iter_modules(package.__path__)
            if not found.name.startswith("_")
        }
        assert {name for group in info[kind] for name in group["python-modules"]} == public


def test_the_names_of_secrets_are_ones_that_every_airflow_masks() -> None:
    secret = [name for name, field in connection_fields().items() if field["schema"].get("format")]
    assert secret == ["client_private_key"]
    from airflow.providers.common.compat.sdk import redact

    assert redact(dict.fromkeys(secret, "hidden")) == dict.fromkeys(secret, "***")


# --- the form, which Airflow up to 3.1 takes from the hook, and newer ones from the description


def test_the_hooks_widgets_and_the_description_have_the_same_fields() -> None:
    pytest.importorskip("wtforms", reason="this Airflow makes its form without wtforms")
    pytest.importorskip("flask_appbuilder", reason="this Airflow makes its form without Flask-AppBuilder")
    from wtforms import BooleanField, Form, PasswordField, StringField

    widgets = SpeechSenseHook.get_connection_form_widgets()
    assert list(widgets) == list(connection_fields())
    form = type("ConnectionForm", (Form,), widgets)()
    for name, described in connection_fields().items():
        field, schema = form[name], described["schema"]
        assert str(field.label.text) == described["label"]
        assert field.description == described["description"]
        assert field.data == schema.get("default")
        if "boolean" in schema["type"]:
            assert isinstance(field, BooleanField)
        else:
            assert isinstance(field, StringField)
            assert isinstance(field, PasswordField) is (schema.get("format") == "password")


def test_the_hooks_behaviour_is_the_description_in_its_own_spelling() -> None:
    behaviour = SpeechSenseHook.get_ui_field_behaviour()
    assert list(behaviour) == ["hidden_fields", "relabeling", "placeholders"]
    assert list(behaviour.values()) == list(field_behaviour().values())


def _form_of_airflow_2() -> tuple[list[str], dict[str, Any]]:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    assert manager.hooks["speechsense"] is not None
    prefix = "extra__speechsense__"
    fields = [name for name in manager.connection_form_widgets if name.startswith(prefix)]
    return [name.removeprefix(prefix) for name in fields], manager.field_behaviours["speechsense"]


def _form_of_airflow_3() -> tuple[list[str], dict[str, Any]]:
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    (meta,) = [m for m in HookMetaService.hook_meta_data() if m.connection_type == "speechsense"]
    fields = meta.standard_fields
    shown = {name: getattr(fields, name) for name in ("host", "port", "login", "password")}
    return list(meta.extra_fields), {
        "hidden_fields": [*(name for name, field in shown.items() if field.hidden), "schema"],
        "relabeling": {name: field.title for name, field in shown.items() if field.title},
        "placeholders": {name: field.placeholder for name, field in shown.items() if field.placeholder},
    }


def test_the_running_airflow_shows_the_connection_type_with_all_its_fields() -> None:
    fields, behaviour = _form_of_airflow_2() if AIRFLOW_2 else _form_of_airflow_3()
    assert fields == list(connection_fields())
    assert behaviour == SpeechSenseHook.get_ui_field_behaviour()


def test_the_package_has_the_distributions_version() -> None:
    assert airflow_provider_speechsense.__version__ == importlib.metadata.version(DISTRIBUTION)
