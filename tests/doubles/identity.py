"""An identity provider (OpenID Connect Core 1.0, code flow with PKCE): whoever asks is whom the test names."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

CLIENT, SECRET = "pipelines", "of-the-client"
LIFE_S = 300


@dataclass(frozen=True)
class Person:
    """Who is logged in at the provider. padding: bytes of claims that nobody asks for."""

    email: str
    groups: Sequence[str] = ()
    verified: bool = True
    padding: int = 0


class IdentityProvider:
    """``with IdentityProvider() as provider: provider.person = Person("jane.roe@example.com")``."""

    def __init__(self) -> None:
        self.person = Person("nobody@example.com")
        self._key = rsa.generate_private_key(65537, 2048)
        self._asked: dict[str, tuple[Person, str, str]] = {}
        self._let_in: dict[str, Person] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("_Own", (_Pages,), {"provider": self}))
        self.issuer = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> IdentityProvider:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def configuration(self) -> dict[str, Any]:
        """OpenID Connect Discovery 1.0."""
        return {
            "issuer": self.issuer,
            **{f"{name}_endpoint": f"{self.issuer}/{name}" for name in ("authorization", "token", "userinfo")},
            "jwks_uri": f"{self.issuer}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def keys(self) -> dict[str, Any]:
        """RFC 7517."""
        numbers = self._key.public_key().public_numbers()
        n, e = (_text(number.to_bytes((number.bit_length() + 7) // 8)) for number in (numbers.n, numbers.e))
        return {"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "1", "n": n, "e": e}]}

    def authorize(self, query: Mapping[str, str]) -> str:
        """Where the browser goes then."""
        assert (query["client_id"], query["response_type"], query["code_challenge_method"]) == (CLIENT, "code", "S256")
        code = secrets.token_urlsafe(8)
        self._asked[code] = (self.person, query["code_challenge"], query.get("nonce", ""))
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def token(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Tokens for a code, once."""
        person, challenge, nonce = self._asked.pop(form["code"])
        assert _text(hashlib.sha256(form["code_verifier"].encode()).digest()) == challenge
        access = secrets.token_urlsafe(16)
        self._let_in[access] = person
        return {
            "token_type": "Bearer",
            "access_token": access,
            "expires_in": LIFE_S,
            "id_token": self.id_token(person, nonce=nonce),
        }

    def userinfo(self, access: str) -> dict[str, Any]:
        """What is told of who has an access token. Raises KeyError."""
        person = self._let_in[access]
        return {"sub": person.email, "email": person.email, "email_verified": person.verified}

    def id_token(self, person: Person, *, nonce: str = "", audience: str = CLIENT, issuer: str = "") -> str:
        """Who somebody is, signed."""
        now = int(time.time())
        claims = {
            "iss": issuer or self.issuer,
            "sub": person.email,
            "aud": audience,
            "iat": now,
            "exp": now + LIFE_S,
            "email": person.email,
            "email_verified": person.verified,
            "groups": list(person.groups),
            "more": secrets.token_hex(person.padding // 2),
            **({"nonce": nonce} if nonce else {}),
        }
        return self._signed(claims)

    def _signed(self, claims: Mapping[str, Any]) -> str:
        """RFC 7515, RS256."""
        head = {"alg": "RS256", "kid": "1", "typ": "JWT"}
        said = ".".join(_text(json.dumps(each).encode()) for each in (head, claims))
        return f"{said}.{_text(self._key.sign(said.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


class _Pages(BaseHTTPRequestHandler):
    provider: IdentityProvider
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if asked.path == "/authorization":
            query = {name: values[0] for name, values in parse_qs(asked.query).items()}
            self._answer(302, {}, {"Location": self.provider.authorize(query)})
        elif asked.path == "/keys":
            self._answer(200, self.provider.keys())
        elif asked.path == "/.well-known/openid-configuration":
            self._answer(200, self.provider.configuration())
        elif asked.path == "/userinfo":
            self._answer(200, self.provider.userinfo(self.headers["Authorization"].removeprefix("Bearer ")))
        else:
            self._answer(404, {})

    def do_POST(self) -> None:
        said = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        form = {name: values[0] for name, values in said.items()}
        scheme, _, login = self.headers.get("Authorization", "").partition(" ")
        by = (
            base64.b64decode(login).decode()
            if scheme == "Basic"
            else f"{form.get('client_id')}:{form.get('client_secret')}"
        )
        if by != f"{CLIENT}:{SECRET}":
            self._answer(401, {"error": "invalid_client"})
            return
        try:
            self._answer(200, self.provider.token(form))
        except (KeyError, AssertionError):
            self._answer(400, {"error": "invalid_grant"})

    def _answer(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        for name, text in {
            "Content-Type": "application/json",
            "Content-Length": str(len(raw)),
            **(headers or {}),
        }.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


__all__ = ["CLIENT", "SECRET", "IdentityProvider", "Person"]
