"""One conversation with one registry: requests with authorization, redirects, retries and errors of ours."""

from __future__ import annotations

import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Collection, Mapping
from copy import copy
from dataclasses import dataclass, field, replace

from registry_pipelines.errors import (
    RateLimited,
    RedirectRefused,
    RegistryPipelinesError,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from registry_pipelines.registry.client.challenges import read_challenges
from registry_pipelines.registry.client.connection import Body, Request
from registry_pipelines.registry.client.origins import Origin, is_loopback, split_url
from registry_pipelines.registry.client.quotas import quota_spent, read_quota
from registry_pipelines.registry.client.redirects import READING, REDIRECTS, Guard, Redirects, Trail
from registry_pipelines.registry.client.response import Response
from registry_pipelines.registry.client.retries import Retries, read_retry_after
from registry_pipelines.registry.client.tokens import LOG_IN, Authenticator, Scopes, pull
from registry_pipelines.registry.client.translate import MAX_ERROR_BODY_BYTES, translate_status
from registry_pipelines.registry.client.transport import Transport
from registry_pipelines.registry.client.words import Act
from registry_pipelines.registry.protocol import Carrier, Observer, Quota
from registry_pipelines.waits import Wait

MAX_SIGNED_URLS = 512
"""Signed addresses remembered; one per blob that is being read in ranges."""

SIGNED_URL_S = 60.0
"""Signed addresses are used this long; the shortest life seen is some minutes."""

_EXPIRED = frozenset({400, 401, 403, 404, 410})
"""What object stores answer for a signed address that has run out: S3 403 or 400, others 401, 404, 410."""

_UNDER_A_TAG = re.compile(r"/manifests/[^/:?]+\Z")


@dataclass(slots=True, eq=False)
class Call:
    """What is asked of the registry. doing: for errors, as ``reading a manifest``. expect: statuses that are answers.
    Nobody changes one; it is not frozen because making it would then take three times as long, for each request.

    url: absolute, or a path below the registry. once: a failure is the caller's; it is never sent twice, except after a
    401. elsewhere: whatever another host answers after a redirect is an answer, and no error.
    """

    method: str
    url: str = field(repr=False)
    scopes: Scopes
    where: str
    doing: str
    expect: Collection[int] = (200,)
    headers: Mapping[str, str] | None = None
    body: bytes | memoryview | Body | None = None
    answer_s: float | None = None
    elsewhere: bool = False
    once: bool = False
    carrier: Carrier | None = None


class Count:
    """Counts what many threads do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.value = 0

    def add(self) -> None:
        """One more."""
        with self._lock:
            self.value += 1


class SignedUrls:
    """Where the registry last sent us for a blob, so that ranges of one blob ask the registry once a minute only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, float]] = {}

    def get(self, url: str) -> str:
        """The address, empty when unknown or old."""
        with self._lock:
            target, since = self._known.get(url, ("", 0.0))
        return target if target and time.monotonic() - since < SIGNED_URL_S else ""

    def keep(self, url: str, target: str) -> None:
        """Remember an address."""
        with self._lock:
            self._known.pop(url, None)
            self._known[url] = (target, time.monotonic())
            while len(self._known) > MAX_SIGNED_URLS:
                self._known.pop(next(iter(self._known)))

    def forget(self, url: str) -> None:
        """It no longer works."""
        with self._lock:
            self._known.pop(url, None)


