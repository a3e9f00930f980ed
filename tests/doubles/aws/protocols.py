"""AWS's wire protocols (JSON 1.0 and 1.1, REST-JSON, Query, EC2), read and written by moto's own parsers and botocore's
models. What a request asks for is found by its signature's scope and its target, action or path."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from tests.doubles.aws.model import SCOPE, ApiError, Values, model_of
from tests.doubles.wire import Head

_BOTOCORE_NAMES = {"monitoring": "cloudwatch", "elasticloadbalancing": "elbv2", "tagging": "resourcegroupstaggingapi"}
"""Where botocore's name is not the one that requests are signed for."""


@dataclass(frozen=True)
class Wire:
    """A request that was understood so far. service: botocore's name; operation: empty when it has no such one."""

    service: str
    operation: str
    region: str
    access_key: str
    head: Head
    body: bytes

    @property
    def protocol(self) -> str:
        """As this request uses it: CloudWatch's model offers three."""
        return "json" if self.head.get("X-Amz-Target") else str(model_of(self.service).protocol)


def understand(head: Head, body: bytes) -> Wire:
    """Which operation of which service is asked for. Raises ApiError for what is not signed and no log-in."""
    found = SCOPE.fullmatch(head.get("Authorization"))
    form = parse_qs(body.decode("utf-8", "replace")) if "form-urlencoded" in head.get("Content-Type") else {}
    action = form.get("Action", [""])[0]
    if not found:
        if action in ("AssumeRoleWithWebIdentity", "AssumeRoleWithSAML"):
            return Wire("sts", action, "us-east-1", "", head, body)
        raise ApiError("MissingAuthenticationToken", "Missing Authentication Token", status=403)
    service = _BOTOCORE_NAMES.get(found["service"], found["service"])
    model = model_of(service)
    operation = head.get("X-Amz-Target").rpartition(".")[2] or action or _by_path(service, head, body)
    known = operation if operation in model.operation_names else ""
    return Wire(service, known, found["region"], found["key"], head, body)


def _request(head: Head, body: bytes) -> Any:
    from moto.core.request import Request

    url = f"http://{head.get('Host')}{head.target}"
    return Request.from_primitives(head.method, url, dict(head.headers), body)


def _moto_model(wire: Wire) -> Any:
    """botocore's model as moto's parsers want it."""
    from moto.core.utils import get_service_model

    return get_service_model(wire.service).operation_model(wire.operation)


def _by_path(service: str, head: Head, body: bytes) -> str:
    if not str(model_of(service).protocol).startswith("rest"):
        return ""
    from moto.core.routing import get_service_router
    from werkzeug.exceptions import HTTPException

    try:
        return str(get_service_router(service).match(_request(head, body))[0].name)
    except (HTTPException, NotImplementedError):
        return ""


def read(wire: Wire) -> Values:
    """The parameters, typed as boto3 has them (datetimes, bytes). Raises ApiError for members that the model lacks."""
    from moto.core.parse import PROTOCOL_PARSERS

    model = _moto_model(wire)
    request = _request(wire.head, wire.body)
    parts: dict[str, Any] = {
        "body": wire.body,
        "headers": request.headers,
        "method": wire.head.method,
        "url_params": {},
        "url_path": request.path,
        "values": request.values,
    }
    if wire.protocol.startswith("rest"):
        from moto.core.routing import get_service_router

        parts["url_params"] = get_service_router(wire.service).match(request)[1]
    elif wire.protocol == "json":
        said = json.loads(wire.body or b"{}")
        strange = said.keys() - (model.input_shape.members.keys() if model.input_shape else set())
        if strange:
            raise ApiError("SerializationException", f"unknown members: {sorted(strange)}")
    return dict(PROTOCOL_PARSERS[wire.protocol](model).parse(parts))


def write(wire: Wire, values: Values) -> tuple[int, dict[str, str], bytes]:
    """An answer: status, headers, body."""
    from moto.core.serialize import get_serializer_class

    made = get_serializer_class(wire.service, wire.protocol)(_moto_model(wire)).serialize(values)
    body = made["body"]
    headers = {name: str(value) for name, value in made["headers"].items()}
    headers.setdefault("Content-Type", _content_type(wire))
    return int(made["status_code"]), headers, body if isinstance(body, bytes) else body.encode()


def _content_type(wire: Wire) -> str:
    if wire.protocol == "json":
        return f"application/x-amz-json-{model_of(wire.service).metadata.get('jsonVersion', '1.1')}"
    return "application/json" if wire.protocol == "rest-json" else "text/xml"


def write_error(protocol: str, error: ApiError) -> tuple[int, dict[str, str], bytes]:
    """An error as the protocol has it, which boto3 makes a typed exception of."""
    if protocol in ("query", "ec2", "rest-xml"):
        inner = f"<Error><Type>Sender</Type><Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error>"
        if protocol == "ec2":
            text = f"<Response><Errors>{inner}</Errors><RequestID>double</RequestID></Response>"
        else:
            text = f"<ErrorResponse>{inner}<RequestId>double</RequestId></ErrorResponse>"
        return error.status, {"Content-Type": "text/xml"}, text.encode()
    answer = {"__type": error.code, "message": error.message, **error.fields}
    headers = {"Content-Type": "application/x-amz-json-1.1", "x-amzn-ErrorType": error.code}
    return error.status, headers, json.dumps(answer).encode()
