"""The front door: what an AWS client is told to take for all of AWS (``AWS_ENDPOINT_URL``).

``with AwsDouble() as aws:`` Each request's signature is checked over its body; each request and answer is checked
against botocore's model. Operations of the areas in ``table`` are answered here, all else goes to moto's server, which
starts with the first request that needs it. Who asks is known by the access key: its account is the one whose things
are seen, and what ``deny`` names is refused as IAM refuses it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar, TypeVar, cast

from tests.doubles.aws.behind import Behind
from tests.doubles.aws.model import SECRET_KEY, ApiError, Values, check_error, check_reply, check_request, is_signed
from tests.doubles.aws.protocols import Wire, read, understand, write, write_error
from tests.doubles.wire import Head, Listener, Stream

ACCOUNT = "123456789012"
"""Of the access key that tests have; moto's default too."""


@dataclass(frozen=True)
class Html:
    """A fault: what a load balancer says in a service's name."""

    status: int = 500


@dataclass(frozen=True)
class Instead:
    """Something to call when a request has come whole; its work is not done, and no answer comes."""

    call: Callable[[], object]


Fault = str | ApiError | Html | Instead | Callable[[], object]
Handler = Callable[["Call"], Values]


@dataclass
class Principal:
    """Who has an access key. expires_at: seconds since 1970; 0 is never. token: empty for any."""

    account: str = ACCOUNT
    secret: str = SECRET_KEY
    arn: str = f"arn:aws:iam::{ACCOUNT}:user/builder"
    token: str = ""
    expires_at: float = 0.0
    denied: set[str] = field(default_factory=set)
    """IAM actions, ``ecr:PutImage``."""


@dataclass
class Call:
    """One API request that was understood. sent: bytes of the part in it. code: of the error it was answered with."""

    action: str
    values: dict[str, Any]
    sent: int = 0
    code: str = ""
    service: str = "ecr"
    region: str = "eu-west-1"
    account: str = ACCOUNT
    caller: Principal = field(default_factory=Principal)


class Area:
    """What one file answers: the operations of ``service`` for which it has a ``do_<Operation>``, each from a
    :class:`Call` to the values of the answer as boto3 would give them (datetimes, bytes); they raise ApiError."""

    service: ClassVar[str]

    def __init__(self, world: AwsDouble) -> None:
        self.world = world

    @classmethod
    def operations(cls) -> list[str]:
        """Names as botocore's model has them."""
        return [name.removeprefix("do_") for name in dir(cls) if name.startswith("do_")]

    def reset(self) -> None:
        """Forget everything; areas start empty and need not have it."""


A = TypeVar("A", bound=Area)