class Exchange:
    """Sends calls to one registry. base: ``https://host[:port]``, where paths start and where secrets may go.
    redirects: where else the registry may send us."""

    def __init__(
        self,
        base: str,
        name: str,
        transport: Transport,
        authenticator: Authenticator,
        retries: Retries,
        redirects: Redirects,
    ) -> None:
        self.base = base
        self.name = name
        self.transport = transport
        self.retries = retries
        self.origin: Origin = redirects.origin
        self.observer: Observer | None = None
        self.quota_observers: list[Callable[[Quota], None]] = []
        self.sent = Count()
        self._own = f"{base}/"
        self._authenticator = authenticator
        self._redirects = redirects
        self._signed = SignedUrls()

    def adjusted(self, retries: Retries, observer: Observer | None) -> Exchange:
        """The same conversation for another use; everything learnt and counted is shared."""
        exchange = copy(self)
        exchange.retries, exchange.observer = retries, observer
        return exchange

    def send(self, call: Call) -> Response:
        """The answer, its status among ``call.expect``; the caller closes it. Raises the RegistryError family."""
        if not call.url.startswith(self.base):
            usual = call.url.startswith("/v2/")
            absolute = self.base + call.url if usual else urllib.parse.urljoin(f"{self.base}/", call.url)
            call = replace(call, url=absolute)
        if call.carrier is not None or not _repeatable(call):
            return self._persist(call)  # content is on its way all the time
        with Wait(self.name, call.doing) as wait:
            return self._persist(call, wait)

    def _persist(self, call: Call, wait: Wait | None = None) -> Response:
        retries = self.retries
        attempt = 1
        while True:
            try:
                return self._once(call)
            except RegistryPipelinesError as error:
                if self.observer is not None:
                    self.observer(error)
                if wait is not None:
                    wait.reason = error.what
                if call.once or not _repeatable(call) or not retries.wait(error, attempt):
                    raise
                attempt += 1

    def share_an_account(self, one: str, other: str) -> bool:
        """Whether two repositories are read with the same account."""
        return self._authenticator.account(pull(one)) == self._authenticator.account(pull(other))

    def run(self, call: Call) -> Response:
        """Like :meth:`send`, for answers whose body nobody reads: closed before it is returned."""
        with self.send(call) as response:
            return response

    def _once(self, call: Call) -> Response:
        response = self._followed(call, self._signed.get(call.url) if _ranged(call) else "")
        if response.status in _EXPIRED and self._has_expired(call, response):
            # The registry gives a new one.
            response.close()
            self._signed.forget(call.url)
            response = self._followed(call, "")
        quota = read_quota(response.header)
        if quota is not None:
            for observer in self.quota_observers:
                observer(quota)
        if response.status in call.expect or (call.elsewhere and self.is_elsewhere(response)):
            return response
        raise self._unexpected(call, response, quota)

    def _unexpected(self, call: Call, response: Response, quota: Quota | None) -> RegistryPipelinesError:
        """The error of an answer that the call does not expect. Not made where it is raised: there a variable would
        hold it, a circle that keeps everything its callers have until Python looks for circles."""
        error = self.failure(call, response)
        if response.status == 401 and self.is_elsewhere(response):
            return self._no_secret_there(call, response)
        if isinstance(error, RateLimited) and quota is not None and not quota.remaining:
            spent = quota_spent(quota, quota.wait_s, where=call.where)
            spent.__cause__ = error
            return spent
        return error

    def _has_expired(self, call: Call, response: Response) -> bool:
        """Whether it was a signed address that refused; the signature is in its query."""
        signed = call.method in READING and "?" in response.url
        return signed and not call.elsewhere and self.is_elsewhere(response)

    def _followed(self, call: Call, shortcut: str) -> Response:
        url = shortcut or call.url
        response = self._authorized(call, url, self._guard(call, url))
        if response.status not in REDIRECTS:
            return response
        trail = Trail(self._redirects, call.doing, call.where)
        while response.status in REDIRECTS:
            with response:
                target, guard = trail.follow(call.method, response)
                _check_again(call, response.status)
            response = self._authorized(call, target, guard)
            if _ranged(call):
                self._signed.keep(call.url, target)
        return response

    def _guard(self, call: Call, url: str) -> Guard | None:
        """For what the registry named some time ago: an upload, the next page, a signed address."""
        if url.startswith(self._own):
            return None
        return self._redirects.guard(url, doing=call.doing, where=call.where)

    def is_elsewhere(self, response: Response) -> bool:
        """Whether another host than the registry answered, after a redirect."""
        return not response.url.startswith(self._own) and split_url(response.url, where=self.name)[0] != self.origin

    def failure(self, call: Call, response: Response) -> RegistryPipelinesError:
        """The error an unexpected answer stands for; reads and closes it."""
        with response:
            try:
                body = response.read(MAX_ERROR_BODY_BYTES) or b""
            except RegistryPipelinesError:
                body = b""
        wait = read_retry_after(response.header("Retry-After"))
        error = translate_status(
            response.status,
            body,
            where=call.where,
            doing=call.doing,
            retry_after_s=wait,
            act=_act(call),
            host=self.name,
        )
        if response.status == 400 and not body and call.url.startswith("http:"):  # a HEAD has no words for it
            error.do = error.do or "If it speaks TLS there, set plain_http: false for this registry"
        return error

    def _no_secret_there(self, call: Call, response: Response) -> Unauthorized:
        other = split_url(response.url, where=call.where)[0]
        return Unauthorized(
            f"{call.doing} was redirected to {other}, which asks for a log-in; credentials go to {self.origin} alone",
            where=call.where,
            do="Write the other host as the registry's host, if it is the registry",
            status=401,
        )

    def _authorized(self, call: Call, url: str, guard: Guard | None) -> Response:
        """One request, a second one after a 401. Secrets go to the registry's own origin only."""
        ours = split_url(url, where=call.where)[0] == self.origin
        tried = self._authenticator.header(call.scopes) if ours else ""
        response = self._send(_request(call, url, tried, guard))
        if response.status != 401 or not ours:
            return response
        challenges = read_challenges(response.headers.get_all("WWW-Authenticate"))
        if not challenges:
            raise self.failure(call, response)
        response.close()
        header = self._authenticator.answer(challenges, call.scopes, tried=tried)
        if not _repeatable(call):
            raise Unavailable(
                f"{call.doing}: the token expired while content was sent", where=call.where, do="Send it again"
            )
        again = self._send(_request(call, url, header, guard))
        if again.status == 401:
            error = self.failure(call, again)
            if self._authenticator.is_anonymous(call.scopes):
                what, do = f"{error.what}, and no credentials for it are known here", LOG_IN
            else:
                what, do = error.what, error.do
            raise Unauthorized(what, where=call.where, do=do, status=401)
        return again

    def _send(self, request: Request) -> Response:
        self.sent.add()
        return self.transport.send(request)


