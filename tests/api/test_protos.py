"""The messages and methods of the remote services, in a descriptor pool of their own."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from google.protobuf import descriptor_pool, timestamp_pb2

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.api.protos import METHODS, message_class

TALK_PROTO = "yandex/cloud/speechsense/v1/talk.proto"
#: What "package/Service/Method" streams: nothing, the request, the answer, or both.
EXPECTED = {
    "yandex.cloud.speechsense.v1.TalkService": {
        "UploadAsStream": "request",
        "Upload": "",
        "UploadText": "",
        "UploadBadge": "request",
        "Search": "",
        "Get": "",
    },
    "yandex.cloud.speechsense.v1.ProjectService": {"Create": ""},
    "yandex.cloud.speechsense.v1.AssistantsService": {"List": "", "ListModels": ""},
    "yandex.cloud.speechsense.v1.ClassifiersService": {"List": ""},
    "yandex.cloud.operation.OperationService": {"Get": "", "Cancel": ""},
    "yandex.cloud.iam.v1.IamTokenService": {"Create": "", "CreateForServiceAccount": "", "Revoke": ""},
    "speechkit.stt.v3.Recognizer": {"RecognizeStreaming": "both"},
    "speechkit.stt.v3.AsyncRecognizer": {
        "RecognizeFile": "",
        "GetRecognition": "answer",
        "DeleteRecognition": "",
    },
}


def streams(method: protos.Method) -> str:
    sides = (method.client_streaming, method.server_streaming)
    return {(0, 0): "", (1, 0): "request", (0, 1): "answer", (1, 1): "both"}[sides]


def test_there_are_19_methods_under_their_documented_paths() -> None:
    expected = {
        f"/{service}/{method}": kind
        for service, methods in EXPECTED.items()
        for method, kind in methods.items()
    }
    assert len(METHODS) == 19
    assert {method.path: streams(method) for method in METHODS.values()} == expected


def test_a_methods_short_name_is_service_and_method() -> None:
    for name, method in METHODS.items():
        assert method.path.endswith(f".{name}")


def test_a_method_knows_its_messages() -> None:
    badge = METHODS["TalkService/UploadBadge"]
    assert badge.request is protos.speechsense.StreamTalkRequest
    assert badge.response is protos.operation.Operation


@pytest.mark.parametrize(
    ("message", "oneof", "members"),
    [
        (protos.speechsense.StreamTalkRequest, "Event", {"metadata": 1, "audio": 2}),
        (protos.speechsense.AudioStreamingRequest, "AudioEvent", {"audio_metadata": 1, "chunk": 2}),
        (protos.speechsense.AudioMetadata, "AudioFormat", {"raw_audio": 1, "container_audio": 2}),
        (
            protos.speechsense.Filter,
            "filter",
            {
                "any_match": 2,
                "int_range": 3,
                "double_range": 4,
                "date_range": 5,
                "duration_range": 6,
                "boolean_match": 9,
            },
        ),
        (protos.speechsense.Message, "payload", {"text": 3}),
        (protos.operation.Operation, "result", {"error": 8, "response": 9}),
        (
            protos.analysis.AssistantFieldResult,
            "field_type",
            {"string_result": 2, "int_result": 3, "float_result": 4},
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value),
)
def test_a_oneof_has_its_members_and_setting_one_unsets_the_others(
    message: Any, oneof: str, members: dict[str, int]
) -> None:
    fields = message.DESCRIPTOR.oneofs_by_name[oneof].fields
    assert {field.name: field.number for field in fields} == members
    made = message()
    for field in fields:
        if field.message_type:
            getattr(made, field.name).SetInParent()
        else:
            setattr(made, field.name, field.default_value)
        assert made.WhichOneof(oneof) == field.name


def test_fields_that_are_easily_mistaken_are_where_the_service_has_them() -> None:
    def number(message: Any, field: str) -> int:
        return int(message.DESCRIPTOR.fields_by_name[field].number)

    speechsense = protos.speechsense
    assert number(speechsense.UploadTalkRequest, "talk_id") == 3
    assert number(speechsense.GetTalkResponse, "talk") == 1
    assert number(speechsense.Talk, "talk_state") == 19
    assert number(speechsense.Talk, "assistants") == 20
    assert number(protos.analysis.SummarizationField, "id") == 3
    assert number(protos.stt.SpeechAnalysisOptions, "converstation_options") == 5


def test_an_empty_mask_differs_from_none_on_the_wire() -> None:
    request = protos.speechsense.GetTalkRequest()
    assert request.SerializeToString() == b""
    request.results_mask.SetInParent()
    assert request.SerializeToString() == b"\x32\x00"


def test_enums_go_by_name_and_number() -> None:
    state = protos.speechsense.ProcessingState
    assert state.Name(3) == "PROCESSING_STATE_SUCCESS"
    assert state.Value("PROCESSING_STATE_FAILED") == state.PROCESSING_STATE_FAILED == 4
    with pytest.raises(ValueError, match="9"):
        state.Name(9)
    assert protos.analysis.SummarizationFieldType.TEXT_ARRAY == 2


def test_a_class_is_made_once_however_it_is_asked_for() -> None:
    talk = message_class("yandex.cloud.speechsense.v1.Talk")
    assert talk is protos.speechsense.Talk is protos.speechsense.Talk
    assert type(protos.speechsense.GetTalkResponse(talk=[talk()]).talk[0]) is talk


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(AttributeError, match=r"yandex\.cloud\.speechsense\.v1 has no message or enum 'Tlak'"):
        _ = protos.speechsense.Tlak
    with pytest.raises(KeyError):
        message_class("of.Tomorrow")


# --- the pool


def test_well_known_types_have_their_helpers_and_are_not_those_of_the_default_pool() -> None:
    stamp = protos.well_known.Timestamp()
    stamp.FromJsonString("2025-04-24T14:34:19Z")
    assert stamp.ToJsonString() == "2025-04-24T14:34:19Z"
    assert not isinstance(stamp, timestamp_pb2.Timestamp)


def test_nothing_of_ours_is_in_the_default_pool() -> None:
    code = (
        "from google.protobuf import descriptor_pool; import airflow_provider_speechsense.api.protos\n"
        f"descriptor_pool.Default().FindFileByName({TALK_PROTO!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "KeyError" in done.stderr


FOREIGN = f"""
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
file = descriptor_pb2.FileDescriptorProto(
    name={TALK_PROTO!r}, package="yandex.cloud.speechsense.v1", syntax="proto3"
)
file.message_type.add(name="Talk").field.add(name="other", number=1, type=9, label=1)
pool = descriptor_pool.Default()
pool.AddSerializedFile(file.SerializeToString())
foreign = message_factory.GetMessageClass(pool.FindMessageTypeByName("yandex.cloud.speechsense.v1.Talk"))
assert foreign(other="x").other == "x"
"""
OURS = """
from airflow_provider_speechsense.api import protos
assert protos.speechsense.Talk(id="aud1").id == "aud1"
"""


@pytest.mark.parametrize("code", [FOREIGN + OURS, OURS + FOREIGN], ids=["foreign first", "ours first"])
def test_another_package_may_register_the_same_file_differently_before_or_after(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_our_pool_is_not_the_default_one() -> None:
    assert protos.speechsense.Talk.DESCRIPTOR.file.pool is not descriptor_pool.Default()
