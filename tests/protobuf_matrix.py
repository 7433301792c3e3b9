"""The descriptors under the installed protobuf; ``make test-protobuf`` runs this under each major.

A plain script: an environment with protobuf and nothing else is made in a second. The argument is the version
that must be there.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import google.protobuf
from google.protobuf import json_format

from airflow_provider_speechsense.api.protos import METHODS, message_class, rpc, speechsense, stt, well_known


def messages_survive_the_wire() -> None:
    operator = speechsense.UserMetadata(
        id="7", role=speechsense.UserRole.USER_ROLE_OPERATOR, fields={"name": "Мария"}
    )
    request = speechsense.StreamTalkRequest(
        metadata=speechsense.TalkMetadata(connection_id="c1", fields={"language": "ru"}, users=[operator])
    )
    again = speechsense.StreamTalkRequest.FromString(request.SerializeToString())
    assert again == request
    assert again.metadata.users[0].fields["name"] == "Мария"
    as_json = json_format.MessageToDict(again, preserving_proto_field_name=True)
    assert json_format.ParseDict(as_json, speechsense.StreamTalkRequest()) == request


def every_method_has_its_messages() -> None:
    assert len(METHODS) == 19, sorted(METHODS)
    for method in METHODS.values():
        for message in (method.request, method.response):
            assert message.FromString(message().SerializeToString()) == message()
            assert message_class(message.DESCRIPTOR.full_name) is message
    assert METHODS["TalkService/UploadAsStream"].client_streaming
    assert not METHODS["TalkService/Get"].client_streaming


def well_known_types_keep_their_helpers() -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    stamp = well_known.Timestamp()
    stamp.FromDatetime(when)
    assert stamp.ToDatetime(tzinfo=UTC) == when
    assert stamp.ToJsonString() == "2026-01-02T03:04:05Z"

    packed = well_known.Any()
    packed.Pack(rpc.Status(code=5, message="no such talk"))
    unpacked = rpc.Status()
    assert packed.Is(rpc.Status.DESCRIPTOR)
    assert packed.Unpack(unpacked)
    assert unpacked.message == "no such talk"

    mask = well_known.FieldMask()
    mask.FromJsonString("transcription,speechStatistics")
    assert list(mask.paths) == ["transcription", "speech_statistics"]

    structure = well_known.Struct()
    structure.update({"a": [1, {"b": None}]})
    assert json_format.MessageToDict(structure) == {"a": [1.0, {"b": None}]}

    assert json_format.MessageToDict(well_known.Int64Value(value=3)) == "3"
    assert json_format.MessageToDict(well_known.BoolValue(value=True)) is True


def main() -> None:
    found = google.protobuf.__version__
    wanted = sys.argv[1] if len(sys.argv) > 1 else found
    assert found == wanted, f"protobuf {found} is installed, not {wanted}"
    for check in (
        messages_survive_the_wire,
        every_method_has_its_messages,
        well_known_types_keep_their_helpers,
    ):
        check()
    assert stt.StreamingResponse().SerializeToString() == b""
    print(f"protobuf {found}: OK")


if __name__ == "__main__":
    main()
