"""Messages of gRPC services made at run time, from tables of their fields: no generated files, and no stubs of others.

Source: the descriptors of Protocol Buffers (``google/protobuf/descriptor.proto``), syntax proto3.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Fields = Sequence[tuple[str, int, str]]
"""Name, number and type of each field of a message. Types: a scalar's name, ``map`` from string to string,
``.package.Message``, ``enum .package.Enum``; with ``*`` before it many of it."""

_TYPES = {
    "int64": 3,
    "uint64": 4,
    "int32": 5,
    "bool": 8,
    "string": 9,
    "message": 11,
    "bytes": 12,
    "uint32": 13,
    "enum": 14,
}


def classes(
    packages: Mapping[str, Mapping[str, Fields]], enums: Mapping[str, Mapping[str, Sequence[str]]] | None = None
) -> Callable[[str], Any]:
    """A function from a full name (``package.Message``) to the class of that message, which makes all of them when it
    is first called.

    packages: fields by message by package; a package knows those before it and Empty, FieldMask and Timestamp of
    ``google.protobuf``. enums: their words, which count from 0, by name by package. Descriptors are this function's
    own, so that other stubs of the same packages may be loaded beside them.
    """

    @functools.cache
    def pool() -> Any:
        return _pool(packages, enums or {})

    @functools.cache
    def find(name: str) -> Any:
        from google.protobuf import message_factory

        return message_factory.GetMessageClass(pool().FindMessageTypeByName(name))

    return find


def _pool(packages: Mapping[str, Mapping[str, Fields]], enums: Mapping[str, Mapping[str, Sequence[str]]]) -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool, empty_pb2, field_mask_pb2, timestamp_pb2

    pool = descriptor_pool.DescriptorPool()
    known = []
    for each in (empty_pb2, field_mask_pb2, timestamp_pb2):
        pool.AddSerializedFile(each.DESCRIPTOR.serialized_pb)
        known.append(each.DESCRIPTOR.name)
    for package, messages in packages.items():
        file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
        file.dependency.extend(known)
        for name, words in enums.get(package, {}).items():
            enum = file.enum_type.add(name=name)
            for number, word in enumerate(words):
                enum.value.add(name=word, number=number)
        for name, fields in messages.items():
            _fill(file.message_type.add(name=name), fields)
        pool.AddSerializedFile(file.SerializeToString())
        known.append(file.name)
    return pool


def _fill(found: Any, fields: Fields) -> None:
    for name, number, kind in fields:
        field = found.field.add(name=name, number=number, label=3 if kind[0] == "*" or kind == "map" else 1)
        if kind == "map":  # as the language defines it: entries of a message with an option
            entry = found.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
            entry.options.map_entry = True
            _fill(entry, (("key", 1, "string"), ("value", 2, "string")))
            # Relative to the message, which lies in the file's package.
            field.type, field.type_name = _TYPES["message"], f"{found.name}.{entry.name}"
            continue
        word, _, target = kind.lstrip("*").rpartition(" ")
        field.type = _TYPES["enum" if word else "message" if target[0] == "." else target]
        if target[0] == ".":
            field.type_name = target


__all__ = ["Fields", "classes"]