class AwsDouble:
    """See the module. calls: all requests that were signed, in order. principals: by access key; every key that is not
    in it is the default principal's, as long as it signs with SECRET_KEY. A fault of the double itself fails its test
    at the end."""

    def __init__(self) -> None:
        from tests.doubles.aws.table import AREAS

        self.calls: list[Call] = []
        self.principals: dict[str, Principal] = {}
        self.default = Principal()
        self.told: list[dict[str, Any]] = []
        self.broken: list[Exception] = []
        self.listeners: list[Callable[[dict[str, Any]], object]] = []
        self.clock: Callable[[], float] = time.time
        self.behind = Behind()
        self._lock = threading.RLock()
        self._faults: list[tuple[str, Callable[[], Fault]]] = []
        self._areas: list[Area] = []
        self._handlers: dict[tuple[str, str], Handler] = {}
        for kind in AREAS:
            self.answer_by(kind)
        self._api = Listener(self._serve)
        self.api_address = self._api.address

    def __enter__(self) -> AwsDouble:
        self._api.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._api.stop()
        self.behind.stop()
        if self.broken:
            raise AssertionError("the double itself is wrong") from self.broken[0]

    # What tests say and ask

    @property
    def url(self) -> str:
        """The endpoint of every service."""
        return f"http://{self.api_address}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client of AWS needs to come here, and nowhere else."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ENDPOINT_URL_ECR": self.url,
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def answer_by(self, kind: type[A]) -> A:
        """One area more: of this double alone where it is not in the table, and in moto's place."""
        area = kind(self)
        for name in area.operations():
            assert (area.service, name) not in self._handlers, f"two areas answer {area.service} {name}"
            self._handlers[area.service, name] = getattr(area, f"do_{name}")
        self._areas.append(area)
        return area

    def area(self, kind: type[A]) -> A:
        """The area of a class, to look at its state or to change it behind our back."""
        return next(cast(A, area) for area in self._areas if isinstance(area, kind))

    def count(self, action: str) -> int:
        """Requests of an action."""
        return sum(call.action == action for call in list(self.calls))

    def fail(self, action: str, what: Fault, *, times: int = 1, skip: int = 0) -> None:
        """Fail an action: by an error or a page; ``lose``: the work is done, no answer comes; ``cut``: nothing is done.
        Something to call is called when the work is done, and no answer comes either."""
        with self._lock:
            plan: list[Fault] = [""] * skip + [what] * times
            self._faults.append((action, lambda: plan.pop(0) if plan else ""))

    def deny(self, *actions: str, caller: Principal | None = None) -> None:
        """Take IAM actions from a principal, as ``ecr:PutImage``; from the default one unless told."""
        (caller or self.default).denied.update(actions)

    def tell(self, source: str, kind: str, detail: Values, *, account: str, region: str, resources: list[str]) -> None:
        """An event of a service, as EventBridge delivers it; kept in ``told`` and given to ``listeners``."""
        event = {
            "source": source, "detail-type": kind, "account": account, "region": region,
            "time": self.clock(), "resources": resources, "detail": detail,
        }  # fmt: skip
        self.told.append(event)
        for listener in self.listeners:
            listener(event)

    # Requests

    def _serve(self, sock: socket.socket) -> None:
        stream = Stream(sock)
        while True:
            head = stream.read_head()
            if head.get("Expect"):
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = b"".join(stream.request_body(head))
            try:
                answer = self._dispatch(head, body)
            except Exception as error:
                self.broken.append(error)
                raise
            if answer is None:
                return
            status, headers, content = answer
            lines = [*headers.items(), ("Content-Length", str(len(content)))]
            sock.sendall(Head(f"HTTP/1.1 {status} Answer", lines).encode() + content)

    def _dispatch(self, head: Head, body: bytes) -> tuple[int, Mapping[str, str], bytes] | None:
        protocol, call, fault = "json", Call("", {}), cast(Fault, "")
        try:
            wire = understand(head, body)
            protocol = wire.protocol
            call = self._checked(wire)
            fault = self._fault_of(call)
            if fault == "cut":
                return None
            if isinstance(fault, Html):
                return fault.status, {"Content-Type": "text/html"}, b"<html><h1>Internal Server Error</h1></html>"
            if isinstance(fault, ApiError):
                raise fault
            if isinstance(fault, Instead):
                fault.call()
                return None
            answer = self._answer(wire, call)
            if callable(fault):
                fault()
            return answer if fault == "" else None
        except ApiError as error:
            call.code = error.code
            if call.action and not isinstance(fault, ApiError):
                check_error(call.service, call.action, error.code)
            return write_error(protocol, error) if fault == "" or isinstance(fault, ApiError) else None

    def _fault_of(self, call: Call) -> Fault:
        with self._lock:
            fault = next((found for name, take in self._faults if name == call.action and (found := take())), "")
            if fault != "cut":
                self.calls.append(call)
            return fault

    def _answer(self, wire: Wire, call: Call) -> tuple[int, Mapping[str, str], bytes]:
        handler = self._handlers.get((wire.service, wire.operation))
        if handler is None:
            return self.behind.forward(wire, call.account)
        with self._lock:
            reply = handler(call)
        check_reply(wire.service, wire.operation, reply)
        return write(wire, reply)

    def _checked(self, wire: Wire) -> Call:
        """Raises ApiError as AWS refuses strangers, expired sessions, unknown operations and wrong parameters."""
        caller = self._caller(wire)
        if not wire.operation:
            raise ApiError("UnknownOperationException", f"{wire.service} has no such operation")
        values = read(wire) if wire.service != "s3" else {}
        if wire.service != "s3":
            check_request(wire.service, wire.operation, values)
        sent = len(values.get("layerPartBlob", b""))
        call = Call(wire.operation, values, sent, "", wire.service, wire.region, caller.account, caller)
        action = f"{wire.service}:{wire.operation}"
        if action in caller.denied:
            said = f"User: {caller.arn} is not authorized to perform: {action} on resource: {_resource(call)}"
            raise ApiError(
                "AccessDeniedException", f"{said} because no identity-based policy allows the {action} action"
            )
        return call

    def _caller(self, wire: Wire) -> Principal:
        if not wire.access_key:
            return self.default
        found = self.principals.get(wire.access_key, self.default)
        if not is_signed(wire.head, wire.body, found.secret):
            raise ApiError("InvalidSignatureException", "The request signature does not match", status=403)
        if found.token and wire.head.get("X-Amz-Security-Token") != found.token:
            raise ApiError("UnrecognizedClientException", "The security token included in the request is invalid.")
        if found.expires_at and found.expires_at <= self.clock():
            raise ApiError("ExpiredTokenException", "The security token included in the request is expired")
        return found


def _resource(call: Call) -> str:
    name = call.values.get("repositoryName")
    return f"arn:aws:{call.service}:{call.region}:{call.account}:repository/{name}" if name else "*"


def pages(state: dict[str, tuple[str, list[Values]]], operation: str, name: str, found: list[Values], values: Values,
          *, size: int = 100) -> Values:  # fmt: skip
    """The next page of a list that was made when its first page was asked for; tokens are opaque and hold once.
    state: the area's open lists."""
    import secrets

    if "nextToken" in values:
        made_for, found = state.pop(values["nextToken"], ("", []))
        if made_for != operation:
            raise ApiError("InvalidParameterException", "Invalid parameter at 'nextToken'")
    size = values.get("maxResults", size)
    page, left = found[:size], found[size:]
    if not left:
        return {name: page}
    token = secrets.token_urlsafe(48)
    state[token] = operation, left
    return {name: page, "nextToken": token}


__all__ = ["ACCOUNT", "ApiError", "Area", "AwsDouble", "Call", "Fault", "Html", "Principal", "pages"]
