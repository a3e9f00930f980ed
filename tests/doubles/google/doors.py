"""The two doors of the double: gRPC and REST, before one table of handlers.

A handler is a function of the world and a request; it returns the answer or raises Refusal. Requests that the client's
own types, the service's rules or its documentation do not allow never reach it, and an answer that is not of the
method's type is a problem of the double, which the test then sees.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import MessageToDict, MessageToJson
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from registry_pipelines.registry.embedded import Request, Response
from tests.doubles.google.contract import Method, Route, dump, from_json, load, plain, problems, wrong_values
from tests.doubles.google.world import STATUS, Fault, Refusal, World

Handler = Callable[[World, Any], Any]
_CODES = {code.name: code for code in grpc.StatusCode}
_GRPC_NUMBERS = {name: code.value[0] for name, code in _CODES.items()}
_HTML = (
    b"<!DOCTYPE html><html><title>Error (Server Error)!!1</title><p>The server encountered a temporary error.</html>"
)


@dataclass(frozen=True)
class Service:
    """One service: its methods (``contract.read_methods``) and what answers those that it has.

    permissions: the IAM permission that a method needs, on the resource that its first field names. Methods without a
    handler are UNIMPLEMENTED.
    """

    name: str
    methods: Mapping[str, Method]
    handlers: Mapping[str, Handler]
    permissions: Mapping[str, str]


def answer(
    world: World, service: Service, method: Method, request: Any, authorization: str
) -> tuple[Any, Fault | None]:
    """Carry out one call: the answer and the fault that shall lose it. Raises Refusal."""
    world.calls[method.name] += 1
    fault = world.take_fault(method.name)
    if fault is not None and fault.refusal is not None and not fault.after:
        raise fault.refusal
    if fault is not None and fault.html and not fault.after:
        return None, fault
    world.log_in(authorization)
    if wrong := problems(method, request):
        raise Refusal("INVALID_ARGUMENT", "; ".join(wrong))
    handler = service.handlers.get(method.name)
    if handler is None:
        raise Refusal("UNIMPLEMENTED", f"{method.name}: the double does not have it")
    permission = service.permissions.get(method.name)
    if permission:
        world.may(permission, _resource(method, request))
    with world.lock:
        reply = handler(world, request)
    if not isinstance(reply, method.response):
        raise AssertionError(
            f"{method.name}: the handler answers {type(reply).__name__}, not {method.response.__name__}"
        )
    if wrong := list(wrong_values(plain(reply))):
        raise AssertionError(f"{method.name}: the answer is wrong: {'; '.join(wrong)}")
    if fault is not None and fault.refusal is not None:
        raise fault.refusal
    return reply, fault


def _resource(method: Method, request: Any) -> str:
    for route in method.routes[:1]:
        value = request
        for name in route.fields[0].split("."):
            value = getattr(value, name)
        return str(value)
    return str(getattr(request, "name", "") or getattr(request, "parent", ""))


def _carried_out(
    world: World, service: Service, method: Method, request: Any, authorization: str
) -> tuple[Any, Fault | None]:
    try:
        return answer(world, service, method, request, authorization)
    except Refusal:
        raise
    except Exception as error:
        world.problems.append(f"{method.name}: {type(error).__name__}: {error}")
        raise Refusal("INTERNAL", "the double is wrong; see its problems") from error


# gRPC


class GrpcDoor:
    """gRPC on a loopback port."""

    def __init__(self, world: World, services: Sequence[Service]) -> None:
        self._world = world
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        tables: dict[str, dict[str, Any]] = {}
        for service in services:
            for method in service.methods.values():
                owner = method.path.split("/")[1]
                table = tables.setdefault(owner, {})
                if method.name in service.handlers or method.name not in table:
                    table[method.name] = self._door(service, method)
        handlers = [grpc.method_handlers_generic_handler(owner, table) for owner, table in tables.items()]
        self._server.add_generic_rpc_handlers(tuple(handlers))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def _door(self, service: Service, method: Method) -> Any:
        def call(request: Any, context: Any) -> Any:
            said = {key.lower(): value for key, value in context.invocation_metadata()}
            try:
                reply, fault = _carried_out(self._world, service, method, request, str(said.get("authorization", "")))
            except Refusal as refusal:
                context.abort_with_status(rpc_status.to_status(status_of(refusal)))
            if fault is not None and fault.html:
                context.abort(grpc.StatusCode.UNKNOWN, f"Received http2 header with status: {fault.html}")
            return reply

        return grpc.unary_unary_rpc_method_handler(call, lambda raw: load(method.request, raw), dump)


def status_of(refusal: Refusal, *, retry_after_s: float | None = None) -> Status:
    """google.rpc.Status of a refusal, as both doors send it."""
    status = Status(code=_GRPC_NUMBERS[refusal.code], message=refusal.message)
    if refusal.reason:
        info = ErrorInfo(reason=refusal.reason, domain="googleapis.com", metadata=refusal.facts)
        packed = AnyMessage()
        packed.Pack(info)
        status.details.append(packed)
    if retry_after_s is not None:
        wait = RetryInfo()
        wait.retry_delay.FromMilliseconds(int(retry_after_s * 1000))
        packed = AnyMessage()
        packed.Pack(wait)
        status.details.append(packed)
    return status


# REST


class RestDoor:
    """REST: a handler for an HTTP server. ``others`` answer paths that are no service's (token endpoints)."""

    def __init__(
        self, world: World, services: Sequence[Service], others: Sequence[Callable[[Request], Response | None]]
    ) -> None:
        self._world, self._others = world, others
        found = [
            (route, service, method)
            for service in services
            for method in service.methods.values()
            for route in method.routes
        ]
        # `repositories/r:getIamPolicy` fits the pattern of `repositories/*`, too: the more that is said, the earlier.
        # Of services that share a method the one that answers it comes first.
        self._routes = sorted(found, key=lambda each: (-_said(each[0]), each[2].name not in each[1].handlers))

    def __call__(self, request: Request) -> Response:
        path = urlsplit(request.target).path
        for route, service, method in self._routes:
            match = route.pattern.fullmatch(path) if route.verb == request.method else None
            if match:
                return self._call(request, route, service, method, match)
        for each in self._others:
            if (other := each(request)) is not None:
                return other
        return Response(404, [("Content-Type", "text/html; charset=UTF-8")], b"<!DOCTYPE html><title>Error 404</title>")

    def _call(self, request: Request, route: Route, service: Service, method: Method, match: Any) -> Response:
        try:
            # A body is read before any refusal, as front ends do, so that the connection can go on.
            raw = request.body.read(16 * 1024 * 1024) or b""
            message = _read_rest(request, raw, route, method, match)
            reply, fault = _carried_out(self._world, service, method, message, request.headers.get("authorization", ""))
        except Refusal as refusal:
            return error_answer(refusal)
        if fault is not None and fault.html:
            headers = [("Content-Type", "text/html; charset=UTF-8")]
            if fault.retry_after_s is not None:
                headers.append(("Retry-After", f"{fault.retry_after_s:g}"))
            return Response(fault.html, headers, _HTML)
        numbers = "enum-encoding=int" in request.parameter("$alt")
        body = MessageToJson(plain(reply), use_integers_for_enums=numbers)
        return Response(200, [("Content-Type", "application/json; charset=UTF-8")], body.encode())


