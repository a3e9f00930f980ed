"""Services that have no client here: the projects of Cloud Resource Manager, the perimeters of Access Context Manager,
the numbers and alarms of Cloud Monitoring, the prices of Cloud Billing.

They answer over REST alone, and are checked by Google's own discovery documents, which google-api-python-client ships:
routes, query parameters, and bodies field by field, in both directions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from google.iam.v1 import iam_policy_pb2
from google.protobuf.json_format import MessageToDict, ParseDict

from registry_pipelines.registry.embedded import Request, Response
from tests.doubles.google import billing, monitoring
from tests.doubles.google.doors import error_answer
from tests.doubles.google.services import iam_policy
from tests.doubles.google.world import Refusal, World

Json = dict[str, Any]
_PERMISSIONS = {
    "cloudresourcemanager.projects.getIamPolicy": "resourcemanager.projects.getIamPolicy",
    "cloudresourcemanager.projects.setIamPolicy": "resourcemanager.projects.setIamPolicy",
    "accesscontextmanager.accessPolicies.servicePerimeters.get": "accesscontextmanager.servicePerimeters.get",
    "accesscontextmanager.accessPolicies.servicePerimeters.patch": "accesscontextmanager.servicePerimeters.update",
    **monitoring.PERMISSIONS,
}


@dataclass
class Perimeters:
    """Perimeters by name, and what is under way. questions: how often an operation is asked for before it is done."""

    kept: dict[str, Json] = field(default_factory=dict)
    operations: dict[str, tuple[int, Json]] = field(default_factory=dict)
    questions: int = 0
    failure: Json | None = None
    """google.rpc.Status that changes end with."""


@dataclass
class Logs:
    """Entries of Cloud Logging, as its API gives them."""

    entries: list[Json] = field(default_factory=list)


@cache
def _document(name: str) -> Json:
    import googleapiclient

    path = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents" / f"{name}.json"
    found: Json = json.loads(path.read_text())
    return found


@cache
def _methods() -> list[tuple[Json, Json, re.Pattern[str]]]:
    """Document, method and the pattern of its path, of every method that is answered."""
    found = []
    for name in (
        "cloudresourcemanager.v3",
        "accesscontextmanager.v1",
        "logging.v2",
        "monitoring.v3",
        "cloudbilling.v1",
    ):
        document = _document(name)
        for method in _below(document["resources"]):
            if method["id"] in _HANDLERS and not method["parameterOrder"]:
                found.append((document, method, re.compile(f"/(?P<name>{re.escape(method['path'])})")))
            elif method["id"] in _HANDLERS:
                shape = method["parameters"][method["parameterOrder"][0]]["pattern"].strip("^$")
                path = re.sub(r"\{\+(\w+)\}", lambda match, shape=shape: f"(?P<name>{shape})", method["path"])  # type: ignore[misc]
                found.append((document, method, re.compile(f"/{path}")))
    return found


def _below(resources: Mapping[str, Json]) -> Iterator[Json]:
    for resource in resources.values():
        yield from resource.get("methods", {}).values()
        yield from _below(resource.get("resources", {}))


class DescribedDoor:
    """Answers what the methods above are asked; None for what is none of them."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(self, request: Request) -> Response | None:
        for document, method, pattern in _methods():
            match = pattern.fullmatch(unquote(request.path))
            if match and method["httpMethod"] == request.method:
                try:
                    return self._answer(request, document, method, match["name"])
                except Refusal as refusal:
                    return error_answer(refusal)
        return None

    def _answer(self, request: Request, document: Json, method: Json, name: str) -> Response:
        raw = request.body.read(1024 * 1024) or b""
        world, title = self._world, method["id"]
        world.calls[title] += 1
        fault = world.take_fault(title)
        if fault is not None and fault.refusal is not None:
            raise fault.refusal
        world.log_in(request.headers.get("authorization", ""))
        if title in _PERMISSIONS:
            world.may(_PERMISSIONS[title], name)
        query = {key: values[-1] for key, values in parse_qs(urlsplit(request.target).query).items()}
        if unknown := sorted(set(query) - set(method["parameters"]) - set(document["parameters"])):
            raise Refusal("INVALID_ARGUMENT", f"Unknown name {unknown[0]!r}: Cannot bind query parameter.")
        body = _read(raw)
        if "request" in method:
            wrong = list(_wrong(document, document["schemas"][method["request"]["$ref"]], body))
            if wrong:
                raise Refusal("INVALID_ARGUMENT", f"Invalid JSON payload received. {'; '.join(wrong)}")
        elif body:
            raise Refusal("INVALID_ARGUMENT", "a body is not taken")
        with world.lock:
            reply = _HANDLERS[title](world, name, body, query)
        if wrong := list(_wrong(document, document["schemas"][method["response"]["$ref"]], reply)):
            world.problems.append(f"{title}: the answer is wrong: {'; '.join(wrong)}")
        return Response(200, [("Content-Type", "application/json; charset=UTF-8")], json.dumps(reply).encode())


def _read(raw: bytes) -> Json:
    try:
        found = json.loads(raw or b"{}")
    except ValueError:
        raise Refusal("INVALID_ARGUMENT", "Invalid JSON payload received. Unexpected token.") from None
    if not isinstance(found, dict):
        raise Refusal("INVALID_ARGUMENT", "Invalid JSON payload received. Root element must be a message.")
    return found


