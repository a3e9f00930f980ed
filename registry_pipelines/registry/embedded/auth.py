"""Who may do what: nobody asked (off), basic passwords, or bearer tokens from an own token endpoint.

Tokens follow the distribution project's token authentication ("Token Authentication Specification"): a challenge names
realm, service and scope; the endpoint answers ``{"token": ...}``. A token is our own signed JSON, made with a key that
lives as long as the server, so a restart makes clients ask again, as they do when a token expires.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs

import bcrypt

from registry_pipelines.errors import InputError
from registry_pipelines.registry.embedded.heads import Request
from registry_pipelines.registry.embedded.responses import ApiError, Response, error_response, json_response

TOKEN_LIFE_S = 300
"""As Docker Hub's."""
MAX_FORM_BYTES = 64 * 1024
"""The body of a token request by POST."""
PULL, PUSH, DELETE = "pull", "push", "delete"
_SCOPE = re.compile(r"(repository|registry):([^\s:]+):([a-z*,]+)\Z")
_SAFE_HOST = re.compile(r"[A-Za-z0-9.\-\[\]:]+\Z")


@dataclass(frozen=True)
class User:
    """One account: a password, or with ``hashed`` its bcrypt hash. ``push`` also stands for deleting."""

    password: str = field(repr=False)
    push: bool = True
    hashed: bool = False


