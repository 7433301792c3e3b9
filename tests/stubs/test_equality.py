"""Our descriptors are those of the service's official stubs, field by field, and live beside them."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

import airflow_provider_speechsense.api as api

OURS = {
    file.name: file
    for file in descriptor_pb2.FileDescriptorSet.FromString(
        Path(api.__file__).with_name("speechsense.binpb").read_bytes()
    ).file
}
FieldProto = descriptor_pb2.FieldDescriptorProto
files = pytest.mark.parametrize("name", OURS)


def official(name: str) -> Any:
    """Return the official descriptor of a file."""
    module: Any = importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
    return descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)


def messages(parent: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all messages of a file with their names, nested ones and those that stand for maps included."""
    for message in parent.message_type if hasattr(parent, "message_type") else parent.nested_type:
        yield prefix + message.name, message
        yield from messages(message, f"{prefix}{message.name}.")


def shape_of_fields(file: Any) -> dict[str, tuple[Any, ...]]:
    return {
        f"{name}.{field.name}": (
            field.number,
            FieldProto.Type.Name(field.type),
            FieldProto.Label.Name(field.label),
            field.type_name,
            message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None,
            field.proto3_optional,
        )
        for name, message in messages(file)
        for field in message.field
    }


def shape_of_messages(file: Any) -> dict[str, tuple[Any, ...]]:
    return {
        name: (sorted(oneof.name for oneof in message.oneof_decl), message.options.map_entry)
        for name, message in messages(file)
    }


def shape_of_enums(file: Any) -> dict[str, dict[str, int]]:
    owners = [("", file), *((f"{name}.", message) for name, message in messages(file))]
    return {
        prefix + enum.name: {value.name: value.number for value in enum.value}
        for prefix, owner in owners
        for enum in owner.enum_type
    }


def shape_of_methods(file: Any) -> dict[str, tuple[Any, ...]]:
    return {
        f"{service.name}/{method.name}": (
            method.input_type,
            method.output_type,
            method.client_streaming,
            method.server_streaming,
        )
        for service in file.service
        for method in service.method
    }


@files
def test_a_file_is_of_the_same_package_and_syntax(name: str) -> None:
    assert (OURS[name].package, OURS[name].syntax) == (official(name).package, official(name).syntax)


@files
def test_every_field_has_the_same_name_number_type_label_and_oneof(name: str) -> None:
    assert shape_of_fields(OURS[name]) == shape_of_fields(official(name))


@files
def test_every_message_has_the_same_oneofs(name: str) -> None:
    assert shape_of_messages(OURS[name]) == shape_of_messages(official(name))


@files
def test_every_enum_has_the_same_values(name: str) -> None:
    assert shape_of_enums(OURS[name]) == shape_of_enums(official(name))


@files
def test_every_service_has_the_same_methods_with_the_same_streaming(name: str) -> None:
    assert shape_of_methods(OURS[name]) == shape_of_methods(official(name))


def test_no_file_of_the_services_we_speak_is_missing() -> None:
    import yandex.cloud.ai.stt.v3.stt_pb2 as stt
    import yandex.cloud.operation.operation_pb2 as operation
    import yandex.cloud.speechsense.v1.talk_pb2 as speechsense

    # Options of packages and of HTTP are not spoken over gRPC.
    theirs = {
        f"{package}/{path.name.removesuffix('_pb2.py')}.proto"
        for module, package in (
            (speechsense, "yandex/cloud/speechsense/v1"),
            (operation, "yandex/cloud/operation"),
            (stt, "yandex/cloud/ai/stt/v3"),
        )
        for path in Path(module.__file__).parent.glob("*_pb2.py")
        if path.name != "package_options_pb2.py"
    }
    analysis = "yandex/cloud/speechsense/v1/analysis"
    folder = Path(speechsense.__file__).with_name("analysis")
    theirs |= {f"{analysis}/{path.name.removesuffix('_pb2.py')}.proto" for path in folder.glob("*_pb2.py")}
    assert len(theirs) > 25
    assert theirs - OURS.keys() == set()


# --- side by side

THEIRS = "import yandex.cloud.speechsense.v1.talk_service_pb2 as theirs\n"
PACKAGE = "import airflow_provider_speechsense.api.protos as ours\n"
USE = """
request = ours.speechsense.SearchTalkRequest(space_id="s1", filters=[{"key": "userMeta.x"}])
again = theirs.SearchTalkRequest.FromString(request.SerializeToString())
assert again.space_id == "s1" and again.filters[0].key == "userMeta.x"
assert type(again) is not type(request)
"""


@pytest.mark.parametrize("imports", [THEIRS + PACKAGE, PACKAGE + THEIRS], ids=["theirs first", "ours first"])
def test_both_packages_work_in_one_process_whichever_comes_first(imports: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", imports + USE],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
