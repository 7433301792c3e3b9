"""The remote services' messages and methods, from descriptors in a pool of our own.

Generated ``_pb2`` modules register themselves in protobuf's process-wide pool. The ``yandexcloud``
package, installed with every Yandex provider, registers the same file names there, and the second
of the two fails with "duplicate file name". They also pin the protobuf runtime. A private pool filled
from a descriptor set has neither fault.

``speechsense.Talk``, ``analysis.Phrase``, ``operation.Operation``, ``iam.CreateIamTokenRequest``,
``stt.StreamingResponse``, ``rpc.Status``, ``well_known.Timestamp``: message classes and enums by package.
``METHODS``: what to call. ``message_class(full_name)``: what a ``google.protobuf.Any`` holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

_pool = descriptor_pool.DescriptorPool()

# From the installed runtime, so that these types always fit it.
for _module in (
    any_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
):
    _pool.AddSerializedFile(_module.DESCRIPTOR.serialized_pb)

_files = descriptor_pb2.FileDescriptorSet.FromString(
    Path(__file__).with_name("speechsense.binpb").read_bytes()
)
for _file in _files.file:
    _pool.AddSerializedFile(_file.SerializeToString())


def message_class(full_name: str) -> Any:
    """Return the class of the message with this full name, without a leading dot.

    :raises KeyError: no such message
    """
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(full_name))


class _Package:
    """The messages and enums of one proto package, made when first asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        full_name = f"{self._name}.{name}"
        try:
            found = message_class(full_name)
        except KeyError:
            try:
                found = EnumTypeWrapper(_pool.FindEnumTypeByName(full_name))
            except KeyError:
                raise AttributeError(f"{self._name} has no message or enum {name!r}") from None
        setattr(self, name, found)
        return found


speechsense = _Package("yandex.cloud.speechsense.v1")
analysis = _Package("yandex.cloud.speechsense.v1.analysis")
operation = _Package("yandex.cloud.operation")
iam = _Package("yandex.cloud.iam.v1")
stt = _Package("speechkit.stt.v3")
rpc = _Package("google.rpc")
well_known = _Package("google.protobuf")


@dataclass(frozen=True)
class Method:
    """One RPC: its path on the wire, its message classes, and which sides stream."""

    path: str
    request: Any
    response: Any
    client_streaming: bool
    server_streaming: bool


def _method(package: str, service: str, proto: descriptor_pb2.MethodDescriptorProto) -> Method:
    return Method(
        f"/{package}.{service}/{proto.name}",
        message_class(proto.input_type.lstrip(".")),
        message_class(proto.output_type.lstrip(".")),
        proto.client_streaming,
        proto.server_streaming,
    )


#: By "Service/Method", which is unique over all packages here.
METHODS: dict[str, Method] = {
    f"{_service.name}/{_proto.name}": _method(_file.package, _service.name, _proto)
    for _file in _files.file
    for _service in _file.service
    for _proto in _service.method
}
