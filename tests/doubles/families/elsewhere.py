"""The second host of a family: what redirects and challenges of the first lead to.

It listens on another loopback address, so that a client which sends its password along is found out: nothing here but
the token service takes an Authorization, as S3, whose signed addresses know one way to log in, answers 400 to it.
"""

from __future__ import annotations

import base64
import itertools
import secrets
from collections.abc import Callable, Iterator

from registry_pipelines.registry.embedded import Request, Response
from registry_pipelines.registry.embedded.application import Handler
from registry_pipelines.registry.embedded.responses import json_response

TOKEN_PATH = "/token"
FAR = "/v2/far/"
"""What stands before the repositories of a registry that another one redirects to."""
FAR_PAGE = 2
"""Names in one page there, so that a relative link has to be followed."""


class TokenService:
    """Gives tokens by the distribution project's token specification, to anybody for reading, for all else to one
    account."""

    def __init__(self, user: tuple[str, str] | None) -> None:
        self._basic = base64.b64encode(":".join(user).encode()).decode() if user else ""
        self._tokens: dict[str, frozenset[str]] = {}

    def give(self, request: Request) -> Response:
        """``GET /token?service=&scope=``: a token for what may be had of the scopes, as Docker Hub and GitLab do."""
        known = request.headers.get("authorization", "") == f"Basic {self._basic}" and bool(self._basic)
        if request.headers.get("authorization") and not known:
            return json_response({"details": "incorrect username or password"}, status=401)
        granted = set()
        for scope in " ".join(request.query.get("scope", [])).split():
            kind, name, actions = scope.split(":", 2)
            if kind == "repository":
                granted.update(f"{name}:{action}" for action in actions.split(",") if known or action == "pull")
        token = secrets.token_hex(16)
        self._tokens[token] = frozenset(granted)
        return json_response({"token": token, "access_token": token, "expires_in": 300})

    def allows(self, request: Request, need: str) -> bool:
        """Whether the request's token is for ``need`` (``repository:action``; empty: any token will do)."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            return token == self._basic
        granted = self._tokens.get(token)
        return granted is not None and (not need or need in granted)


class Elsewhere:
    """What answers at the second host. pass_on: the registry without its deviations."""

    def __init__(self, tokens: TokenService, pass_on: Callable[[], Handler]) -> None:
        self._tokens = tokens
        self._pass_on = pass_on
        self._signed: dict[str, Request] = {}
        self._pages: Iterator[int] = itertools.cycle((404, 429))
        self.strangers: list[str] = []
        """Requests that carried an Authorization to where none belongs."""

    def sign(self, request: Request) -> str:
        """A path here that gives the answer to a GET."""
        name = secrets.token_hex(8)
        self._signed[name] = request
        return f"/signed/{name}?X-Amz-Signature={secrets.token_hex(16)}"

    def __call__(self, request: Request) -> Response:
        """Answer one request."""
        if request.path == TOKEN_PATH:
            return self._tokens.give(request)
        if request.headers.get("authorization"):
            self.strangers.append(request.target)
            return Response(400, [("Content-Type", "application/xml")], b"<Error><Code>InvalidArgument</Code></Error>")
        if request.path.startswith("/signed/"):
            return self._stored(request)
        if request.path.startswith(FAR):
            return self._far(request)
        return Response(next(self._pages), [("Content-Type", "text/html; charset=utf-8")], b"<!doctype html>Not Found")

    def _far(self, request: Request) -> Response:
        request.path = "/v2/" + request.path.removeprefix(FAR)
        if request.path.endswith("/tags/list"):
            request.query["n"] = [str(FAR_PAGE)]
        return self._pass_on()(request)

    def _stored(self, request: Request) -> Response:
        wanted = self._signed.get(request.path.removeprefix("/signed/"))
        if wanted is None or request.method != "GET":
            return Response(
                403, [("Content-Type", "application/xml")], b"<Error><Code>SignatureDoesNotMatch</Code></Error>"
            )
        request.path = wanted.path
        return self._pass_on()(request)
