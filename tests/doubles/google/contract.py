"""What a Google service takes and gives, read from its own client library: methods, types, REST routes, field rules.

Nothing is written down twice: request and answer types are the annotations of the client's transport, gRPC paths are
what the transport asks its channel for, REST routes are the library's own tables (the `google.api.http` rules of the
service's description), and what is required is what the types' documentation calls so.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.unknown_fields import UnknownFieldSet

_SEGMENT = re.compile(r"\{([a-z_.]+)(?:=([^}]*))?\}")
_REQUIRED = re.compile(r"^ {8}(\w+) \([^\n]*(?:\n {10,}[^\n]*\))?:\n\s+Required\b", re.MULTILINE)


@dataclass(frozen=True)
class Route:
    """One way to call a method over REST. pattern: of the path, with a group ``f0``, ``f1`` for each of ``fields``.
    body: the field that the body is, ``*`` for all of the request, empty for none."""

    verb: str
    pattern: re.Pattern[str]
    fields: tuple[str, ...]
    body: str
    shapes: tuple[re.Pattern[str], ...]
    """What each of the fields must look like, wherever the request came by."""


@dataclass(frozen=True)
class Method:
    """One RPC. name: as the service's description has it (``ListDockerImages``). path: ``/service/name``.
    required_query: fields that REST refuses to be without."""

    name: str
    path: str
    request: type[Any]
    response: type[Any]
    routes: tuple[Route, ...]
    required_query: tuple[str, ...] = ()


class _Recorder(grpc.Channel):  # type: ignore[misc]
    """A channel that answers with the path it was asked for."""

    def unary_unary(self, method: str, *_: object, **__: object) -> Any:
        return method

    def unary_stream(self, method: str, *_: object, **__: object) -> Any:
        return lambda: method  # streams are not played

    stream_unary = stream_stream = unary_stream

    def subscribe(self, *_: object, **__: object) -> None: ...
    def unsubscribe(self, *_: object) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> _Recorder:
        return self

    def __exit__(self, *_: object) -> bool:
        return False


def read_methods(grpc_transport: type[Any], rest_base: type[Any] | None) -> dict[str, Method]:
    """The methods of a service by name. grpc_transport: the client's class for gRPC; rest_base: the one that has its
    REST rules (``rest_base._Base<Service>RestTransport``), None where the client has no REST."""
    recorder = _Recorder()
    transport = grpc_transport(channel=recorder)
    transport._logged_channel = recorder
    transport._stubs.clear()
    found = {}
    for attribute in dir(grpc_transport):
        door = getattr(grpc_transport, attribute)
        hints = typing.get_type_hints(door.fget).get("return") if isinstance(door, property) and door.fget else None
        if typing.get_origin(hints) is not typing.get_origin(typing.Callable[[int], int]):
            continue
        path = getattr(transport, attribute)
        if not isinstance(path, str):
            continue
        (request,), response = typing.get_args(hints)
        name = path.rpartition("/")[2]
        rules = getattr(rest_base, f"_Base{name}", None) if rest_base else None
        found[name] = Method(name, path, request, response, tuple(_routes(rules)), tuple(_required_query(rules)))
    return found


def _routes(rules: Any) -> Iterator[Route]:
    for option in next((getattr(rules, each)() for each in dir(rules) if each.endswith("_get_http_options")), ()):
        fields: list[str] = []
        shapes: list[re.Pattern[str]] = []

        def group(match: re.Match[str], fields: list[str] = fields, shapes: list[re.Pattern[str]] = shapes) -> str:
            shape = _as_pattern(match[2] or "*")
            fields.append(match[1])
            shapes.append(re.compile(shape))
            return f"\0{len(fields) - 1}\0{shape}\0"

        marked = _SEGMENT.sub(group, option["uri"])
        parts = marked.split("\0")
        pattern = "".join(
            re.escape(part) if place % 3 == 0 else f"(?P<f{part}>" if place % 3 == 1 else f"{part})"
            for place, part in enumerate(parts)
        )
        yield Route(option["method"].upper(), re.compile(pattern), tuple(fields), option.get("body", ""), tuple(shapes))


def _as_pattern(template: str) -> str:
    return re.escape(template).replace(r"\*\*", ".+").replace(r"\*", "[^/]+")


def _required_query(rules: Any) -> Sequence[str]:
    kept: Mapping[str, Any] = next(
        (getattr(rules, each) for each in dir(rules) if each.endswith("__REQUIRED_FIELDS_DEFAULT_VALUES")), {}
    )
    return list(kept)


# Messages


def plain(message: Any) -> Any:
    """The protocol buffer below a message of proto-plus; others as they are."""
    return type(message).pb(message) if hasattr(type(message), "pb") else message


def dump(message: Any) -> bytes:
    """A message as it is sent."""
    return bytes(plain(message).SerializeToString())


def load(kind: type[Any], raw: bytes) -> Any:
    """A message as it came."""
    return kind.deserialize(raw) if hasattr(kind, "deserialize") else kind.FromString(raw)


def from_json(kind: type[Any], document: Mapping[str, Any]) -> Any:
    """A message from JSON, strictly. Raises ValueError, with Google's words for what it does not know."""
    message = kind()
    try:
        ParseDict(dict(document), plain(message))
    except ParseError as error:
        raise ValueError(f"Invalid JSON payload received. {error}") from None
    return message


