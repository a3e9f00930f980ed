"""Who we are to a registry: basic credentials, or bearer tokens cached per scope until shortly before they expire.

Protocol: distribution's "Token Authentication Specification" and its OAuth2 variant. Facts kept here: Docker Hub's
tokens live 300 s, self-hosted ones often 60 s; Chainguard answers 403 to a token of another scope, so a token serves
exactly the scopes it was asked for; without ``expires_in`` a token lives 60 s.
"""

from __future__ import annotations

import base64
import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from registry_pipelines.errors import NotFound, RedirectRefused, RegistryError, Unauthorized, Unsupported
from registry_pipelines.registry.client.challenges import Challenge
from registry_pipelines.registry.client.connection import Request
from registry_pipelines.registry.client.credentials import CredentialFinder, Credentials
from registry_pipelines.registry.client.origins import check_loopback_or_tls, split_url
from registry_pipelines.registry.client.redirects import REDIRECTS, Redirects, Trail
from registry_pipelines.registry.client.response import Response
from registry_pipelines.registry.client.retries import read_retry_after
from registry_pipelines.registry.client.translate import MAX_ERROR_BODY_BYTES, translate_status

Scopes = frozenset[str]
"""What a token is for, as ``repository:team/app:pull,push``; the empty set for questions about no repository."""

DEFAULT_LIFE_S = 60.0
"""Without ``expires_in`` (the token specification's own default)."""

MAX_LIFE_S = 12 * 3600.0
"""A longer life is not believed; asking once more every 12 h costs nothing."""

MAX_TOKEN_BYTES = 1024 * 1024
"""Of a token answer; JSON web tokens with many grants reach 10 KiB."""

CLIENT_ID = "registry-pipelines"


def pull(repository: str) -> Scopes:
    """Read from a repository."""
    return frozenset({f"repository:{repository}:pull"})


def push(repository: str) -> Scopes:
    """Read and write."""
    return frozenset({f"repository:{repository}:pull,push"})


def delete(repository: str) -> Scopes:
    """Read and delete."""
    return frozenset({f"repository:{repository}:delete,pull"})


CATALOG: Scopes = frozenset({"registry:catalog:*"})


def _repository(scopes: Scopes) -> str:
    """The repository that scopes are about, of several the one that is written to; empty for none."""
    parts = sorted((scope.split(":", 2) for scope in scopes if scope.count(":") > 1), key=lambda one: one[2] == "pull")
    return next((name for kind, name, _ in parts if kind == "repository"), "")


class _Token(msgspec.Struct):
    header: str = ""
    use_until: float = 0.0
    extra_scopes: Scopes = frozenset()
    lock: threading.Lock = msgspec.field(default_factory=threading.Lock)