def read_htpasswd(path: Path) -> dict[str, User]:
    """The accounts of an htpasswd file; bcrypt lines only, as docker-registry. Raises InputError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the htpasswd file cannot be read: {error}", where=str(path)) from error
    users = {}
    for number, line in enumerate(lines, 1):
        name, colon, digest = line.strip().partition(":")
        if not line.strip() or line.startswith("#"):
            continue
        if not name or not colon or not digest.startswith(("$2a$", "$2b$", "$2y$")):
            raise InputError(
                "not a line of name and bcrypt hash", where=f"{path}:{number}", do="Make it with `htpasswd -B`"
            )
        users[name] = User(digest, hashed=True)
    if not users:
        raise InputError("the htpasswd file has no account", where=str(path), do="Add one, or leave the file out")
    return users


@dataclass(frozen=True)
class Access:
    """What a request wants: an action on a repository; the catalogue is ``registry:catalog``."""

    kind: str
    name: str
    action: str

    @property
    def scope(self) -> str:
        """As in a challenge."""
        actions = {PULL: "pull", PUSH: "pull,push", DELETE: "delete"}.get(self.action, self.action)
        return f"{self.kind}:{self.name}:{actions}"


def _same(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode())


class Gate:
    """Decides for every request. ``users`` empty: everything is open.

    tokens: bearer tokens instead of basic. anonymous_pull: reading needs no account. Raises InputError for a user
    without a name: nobody's name is empty, so everybody would have that account.
    """

    def __init__(self, users: Mapping[str, User], *, tokens: bool = False, anonymous_pull: bool = False) -> None:
        if any(not name or ":" in name for name in users):
            raise InputError("a user's name is empty or has a colon", do="Give every account a name without colon")
        self._users = dict(users)
        self._tokens = tokens
        self._anonymous_pull = anonymous_pull
        self._key = secrets.token_bytes(32)
        self._known_passwords: set[bytes] = set()

    @property
    def open(self) -> bool:
        """Whether there are no accounts at all."""
        return not self._users

    def check(self, request: Request, access: Access | None) -> None:
        """Let the request pass and set its user, or raise ApiError (401, 403). ``access`` None: the ping."""
        if self.open:
            return
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if self._tokens:
            self._check_token(request, access, value.strip() if scheme.lower() == "bearer" else "")
        else:
            self._check_basic(request, access, value.strip() if scheme.lower() == "basic" else "")

    def covers(self, request: Request, access: Access) -> bool:
        """Whether a request that :meth:`check` let pass may have this access too: a token may be for less than its
        user."""
        if self.open:
            return True
        if not self._may(request.user, access):
            return False
        if not self._tokens:
            return True
        claims = self._read_token(request.headers.get("authorization", "").partition(" ")[2].strip())
        return claims is not None and [access.kind, access.name, access.action] in claims["access"]

    def _check_basic(self, request: Request, access: Access | None, value: str) -> None:
        name = self._login(value) if value else ""
        if value and not name:
            raise self._challenge(request, access, "the user name or password is wrong")
        if not name and not self._may(name, access):
            raise self._challenge(request, access, "log in first")
        self._require(name, access)
        request.user = name

    def _check_token(self, request: Request, access: Access | None, value: str) -> None:
        claims = self._read_token(value) if value else None
        if claims is None:
            raise self._challenge(request, access, "a valid token is needed")
        name = str(claims["sub"])
        request.user = name
        if access is None:
            return
        if not name and not self._may(name, access):
            raise self._challenge(request, access, "log in first")
        self._require(name, access)
        if [access.kind, access.name, access.action] not in claims["access"]:
            raise self._challenge(request, access, "the token does not cover this", error="insufficient_scope")

    def _require(self, name: str, access: Access | None) -> None:
        if not self._may(name, access):
            raise ApiError(403, "DENIED", f"user {name!r} may not do this")

    def _may(self, name: str, access: Access | None) -> bool:
        user = self._users.get(name)
        if user is not None:
            return access is None or access.action == PULL or access.kind == "registry" or user.push
        return self._anonymous_pull and access is not None and access.action == PULL and access.kind == "repository"

    def _login(self, basic: str) -> str:
        """The user's name, empty when the credentials are wrong."""
        try:
            name, colon, password = base64.b64decode(basic, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return ""
        user = self._users.get(name)
        if user is None or not colon:
            return ""
        right = self._matches_hash(user, password) if user.hashed else _same(user.password, password)
        return name if right else ""

    def _matches_hash(self, user: User, password: str) -> bool:
        """bcrypt is slow on purpose; what was right once is remembered under a key of this process."""
        seen = hmac.new(self._key, f"{user.password}\0{password}".encode(), hashlib.sha256).digest()
        if seen in self._known_passwords:
            return True
        raw = password.encode()[:72]  # bcrypt reads no more; the library refuses longer ones since 5.0
        if not bcrypt.checkpw(raw, user.password.encode()):
            return False
        self._known_passwords.add(seen)
        return True

    def _challenge(self, request: Request, access: Access | None, message: str, *, error: str = "") -> ApiError:
        if not self._tokens:
            return ApiError(401, "UNAUTHORIZED", message, headers=(("WWW-Authenticate", 'Basic realm="registry"'),))
        host = request.headers.get("host", "")
        base = request.base_url if _SAFE_HOST.match(host) else f"{request.scheme}://{request.local_address}"
        challenge = f'Bearer realm="{base}/token",service="{base.partition("://")[2]}"'
        if access is not None:
            challenge += f',scope="{access.scope}"'
        if error:
            challenge += f',error="{error}"'
        return ApiError(401, "UNAUTHORIZED", message, headers=(("WWW-Authenticate", challenge),))

    # Tokens

    def issue(self, request: Request) -> Response:
        """The token endpoint: GET with basic credentials, or POST with a password grant (OAuth 2, RFC 6749, 4.3)."""
        if self.open or not self._tokens:
            return error_response(404, "UNSUPPORTED", "this registry gives no tokens")
        if request.method == "POST":
            fields = parse_qs((request.body.read(MAX_FORM_BYTES) or b"").decode("latin-1"))
            given = f"{fields.get('username', [''])[0]}:{fields.get('password', [''])[0]}"
            basic = base64.b64encode(given.encode("utf-8")).decode() if "username" in fields else ""
            scopes = " ".join(fields.get("scope", ())).split()
        else:
            scheme, _, value = request.headers.get("authorization", "").partition(" ")
            basic = value.strip() if scheme.lower() == "basic" else ""
            scopes = " ".join(request.query.get("scope", ())).split()
        name = self._login(basic) if basic else ""
        if (basic and not name) or (not name and not self._anonymous_pull):
            refusal = (("WWW-Authenticate", 'Basic realm="registry"'),)
            return error_response(401, "UNAUTHORIZED", "the user name or password is wrong", headers=refusal)
        now = time.time()
        token = self._sign({"sub": name, "exp": now + TOKEN_LIFE_S, "access": self._granted(name, scopes)})
        document = {
            "token": token,
            "access_token": token,
            "expires_in": TOKEN_LIFE_S,
            "issued_at": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        return json_response(document, headers=(("Cache-Control", "no-store"),))

    def _granted(self, name: str, scopes: list[str]) -> list[list[str]]:
        granted = []
        for scope in scopes[:64]:
            match = _SCOPE.match(scope)
            if not match:
                continue
            actions = match[3].split(",")
            if match[1] == "repository" and "*" in actions:
                actions = [PULL, PUSH, DELETE]
            for action in dict.fromkeys(actions):
                if self._may(name, Access(match[1], match[2], action)):
                    granted.append([match[1], match[2], action])
        return granted

    def _sign(self, claims: Mapping[str, object]) -> str:
        payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        return f"{payload}.{self._mac(payload)}"

    def _mac(self, payload: str) -> str:
        mac = hmac.new(self._key, payload.encode("latin-1"), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(mac).decode().rstrip("=")

    def _read_token(self, token: str) -> dict[str, list[list[str]] | str] | None:
        payload, dot, mac = token.partition(".")
        if not dot or not hmac.compare_digest(self._mac(payload).encode(), mac.encode("latin-1")):
            return None
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return claims if claims["exp"] > time.time() else None


__all__ = ["DELETE", "PULL", "PUSH", "TOKEN_LIFE_S", "Access", "Gate", "User", "read_htpasswd"]
