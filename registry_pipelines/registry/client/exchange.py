"""One conversation with one registry: requests with authorization, redirects, retries and errors of ours."""

from __future__ import annotations

import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from registry_pipelines.errors import RateLimited, RegistryError, RegistryPipelinesError, Unauthorized, Unavailable
from registry_pipelines.registry.client.challenges import read_challenges
from registry_pipelines.registry.client.origins import Origin, is_loopback, split_url
from registry_pipelines.registry.client.quotas import quota_spent, read_quota
from registry_pipelines.registry.client.response import Response
from registry_pipelines.registry.client.retries import Retries, read_retry_after
from registry_pipelines.registry.client.tokens import Authenticator, Scopes
from registry_pipelines.registry.client.translate import MAX_ERROR_BODY_BYTES, translate_status
from registry_pipelines.registry.client.transport import Body, Request, Transport
from registry_pipelines.registry.client.words import Act
from registry_pipelines.registry.interface import Carrier, Quota
from registry_pipelines.waits import Wait

MAX_REDIRECTS = 5
"""Registries redirect once, to an object store; two are seen behind a CDN."""

MAX_SIGNED_URLS = 512
"""Signed addresses remembered; one per blob that is being read in ranges."""

SIGNED_URL_S = 60.0
"""Signed addresses are used this long; the shortest life seen is some minutes."""

_EXPIRED = frozenset({400, 401, 403, 404, 410})
"""What object stores answer for a signed address that has run out: S3 403 or 400, others 401, 404, 410."""

_UNDER_A_TAG = re.compile(r"/manifests/[^/:?]+\Z")

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Call:
    """What is asked of the registry. doing: for errors, as ``reading a manifest``. expect: statuses that are answers.

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
    """Sends calls to one registry. base: ``https://host[:port]``, where paths start and where secrets may go."""

    def __init__(
        self, base: str, name: str, transport: Transport, authenticator: Authenticator, retries: Retries
    ) -> None:
        self.base = base
        self.name = name
        self.transport = transport
        self.retries = retries
        self.origin: Origin = split_url(f"{base}/", where=name)[0]
        self.observers: list[Callable[[RegistryPipelinesError], None]] = []
        self.quota_observers: list[Callable[[Quota], None]] = []
        self.requests_sent = 0
        self._counting = threading.Lock()
        self._authenticator = authenticator
        self._signed = SignedUrls()

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
                for observer in self.observers:
                    observer(error)
                if wait is not None:
                    wait.reason = error.what
                if call.once or not _repeatable(call) or not retries.wait(error, attempt):
                    raise
                attempt += 1

    def run(self, call: Call) -> Response:
        """Like :meth:`send`, for answers whose body nobody reads: closed before it is returned."""
        with self.send(call) as response:
            return response

    def _once(self, call: Call) -> Response:
        response = self._followed(call, self._signed.get(call.url) if _ranged(call) else "")
        if response.status in _EXPIRED and not call.elsewhere and self.is_elsewhere(response):
            # An object store's signed address has run out; the registry gives a new one.
            response.close()
            self._signed.forget(call.url)
            response = self._followed(call, "")
        quota = read_quota(response.header)
        if quota is not None:
            for observer in self.quota_observers:
                observer(quota)
        if response.status in call.expect or (call.elsewhere and self.is_elsewhere(response)):
            return response
        error = self.failure(call, response)
        if isinstance(error, RateLimited) and quota is not None and not quota.remaining:
            raise quota_spent(quota, quota.wait_s, where=call.where) from error
        raise error

    def _followed(self, call: Call, shortcut: str) -> Response:
        response = self._authorized(call, shortcut or call.url)
        for _ in range(MAX_REDIRECTS):
            if not _to_follow(call, response):
                return response
            with response:
                target = self._redirect(call, response)
            response = self._authorized(call, target)
            if _ranged(call):
                self._signed.keep(call.url, target)
        response.close()
        raise RegistryError(f"{call.doing} was redirected more than {MAX_REDIRECTS} times", where=call.where)

    def is_elsewhere(self, response: Response) -> bool:
        """Whether another host than the registry answered, after a redirect."""
        return split_url(response.url, where=self.name)[0] != self.origin

    def failure(self, call: Call, response: Response) -> RegistryPipelinesError:
        """The error an unexpected answer stands for; reads and closes it."""
        with response:
            try:
                body = response.read(MAX_ERROR_BODY_BYTES) or b""
            except RegistryPipelinesError:
                body = b""
        wait = read_retry_after(response.header("Retry-After"))
        return translate_status(
            response.status,
            body,
            where=call.where,
            doing=call.doing,
            retry_after_s=wait,
            act=_act(call),
            host=self.name,
        )

    def _redirect(self, call: Call, response: Response) -> str:
        target = resolve_location(response, where=call.where)
        before, after = split_url(response.url, where=call.where)[0], split_url(target, where=call.where)[0]
        if before.scheme == "https" and after.scheme == "http":
            raise RegistryError(f"{call.doing} was redirected from TLS to plain HTTP", where=call.where)
        return target

    def _authorized(self, call: Call, url: str) -> Response:
        """One request, a second one after a 401. Secrets go to the registry's own origin only."""
        ours = split_url(url, where=call.where)[0] == self.origin
        tried = self._authenticator.header(call.scopes) if ours else ""
        response = self._send(_request(call, url, tried))
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
        again = self._send(_request(call, url, header))
        if again.status == 401:
            error = self.failure(call, again)
            raise Unauthorized(error.what, where=call.where, do=error.do, status=401)
        return again

    def _send(self, request: Request) -> Response:
        with self._counting:
            self.requests_sent += 1
        return self.transport.send(request)


def _to_follow(call: Call, response: Response) -> bool:
    """Every request may be redirected (RFC 9110 section 15.4; distribution-spec main). Reading follows all redirects;
    writing those that keep method and body (307, 308), where the body can be sent again."""
    if call.method in ("GET", "HEAD"):
        return response.status in _REDIRECTS
    return response.status in (307, 308) and _repeatable(call) and call.carrier is None


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


def _request(call: Call, url: str, authorization: str) -> Request:
    headers = dict(call.headers or {})
    if authorization:
        headers["Authorization"] = authorization
    return Request(call.method, url, call.where, headers, call.body, call.answer_s, call.once, call.carrier)


def resolve_location(response: Response, *, where: str) -> str:
    """The ``Location`` as an absolute URL, otherwise verbatim (distribution-spec 1.1 permits relative ones)."""
    location = response.header("Location")
    if not location:
        raise RegistryError(f"the answer (HTTP {response.status}) has no Location", where=where)
    try:
        return urllib.parse.urljoin(response.url, location)
    except ValueError as error:
        raise RegistryError("the Location is not a URL", where=where) from error


def base_url(host: str, *, plain_http: bool | None, tls_wanted: bool) -> str:
    """``https://host``; Docker Hub's API lives on another host. Plain only when told, or for loopback untold."""
    address = "registry-1.docker.io" if host == "docker.io" else host
    bare = urllib.parse.urlsplit(f"//{address}").hostname or address
    plain = plain_http if plain_http is not None else is_loopback(bare) and not tls_wanted
    return f"{'http' if plain else 'https'}://{address}"
