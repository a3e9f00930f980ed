"""ECR's API as botocore's model has it: shapes, errors, signatures. Nothing here knows what an operation does."""

from __future__ import annotations

import re
from typing import Any

import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.validate import ParamValidator

from tests.doubles.wire import Head

SECRET_KEY = "hushhush0123456789"
"""The AWS_SECRET_ACCESS_KEY that requests must be signed with."""

PREFIX = "AmazonEC2ContainerRegistry_V20150921."
MODEL = botocore.session.get_session().get_service_model("ecr")
Values = dict[str, Any]


class ApiError(Exception):
    """An answer with a code of ECR's model, or one of AWS's common ones."""

    def __init__(self, code: str, message: str = "", *, status: int = 400, **fields: Any) -> None:
        super().__init__(code)
        self.code, self.message, self.status, self.fields = code, message, status, fields


def check_request(action: str, values: Values) -> None:
    """Raises InvalidParameterException as the service does: batches are bounded, names have a pattern."""
    _check(MODEL.operation_model(action).input_shape, values)


def check_reply(action: str, values: Values) -> None:
    """The double's own answers are the model's too; raises AssertionError. The service answers with empty lists where
    the model, shared with requests, wants one entry at least."""
    try:
        _check(
            MODEL.operation_model(action).output_shape, {name: value for name, value in values.items() if value != []}
        )
    except ApiError as error:
        raise AssertionError(f"{action}: {error.message}") from error


def check_error(action: str, code: str) -> None:
    """An operation gives only the errors that the model lists for it, or AWS's common ones; raises AssertionError."""
    known = {shape.name for shape in MODEL.operation_model(action).error_shapes}
    everybody = {shape.name for operation in MODEL.operation_names for shape in _errors(operation)}
    assert code in known or code not in everybody, f"{action} never gives {code}"


def _errors(operation: str) -> list[Any]:
    return list(MODEL.operation_model(operation).error_shapes)


def _check(shape: Any, values: Values) -> None:
    """ParamValidator checks names, types and minima; patterns, maxima and enumerations are the shape's."""
    report = ParamValidator().validate(values, shape)
    if report.has_errors():
        raise ApiError("InvalidParameterException", report.generate_report())
    for name, value in values.items():
        member = shape.members[name]
        facts = member.metadata
        if isinstance(value, str) and not re.fullmatch(facts.get("pattern", ".*"), value, re.DOTALL):
            raise ApiError("InvalidParameterException", f"{name} does not match {facts['pattern']}")
        if isinstance(value, str) and value not in facts.get("enum", [value]):
            raise ApiError("InvalidParameterException", f"{name} is none of {facts['enum']}")
        size = len(value) if isinstance(value, str | bytes | list) else value if isinstance(value, int) else 0
        if size > facts.get("max", size):
            raise ApiError("InvalidParameterException", f"{name} must be {facts['max']} at most")


def is_signed(head: Head, body: bytes) -> bool:
    """Whether Signature Version 4 over headers and body is that of SECRET_KEY."""
    pattern = (
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([^/]+)/ecr/aws4_request, SignedHeaders=([^,]+), Signature=(.+)"
    )
    found = re.fullmatch(pattern, head.get("Authorization"))
    if not found:
        return False
    names = {name: head.get(name) for name in found[3].split(";")}
    request = AWSRequest("POST", f"http://{head.get('Host')}/", headers=names, data=body)
    request.context["timestamp"] = head.get("X-Amz-Date")
    auth = SigV4Auth(Credentials(found[1], SECRET_KEY), "ecr", found[2])
    text = auth.string_to_sign(request, auth.canonical_request(request))
    return bool(auth.signature(text, request) == found[4])