class Authenticator:
    """Gives the ``Authorization`` header for scopes, and answers challenges. Safe for many threads; one thread asks
    for a token, the others wait for it.

    send: sends a token request (one attempt, or with retries). redirects: where the token service may be, and may send
    us. plain_allowed: whether secrets may go over plain HTTP to other machines. clock: monotonic seconds.
    """

    def __init__(
        self,
        source: CredentialFinder,
        send: Callable[[Request], Response],
        redirects: Redirects,
        *,
        where: str,
        plain_allowed: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._send = send
        self._redirects = redirects
        self._where = where
        self._plain_allowed = plain_allowed
        self._clock = clock
        self._lock = threading.Lock()
        self._challenge: Challenge | None = None
        self._credentials: dict[str, Credentials] = {}
        self._accounts: dict[Scopes, str] = {}
        self._tokens: dict[Scopes, _Token] = {}

    def header(self, scopes: Scopes) -> str:
        """The header to send, refreshed when due; empty before the registry has asked for anything."""
        challenge = self._challenge
        if challenge is None:
            return ""
        if challenge.scheme == "basic":
            return basic(self._find(scopes))
        slot = self._slot(scopes)
        with slot.lock:
            if self._clock() >= slot.use_until:
                self._fetch(slot, scopes, challenge)
            return slot.header

    def answer(self, challenges: Sequence[Challenge], scopes: Scopes, *, tried: str) -> str:
        """After a 401: the header to try next. tried: the refused one. Raises Unauthorized when there is no better."""
        challenge = self._choose(challenges)
        if challenge.scheme == "basic":
            return self._answer_basic(challenge, scopes, tried)
        slot = self._slot(scopes)
        with slot.lock:
            self._challenge = challenge
            known = slot.extra_scopes | (challenge.scopes - scopes)
            if slot.header in ("", tried) or known != slot.extra_scopes:
                slot.extra_scopes = known
                if tried and slot.header == tried:
                    self._forget(scopes)
                self._fetch(slot, scopes, challenge)
            return slot.header

    def _answer_basic(self, challenge: Challenge, scopes: Scopes, tried: str) -> str:
        self._challenge = challenge
        header = basic(self._find(scopes))
        if tried and header == tried:
            self._forget(scopes)
            header = basic(self._find(scopes))
        if not header or header == tried:
            reason = "the credentials were refused" if tried else "credentials are needed"
            raise Unauthorized(reason, where=self._where, do=LOG_IN, status=401)
        return header

    def _choose(self, challenges: Sequence[Challenge]) -> Challenge:
        for challenge in challenges:
            if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                return challenge
        for challenge in challenges:
            if challenge.scheme == "basic":
                return challenge
        offered = ", ".join(sorted({challenge.scheme for challenge in challenges}))[:100] or "nothing"
        raise Unauthorized(
            f"the registry asks for a log-in that is not known here ({offered})", where=self._where, status=401
        )

    def _slot(self, scopes: Scopes) -> _Token:
        with self._lock:
            return self._tokens.setdefault(scopes, _Token())

    def account(self, scopes: Scopes) -> str:
        """Which account serves scopes; of several repositories the one that is written to decides."""
        with self._lock:
            return self._account(scopes)

    def is_anonymous(self, scopes: Scopes) -> bool:
        """Whether no credentials are known for scopes."""
        return self._find(scopes).anonymous

    def _account(self, scopes: Scopes) -> str:
        if scopes not in self._accounts:
            self._accounts[scopes] = self._source.account(_repository(scopes))
        return self._accounts[scopes]

    def _find(self, scopes: Scopes) -> Credentials:
        with self._lock:
            account = self._account(scopes)
            known = self._credentials.get(account)
            if known is None or time.time() >= known.use_until:
                known = self._credentials[account] = self._source.find(account)
            return known

    def _forget(self, scopes: Scopes) -> None:
        """Ask the source again next time: a helper's or file's credentials may have been renewed."""
        with self._lock:
            self._credentials.pop(self._accounts.pop(scopes, ""), None)

    def _fetch(self, slot: _Token, scopes: Scopes, challenge: Challenge) -> None:
        slot.header, slot.use_until = "", 0.0
        wanted, known = sorted(scopes | slot.extra_scopes), self._find(scopes)
        try:
            token, life_s = self._ask(challenge, wanted, known)
        except Unauthorized:
            self._forget(scopes)  # they may have been renewed since they were found, or have come to their end
            found = self._find(scopes)
            if found == known:
                raise
            token, life_s = self._ask(challenge, wanted, found)
        slot.header = f"Bearer {token}"
        # Used until a quarter before the end, at most 30 s: a request takes time, and clocks differ.
        slot.use_until = self._clock() + life_s - min(30.0, life_s / 4)

    def _ask(self, challenge: Challenge, scopes: list[str], credentials: Credentials) -> tuple[str, float]:
        realm = challenge.parameters["realm"]
        origin, _ = split_url(realm, where=self._where)
        check_loopback_or_tls(origin, plain_allowed=self._plain_allowed, where=f"{self._where} (token service)")
        fields = [("service", challenge.parameters.get("service", "")), *(("scope", scope) for scope in scopes)]
        fields = [(name, value) for name, value in fields if value]
        if credentials.identity_token:
            return self._ask_oauth(realm, fields, credentials)
        join = "&" if urllib.parse.urlsplit(realm).query else "?"
        url = f"{realm}{join}{urllib.parse.urlencode(fields)}" if fields else realm
        headers = {"Accept": "application/json"}
        if not credentials.anonymous:
            headers["Authorization"] = basic(credentials)
        return self._read(self._travel("GET", url, headers))

    def _ask_oauth(self, realm: str, fields: list[tuple[str, str]], credentials: Credentials) -> tuple[str, float]:
        scope = " ".join(value for name, value in fields if name == "scope")
        form = [
            *((name, value) for name, value in fields if name != "scope"),
            ("scope", scope),
            ("grant_type", "refresh_token"),
            ("client_id", CLIENT_ID),
            ("refresh_token", credentials.identity_token),
        ]
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        body = urllib.parse.urlencode(form).encode()
        return self._read(self._travel("POST", realm, headers, body))

    def _travel(self, method: str, url: str, headers: dict[str, str], body: bytes | None = None) -> Response:
        """Ask the token service, wherever it redirects to; secrets go to the origin that the registry named alone."""
        guard = self._redirects.guard(url, doing=_DOING, where=self._where)
        response = self._send(Request(method, url, self._where, headers, body, guard=guard))
        trail = Trail(self._redirects, _DOING, self._where)
        named = split_url(url, where=self._where)[0]
        while response.status in REDIRECTS:
            with response:
                target, judge = trail.follow(method, response)
            request = Request(method, target, self._where, headers, body, guard=judge)
            if split_url(target, where=self._where)[0] != named:
                if body is not None:
                    raise RedirectRefused(
                        f"{_DOING} was redirected to another host, which must not get the refresh token",
                        where=self._where,
                        do="Use user and password for this registry",
                    )
                request = replace(request, headers={"Accept": headers["Accept"]})
            response = self._send(request)
        return response

    def _read(self, response: Response) -> tuple[str, float]:
        with response:
            if response.status != 200:
                raise self._refusal(response)
            raw = response.read(MAX_TOKEN_BYTES)
        try:
            answer: Any = json.loads(raw or b"")
            token = answer.get("token") or answer.get("access_token")
            life = float(answer.get("expires_in") or DEFAULT_LIFE_S)
        except (ValueError, AttributeError, TypeError, RecursionError):
            raise RegistryError("the token service did not answer with JSON", where=self._where) from None
        if not isinstance(token, str) or not token or not token.isascii() or any(c <= " " for c in token):
            raise RegistryError("the token service gave no usable token", where=self._where)
        return token, min(max(life, 1.0), MAX_LIFE_S) if life == life else DEFAULT_LIFE_S

    def _refusal(self, response: Response) -> Exception:
        wait = read_retry_after(response.header("Retry-After"))
        body = response.read(MAX_ERROR_BODY_BYTES) or b""
        error = translate_status(response.status, body, where=self._where, doing=_DOING, retry_after_s=wait)
        if isinstance(error, NotFound | Unsupported):
            return RegistryError(error.what, where=self._where, status=response.status)
        return error


_DOING = "asking for a token"
LOG_IN = "Give user name and password of this registry, or log in (`registry-pipelines login`, `docker login`)"


def basic(credentials: Credentials) -> str:
    """The ``Authorization`` header of basic credentials (RFC 7617, UTF-8); empty for anonymous."""
    if credentials.anonymous:
        return ""
    user, secret = credentials.username, credentials.password
    if credentials.identity_token and not secret:
        user, secret = user or "<token>", credentials.identity_token
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()
