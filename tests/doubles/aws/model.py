"""AWS's APIs as botocore's models have them: shapes, errors, signatures. Nothing here knows what an operation does."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.validate import ParamValidator

from tests.doubles.wire import Head

SECRET_KEY = "hushhush0123456789"
"""The AWS_SECRET_ACCESS_KEY that requests must be signed with."""

SCOPE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request, "
    r"SignedHeaders=(?P<names>[^,]+), Signature=(?P<signature>.+)"
)

Values = dict[str, Any]


class ApiError(Exception):
    """An answer with a code of a service's model, or one of AWS's common ones."""

    def __init__(self, code: str, message: str = "", *, status: int = 400, **fields: Any) -> None:
        super().__init__(code)
        self.code, self.message, self.status, self.fields = code, message, status, fields


@functools.cache
def model_of(service: str) -> Any:
    """botocore's model, by botocore's name of the service."""
    return botocore.session.get_session().get_service_model(service)


def check_request(service: str, operation: str, values: Values) -> None:
    """Raises InvalidParameterException as ECR does: batches are bounded, names have a pattern."""
    shape = model_of(service).operation_model(operation).input_shape
    problem = "; ".join(problems(shape, values))
    if problem:
        raise ApiError("InvalidParameterException", problem)


def check_reply(service: str, operation: str, values: Values) -> None:
    """The double's own answers are the model's too; raises AssertionError. Services answer with empty lists where the
    model, shared with requests, wants one entry at least."""
    shape = model_of(service).operation_model(operation).output_shape
    found = list(problems(shape, values, empty_lists=True))
    assert not found, f"{operation}: {found}"


def check_error(service: str, operation: str, code: str) -> None:
    """An operation gives only the errors that the model lists for it, or AWS's common ones; raises AssertionError."""
    model = model_of(service)
    known = {_code(shape) for shape in model.operation_model(operation).error_shapes}
    everybody = {_code(shape) for name in model.operation_names for shape in model.operation_model(name).error_shapes}
    assert code in known or code not in everybody, f"{operation} never gives {code}"


def _code(shape: Any) -> str:
    return str(shape.metadata.get("error", {}).get("code") or shape.name)


def problems(shape: Any, values: Values, *, empty_lists: bool = False) -> Iterator[str]:
    """Everything that a value breaks of its shape. ParamValidator checks names, types and minima; patterns, maxima and
    enumerations are the shape's, at any depth."""
    if shape is None:
        if values:
            yield f"nothing was expected, not {sorted(values)}"
        return
    report = ParamValidator().validate(values, shape)
    if empty_lists:
        report._errors = [each for each in report._errors if each[0] != "invalid length" or each[2]["param"]]
    if report.has_errors():
        yield str(report.generate_report())
        return
    yield from _deep(shape, values, shape.name)


def _deep(shape: Any, value: Any, name: str) -> Iterator[str]:
    kind = shape.type_name
    if kind == "structure" and not getattr(shape, "is_document_type", False):
        for key, one in value.items():
            yield from _deep(shape.members[key], one, f"{name}.{key}")
    elif kind == "list":
        yield from _bound(shape, len(value), name)
        for at, one in enumerate(value):
            yield from _deep(shape.member, one, f"{name}[{at}]")
    elif kind == "map":
        yield from _bound(shape, len(value), name)
        for key, one in value.items():
            yield from _deep(shape.key, key, f"{name} (key)")
            yield from _deep(shape.value, one, f"{name}.{key}")
    elif kind == "string" and isinstance(value, str):
        facts = shape.metadata
        pattern = facts.get("pattern", ".*").removeprefix("(?s)")  # a flag, which is on in any case
        if not re.search(f"^(?:{pattern})$", value, re.DOTALL):
            yield f"{name} does not match {facts['pattern']}"
        if value not in (facts.get("enum") or [value]):
            yield f"{name} is none of {facts['enum']}"
        yield from _bound(shape, len(value), name)
    elif kind == "blob":
        yield from _bound(shape, len(value), name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _bound(shape, value, name)


def _bound(shape: Any, size: float, name: str) -> Iterator[str]:
    most = shape.metadata.get("max")
    if most is not None and size > most and not isinstance(size, datetime):
        yield f"{name} must be {most} at most"


def is_signed(head: Head, body: bytes, secret: str) -> bool:
    """Whether Signature Version 4 over headers, path, query and body is that of the secret."""
    found = SCOPE.fullmatch(head.get("Authorization"))
    if not found:
        return False
    names = {name: head.get(name) for name in found["names"].split(";")}
    # The query is part of the address here: botocore signs it the same way.
    request = AWSRequest(head.method, f"http://{head.get('Host')}{head.target}", headers=names, data=body)
    request.context["timestamp"] = head.get("X-Amz-Date")
    auth = SigV4Auth(Credentials(found["key"], secret), found["service"], found["region"])
    text = auth.string_to_sign(request, auth.canonical_request(request))
    return bool(auth.signature(text, request) == found["signature"])
