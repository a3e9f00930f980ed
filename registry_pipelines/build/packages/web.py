"""How an index is asked over HTTP: with its log-in, with limits, again where a failure may pass.

The log-in goes to the index's own origin alone. A page of a private index comes from that origin: pypiserver and others
send whoever asks for a project that they lack on to a public index (303), and an installer then takes the stranger's
project from "the private index". Files may lie elsewhere (object stores).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from registry_pipelines.build.packages.logins import Login
from registry_pipelines.build.packages.markup import words
from registry_pipelines.errors import (
    Forbidden,
    NotFound,
    RateLimited,
    RedirectRefused,
    RegistryError,
    RegistryPipelinesError,
    Unauthorized,
    Unavailable,
)
from registry_pipelines.registry.client.connection import Body, Request
from registry_pipelines.registry.client.origins import Origin, check_loopback_or_tls, split_url
from registry_pipelines.registry.client.redirects import REDIRECTS, Guard, Redirects, Trail
from registry_pipelines.registry.client.response import Response
from registry_pipelines.registry.client.retries import Retries, read_retry_after
from registry_pipelines.registry.client.translate import MAX_ERROR_BODY_BYTES, quote
from registry_pipelines.registry.client.transport import Timeouts, Transport

ABSENT = (404, 410)
"""An index that has no such project, or file."""

MAX_SAID_CHARACTERS = 300
"""Of an index's own words in an error."""


@dataclass(frozen=True)
class Asking:
    """What is asked. doing: for errors, as ``reading its page of numpy``. own: only the index's own origin may answer.
    expect: statuses that are answers, beside 200. answer_s: how long an answer may take."""

    url: str = field(repr=False)
    doing: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | Body | None = field(default=None, repr=False)
    own: bool = False
    expect: tuple[int, ...] = ()
    answer_s: float | None = None


class Site:
    """One index over HTTP. base: its address. name: in the configuration, for errors. Safe for many threads."""

    def __init__(
        self,
        base: str,
        name: str,
        login: Login,
        *,
        ca_file: Path | None = None,
        retries: Retries | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self.base, self.login = base, login
        self._name = name
        self._retries = retries or Retries()
        self._transport = Transport(ca_file=ca_file, timeouts=timeouts)
        self.origin: Origin = split_url(base, where=name)[0]
        check_loopback_or_tls(self.origin, plain_allowed=False, where=name)
        self._redirects = Redirects(self.origin, self._transport.address_of)

    def ask(self, asking: Asking) -> Response:
        """The answer, its body unread; the caller closes it. Raises NotFound, Unauthorized, Forbidden, Unavailable,
        RedirectRefused, RegistryError."""
        attempt = 1
        while True:
            try:
                return self._once(asking)
            except RedirectRefused as error:
                raise RedirectRefused(error.what, where=self.where, do=_NOT_ELSEWHERE, status=error.status) from None
            except RegistryPipelinesError as error:
                if asking.body is not None or not self._retries.wait(error, attempt):
                    raise
                attempt += 1

    @property
    def where(self) -> str:
        """For errors: its name, and its host."""
        return f"package index {self._name} ({self.origin})"

    def close(self) -> None:
        """Close kept connections."""
        self._transport.close()

    def _once(self, asking: Asking) -> Response:
        response = self._followed(asking, anew=False)
        if response.status == 401 and _rewound(asking):
            response.close()
            response = self._followed(asking, anew=True)
        if response.status == 200 or response.status in asking.expect:
            return response
        raise self._failure(asking, response)

    def _followed(self, asking: Asking, *, anew: bool) -> Response:
        guard = self._redirects.guard(asking.url, doing=asking.doing, where=self.where)
        url, trail = asking.url, Trail(self._redirects, asking.doing, self.where)
        response = self._send(asking, url, guard, anew=anew)
        while response.status in REDIRECTS:
            with response:
                url, guard = trail.follow(asking.method, response)
                if asking.own and split_url(url, where=self.where)[0] != self.origin:
                    raise RedirectRefused(
                        f"{asking.doing}: it sends to {urlsplit(url).hostname}, which is another index",
                        where=self.where,
                        status=response.status,
                    )
                if not _rewound(asking):
                    raise RedirectRefused(f"{asking.doing} was redirected after content was sent", where=self.where)
            response = self._send(asking, url, guard, anew=False)
        return response

    def _send(self, asking: Asking, url: str, guard: Guard | None, *, anew: bool) -> Response:
        origin = split_url(url, where=self.where)[0]
        check_loopback_or_tls(origin, plain_allowed=False, where=self.where)
        own = origin == self.origin
        authorization = self.login.header(anew=anew) if own else ""
        headers = {**asking.headers, **({"Authorization": authorization} if authorization else {})}
        return self._transport.send(
            Request(
                *(asking.method, url, self.where, headers, asking.body),
                answer_s=asking.answer_s,
                once=asking.body is not None,
                guard=None if own else guard,
            )
        )

    def _failure(self, asking: Asking, response: Response) -> RegistryError:
        """The error of an answer; reads and closes it."""
        status, wait_s = response.status, read_retry_after(response.header("Retry-After"))
        with response:
            said = _words(response, self.login)
        what = f"{asking.doing}: it answered HTTP {status}{said}"
        if status in ABSENT:
            return NotFound(what, where=self.where, status=status)
        if status == 401:
            known = not self.login.now().anonymous
            do = "See whether the log-in is right, and has not ended" if known else _NO_LOGIN
            return Unauthorized(what, where=self.where, do=do, status=status)
        if status == 403:
            return Forbidden(what, where=self.where, do=_FORBIDDEN, status=status)
        if status == 429:
            return RateLimited(what, where=self.where, do="Try again later", retry_after_s=wait_s)
        if status >= 500:
            error = Unavailable(what, where=self.where, do="Try again, or see how the index is", status=status)
            error.retry_after_s = wait_s
            return error
        return RegistryError(what, where=self.where, do="See whether its address is right", status=status)


_NO_LOGIN = "No log-in for it is known here: write `username` and `password`, or an entry in netrc, or `keyring: true`"
_FORBIDDEN = (
    "Give the account the right to read it; where the index answers so for a project that it lacks, write in `only` "
    "what it has"
)
_NOT_ELSEWHERE = (
    "An index that sends on what it lacks is no private index: switch that off there (pypiserver: --disable-fallback), "
    "or write `public: true` when everything in it may come from anybody"
)


def _rewound(asking: Asking) -> bool:
    """Whether what is asked can be sent again; a body is at its first byte then."""
    return not isinstance(asking.body, Body) or asking.body.rewind()


def _words(response: Response, login: Login) -> str:
    """An answer's own words, short; empty without any."""
    try:
        raw = response.read(MAX_ERROR_BODY_BYTES) or b""
    except RegistryError:
        return ""
    plain = login.hidden(words(raw.decode("utf-8", "replace")))
    text = quote(plain)[:MAX_SAID_CHARACTERS]
    return f" ({text})" if text else ""


__all__ = ["ABSENT", "Asking", "Site"]
