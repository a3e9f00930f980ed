"""What all services of the double share: who asks, what is refused, what fails, what time it is."""

from __future__ import annotations

import fnmatch
import re
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

_S = TypeVar("_S")

PAGE_SIZES = {"usual": 100, "most": 1000}
"""Artifact Registry's: `Maximum page size is 1,000` (its client's types); the default is not documented."""

STATUS = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INTERNAL": 500,
    "DATA_LOSS": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""google.rpc.Code and the HTTP status of each, from google/rpc/code.proto."""


class Refusal(Exception):
    """An error answer. code: a name of google.rpc.Code. reason, facts: of its ErrorInfo, where it has one."""

    def __init__(self, code: str, message: str, *, reason: str = "", **facts: str) -> None:
        super().__init__(message)
        self.code, self.message, self.reason, self.facts = code, message, reason, facts


@dataclass
class Fault:
    """What happens to the next calls of a method. html: the answer is a page of HTML with this status, as of a
    proxy or a front end (over gRPC: UNKNOWN). refusal: this answer. after: the call is carried out, its answer lost."""

    refusal: Refusal | None = None
    html: int = 0
    times: int = 1
    after: bool = False
    retry_after_s: float | None = None


@dataclass
class Token:
    """An access token: whose, and until when."""

    principal: str
    expires: datetime


@dataclass
class World:
    """The state of a cloud that exists for one test.

    calls: how often each method was asked for. denied: (permission, beginning of the resources' names) that nobody has;
    (principal, ...) entries go before ``:``. problems: what no test may see, a wrong answer of a double itself.
    """

    require_login: bool = False
    calls: Counter[str] = field(default_factory=Counter)
    denied: set[tuple[str, str]] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    tokens: dict[str, Token] = field(default_factory=dict)
    token_s: float = 3600.0
    """Lifetime of access tokens: Google's usual hour."""
    ahead: timedelta = field(default_factory=timedelta)
    """How far this world's clock is before the machine's."""
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _faults: dict[str, list[Fault]] = field(default_factory=dict)
    _states: dict[type[Any], Any] = field(default_factory=dict)

    def state(self, kind: Callable[[], _S]) -> _S:
        """The part of the state that one service keeps; made at first use."""
        with self.lock:
            if kind not in self._states:
                self._states[kind] = kind()  # type: ignore[index]
            return self._states[kind]  # type: ignore[index,no-any-return]

    def now(self) -> datetime:
        """The time there."""
        return datetime.now(UTC) + self.ahead

    def stamp(self) -> Timestamp:
        """The time there, for messages."""
        return stamp(self.now())

    # Who asks

    def issue(self, principal: str, seconds: float | None = None) -> tuple[str, int]:
        """A new access token and its lifetime in seconds."""
        life = self.token_s if seconds is None else seconds
        text = f"ya29.{secrets.token_urlsafe(24)}"
        with self.lock:
            self.tokens[text] = Token(principal, self.now() + timedelta(seconds=life))
        return text, int(life)

    def principal(self, token: str) -> str:
        """Whose token this is. Raises Refusal."""
        held = self.tokens.get(token)
        if held is None or held.expires <= self.now():
            raise Refusal(
                "UNAUTHENTICATED",
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
                "valid authentication credential.",
                reason="ACCESS_TOKEN_EXPIRED" if held else "CREDENTIALS_MISSING",
            )
        return held.principal

    def log_in(self, authorization: str) -> str:
        """Who sends this Authorization header. Raises Refusal."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer" and token:
            return self.principal(token)
        if self.require_login:
            raise Refusal(
                "UNAUTHENTICATED",
                "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or "
                "other valid authentication credential.",
                reason="CREDENTIALS_MISSING",
            )
        return "anonymous"

    def deny(self, permission: str, below: str = "") -> None:
        """Take a permission from everybody, on resources whose names begin so."""
        self.denied.add((permission, below))

    def may(self, permission: str, resource: str) -> None:
        """Raises Refusal in Artifact Registry's words, which do not tell a missing resource from a hidden one."""
        if any(permission == name and resource.startswith(below) for name, below in self.denied):
            raise Refusal(
                "PERMISSION_DENIED",
                f"Permission '{permission}' denied on resource '//{permission.partition('.')[0]}.googleapis.com/"
                f"{resource}' (or it may not exist).",
                reason="IAM_PERMISSION_DENIED",
                permission=permission,
                resource=resource,
            )

    # What fails

    def fail(self, method: str, fault: Fault | Refusal) -> None:
        """Let the next calls of a method fail; several faults are played one after the other."""
        with self.lock:
            self._faults.setdefault(method, []).append(Fault(fault) if isinstance(fault, Refusal) else fault)

    def take_fault(self, method: str) -> Fault | None:
        """The fault of this call."""
        with self.lock:
            waiting = self._faults.get(method)
            if not waiting:
                return None
            first = waiting[0]
            first.times -= 1
            if not first.times:
                waiting.pop(0)
            return first


def stamp(when: datetime) -> Timestamp:
    """A point in time, for messages."""
    made = Timestamp()
    made.FromDatetime(when)
    return made


def page(items: list[Any], size: int, token: str, *, most: int = 1000, usual: int = 100) -> tuple[list[Any], str]:
    """One page of a list and the token of the next. What is no token of ours is refused
    (AIP-158). A size above the largest is brought down to it, a negative one refused."""
    if size < 0:
        raise Refusal("INVALID_ARGUMENT", "page_size: must not be negative")
    start = 0
    if token:
        mark, _, number = token.partition("-")
        if mark != "next" or not number.isdigit() or int(number) > len(items):
            raise Refusal("INVALID_ARGUMENT", "page_token: invalid page token")
        start = int(number)
    stop = start + min(size or usual, most)
    return items[start:stop], f"next-{stop}" if stop < len(items) else ""


def filtered(text: str, items: Sequence[Any], fields: Sequence[str]) -> list[Any]:
    """``name="...*"``: equality without regard to case, with ``*`` (the types' own documentation of `filter`)."""
    if not text:
        return list(items)
    match = re.fullmatch(r'\s*(\w+)\s*=\s*"([^"]*)"\s*', text)
    if not match or match[1] not in fields:
        raise Refusal("INVALID_ARGUMENT", f"filter: invalid filter {text!r}")
    pattern = re.sub(r"([\[\]?])", r"[\1]", match[2].lower())
    return [each for each in items if fnmatch.fnmatchcase(getattr(each, match[1]).lower(), pattern)]


__all__ = ["PAGE_SIZES", "STATUS", "Fault", "Refusal", "Token", "World", "filtered", "page", "stamp"]