def _wrong(document: Json, schema: Json, value: Any, where: str = "") -> Iterator[str]:
    """What a value has that its schema does not allow, at any depth."""
    if "$ref" in schema:
        schema = document["schemas"][schema["$ref"]]
    kind = schema.get("type", "any")
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
    if kind in kinds and not isinstance(value, kinds[kind]):
        yield f"{where or 'body'}: {value!r} is no {kind}"
    elif kind == "object":
        for key, each in value.items():
            below = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
            if below is None:
                yield f"Unknown name {key!r} at {where or 'the root'}"
            else:
                yield from _wrong(document, below, each, f"{where}.{key}".lstrip("."))
    elif kind == "array":
        for each in value:
            yield from _wrong(document, schema["items"], each, where)
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is none of {schema['enum']}"


def _get_policy(world: World, name: str, body: Json, query: Json) -> Json:
    """As IAM answers: without conditions to who does not ask for version 3 (IAM's guide on conditions)."""
    request = iam_policy_pb2.GetIamPolicyRequest(resource=name)
    found: Json = MessageToDict(iam_policy.get_policy(world, request))
    if body.get("options", {}).get("requestedPolicyVersion", 1) < 3:
        for each in found.get("bindings", ()):
            each.pop("condition", None)
    return found


def _set_policy(world: World, name: str, body: Json, query: Json) -> Json:
    members = {member for each in body["policy"].get("bindings", ()) for member in each.get("members", ())}
    if public := members & {"allUsers", "allAuthenticatedUsers"}:
        raise Refusal("INVALID_ARGUMENT", f"Projects do not support {', '.join(sorted(public))} as members.")
    request = ParseDict({"resource": name, "policy": body["policy"]}, iam_policy_pb2.SetIamPolicyRequest())
    found: Json = MessageToDict(iam_policy.set_policy(world, request))
    return found


def _get_perimeter(world: World, name: str, body: Json, query: Json) -> Json:
    kept = world.state(Perimeters).kept
    if name not in kept:
        raise Refusal("NOT_FOUND", f"Access Context Manager has no {name}")
    return kept[name]


def _patch_perimeter(world: World, name: str, body: Json, query: Json) -> Json:
    """UpdateServicePerimeter: the fields of its mask, and only over the state that its etag names."""
    there = _get_perimeter(world, name, {}, {})
    if not query.get("updateMask"):
        raise Refusal("INVALID_ARGUMENT", "update_mask: must be non-empty")
    if body.get("etag") and body["etag"] != there.get("etag"):
        raise Refusal("ABORTED", "etag: the perimeter was changed by somebody else")
    changed = json.loads(json.dumps(there))
    for path in query["updateMask"].split(","):
        head, _, last = path.partition(".")
        if head != "status" or last not in ("resources", "restrictedServices", "restricted_services"):
            raise Refusal("INVALID_ARGUMENT", f"update_mask: {path} is not answered here")
        changed.setdefault("status", {})[last] = body.get("status", {}).get(last, [])
    for each in changed["status"].get("resources", ()):
        if not re.fullmatch(r"projects/\d+|//compute\.googleapis\.com/.+", each):
            raise Refusal("INVALID_ARGUMENT", f"resources: {each} must have the form projects/NUMBER")
    changed["etag"] = str(int(there.get("etag", "1")) + 1)
    state = world.state(Perimeters)
    state.kept[name] = there if state.failure else changed
    done: Json = {"name": f"operations/{name}/replace/{len(state.operations)}", "done": True}
    done |= {"error": state.failure} if state.failure else {"response": changed}
    if not state.questions:
        return done
    state.operations[done["name"]] = (state.questions, done)
    return {"name": done["name"]}


def _get_operation(world: World, name: str, body: Json, query: Json) -> Json:
    state = world.state(Perimeters)
    if name not in state.operations:
        raise Refusal("NOT_FOUND", f"Operation {name} does not exist.")
    left, done = state.operations[name]
    state.operations[name] = (left - 1, done)
    return done if left <= 1 else {"name": name}


def _list_entries(world: World, name: str, body: Json, query: Json) -> Json:
    """Entries of projects by the filter that is used here, as Cloud Logging orders and pages them."""
    for project in body.get("resourceNames", ()):
        world.may("logging.logEntries.list", project)
        world.may("logging.privateLogEntries.list", project)  # data access logs are private
    limits = dict(re.findall(r'timestamp(>=|<)"([^"]+)"', body.get("filter", "")))
    if body.get("orderBy") not in ("timestamp asc", "timestamp desc") or not limits:
        raise Refusal("INVALID_ARGUMENT", "the double wants an order and limits of time")
    kept = [each for each in world.state(Logs).entries if limits[">="] <= each["timestamp"] < limits["<"]]
    kept.sort(key=lambda each: (each["timestamp"], each["insertId"]), reverse=body["orderBy"].endswith("desc"))
    first = int(body.get("pageToken", "0"))
    last = first + min(body.get("pageSize", 50), 1000)
    return {"entries": kept[first:last], **({"nextPageToken": str(last)} if last < len(kept) else {})}


_HANDLERS: dict[str, Callable[[World, str, Json, Json], Json]] = {
    "cloudresourcemanager.projects.getIamPolicy": _get_policy,
    "cloudresourcemanager.projects.setIamPolicy": _set_policy,
    "accesscontextmanager.accessPolicies.servicePerimeters.get": _get_perimeter,
    "accesscontextmanager.accessPolicies.servicePerimeters.patch": _patch_perimeter,
    "accesscontextmanager.operations.get": _get_operation,
    "logging.entries.list": _list_entries,
    **monitoring.HANDLERS,
    **billing.HANDLERS,
}

__all__ = ["DescribedDoor", "Logs", "Perimeters"]