def _check_again(call: Call, status: int) -> None:
    """Raise unless the call's body can be sent a second time, to another address."""
    if call.carrier is not None:
        raise Unsupported(f"{call.doing} was redirected, which a stream cannot be", where=call.where, status=status)
    if _repeatable(call) or (isinstance(call.body, Body) and call.body.rewind()):
        return
    raise RedirectRefused(
        f"{call.doing} was redirected (HTTP {status}) after content was sent that cannot be read a second time",
        where=call.where,
        do="Write the host that it redirects to as the registry's host",
        status=status,
    )


def _act(call: Call) -> Act:
    """What a refusal is about."""
    if call.method in ("GET", "HEAD"):
        return "read"
    if call.method == "DELETE":
        return "delete"
    return "tag" if call.method == "PUT" and _UNDER_A_TAG.search(call.url) else "write"


def _ranged(call: Call) -> bool:
    return bool(call.headers and "Range" in call.headers)


def _repeatable(call: Call) -> bool:
    return call.body is None or isinstance(call.body, bytes | memoryview)


def _request(call: Call, url: str, authorization: str, guard: Guard | None) -> Request:
    headers = dict(call.headers or {})
    if authorization:
        headers["Authorization"] = authorization
    return Request(call.method, url, call.where, headers, call.body, call.answer_s, call.once, call.carrier, guard)


def base_url(host: str, *, plain_http: bool | None, tls_wanted: bool) -> str:
    """``https://host``; Docker Hub's API lives on another host. Plain only when told, or for loopback untold."""
    address = "registry-1.docker.io" if host == "docker.io" else host
    bare = urllib.parse.urlsplit(f"//{address}").hostname or address
    plain = plain_http if plain_http is not None else is_loopback(bare) and not tls_wanted
    return f"{'http' if plain else 'https'}://{address}"