def _said(route: Route) -> int:
    return len(route.pattern.pattern.replace("[^/]+", "").replace(".+", ""))


def _read_rest(request: Request, raw: bytes, route: Route, method: Method, match: Any) -> Any:
    """The message that a REST request means (google/api/http.proto, "HTTP mapping"). Raises Refusal."""
    document: dict[str, Any] = {}
    if route.body:
        try:
            sent = json.loads(raw or b"{}")
        except ValueError:
            raise Refusal("INVALID_ARGUMENT", "Invalid JSON payload received. Unexpected token.") from None
        if not isinstance(sent, dict):
            raise Refusal("INVALID_ARGUMENT", "Invalid JSON payload received. Root element must be a message.")
        document = sent if route.body == "*" else {route.body: sent}
    elif raw:
        raise Refusal("INVALID_ARGUMENT", f"{method.name}: a body is not taken")
    query = parse_qs(urlsplit(request.target).query, keep_blank_values=True)
    asked = {key: values for key, values in query.items() if not key.startswith("$")}
    missing = [name for name in method.required_query if name not in asked]
    if missing:
        raise Refusal("INVALID_ARGUMENT", f"{', '.join(missing)}: required and not in the query")
    descriptor = plain(method.request()).DESCRIPTOR
    for key, values in asked.items():
        _set(document, key, _typed(descriptor, key, values))
    for place, name in enumerate(route.fields):
        _set(document, name, unquote(match[f"f{place}"].replace("%2F", "%252F").replace("%2f", "%252F")))
    try:
        return from_json(method.request, document)
    except ValueError as error:
        raise Refusal("INVALID_ARGUMENT", str(error)) from None


def _typed(descriptor: Any, key: str, values: list[str]) -> Any:
    """Query values as JSON would have them."""
    field = None
    for part in key.split("."):
        names = {**descriptor.fields_by_name, **descriptor.fields_by_camelcase_name}
        field = names.get(part)
        if field is None:
            raise Refusal(
                "INVALID_ARGUMENT", f'Invalid JSON payload received. Unknown name "{key}": Cannot bind query.'
            )
        descriptor = field.message_type or descriptor
    made = [value == "true" if field and field.type == field.TYPE_BOOL else _number(field, value) for value in values]
    return made if field is not None and field.is_repeated else made[-1]


def _number(field: Any, value: str) -> Any:
    return int(value) if field.enum_type and value.lstrip("-").isdigit() else value


def _set(document: dict[str, Any], path: str, value: Any) -> None:
    *above, last = path.split(".")
    for name in above:
        document = document.setdefault(name, {})
    document[last] = value


def error_answer(refusal: Refusal) -> Response:
    """An error as Google's REST front ends write it."""
    details = [MessageToDict(each) for each in status_of(refusal).details]
    error: dict[str, Any] = {"code": STATUS[refusal.code], "message": refusal.message, "status": refusal.code}
    if details:
        error["details"] = details
    return Response(
        STATUS[refusal.code],
        [("Content-Type", "application/json; charset=UTF-8")],
        json.dumps({"error": error}).encode(),
    )


__all__ = ["GrpcDoor", "Handler", "RestDoor", "Service", "error_answer", "status_of"]