def find(message: Any, path: str) -> Any:
    """The value of ``repository.name``."""
    for name in path.split("."):
        message = getattr(message, name)
    return message


def problems(method: Method, request: Any) -> list[str]:
    """What is wrong with a request: unknown fields and values, missing fields, names of another form."""
    found = list(wrong_values(plain(request)))
    found += [f"{field}: missing" for field in required(method.request) if not _is_set(request, field)]
    if method.routes and not any(_fits(route, request) for route in method.routes):
        route = method.routes[0]
        shown = ", ".join(f"{field}={find(request, field)!r}" for field in route.fields)
        found.append(f"{shown}: not of the form {' '.join(shape.pattern for shape in route.shapes)}")
    return found


def _fits(route: Route, request: Any) -> bool:
    return all(
        shape.fullmatch(str(find(request, field))) for field, shape in zip(route.fields, route.shapes, strict=True)
    )


def required(kind: type[Any]) -> list[str]:
    """Fields that the documentation of a type calls required."""
    return _REQUIRED.findall(kind.__doc__ or "")


def _is_set(message: Any, field: str) -> bool:
    raw = plain(message)
    described = raw.DESCRIPTOR.fields_by_name.get(field)
    if described is None:  # proto-plus writes `hash_` for a word of Python's
        return True
    if described.is_repeated:
        return len(getattr(raw, field)) > 0
    if described.message_type:
        return bool(raw.HasField(field))
    # Of a number or a truth value nobody can tell whether its zero was sent.
    return bool(getattr(raw, field)) or described.type not in (described.TYPE_STRING, described.TYPE_BYTES)


def wrong_values(raw: Any, where: str = "") -> Iterator[str]:
    """Unknown fields, and numbers that an enumeration does not have, at any depth."""
    if len(UnknownFieldSet(raw)):
        yield f"{where or raw.DESCRIPTOR.name}: unknown fields"
    for field, value in raw.ListFields():
        name = f"{where}.{field.name}".lstrip(".")
        if field.message_type and field.message_type.GetOptions().map_entry:
            continue
        values = value if field.is_repeated else [value]
        for each in values:
            if field.enum_type and each not in field.enum_type.values_by_number:
                yield f"{name}: {each} is no {field.enum_type.name}"
            if field.message_type and field.message_type.file.package != "google.protobuf":
                yield from wrong_values(each, name)


__all__ = [
    "Method",
    "Route",
    "dump",
    "find",
    "from_json",
    "load",
    "plain",
    "problems",
    "read_methods",
    "required",
    "wrong_values",
]
