"""Where Google's access tokens come from: OAuth's token endpoint, the security token service, service accounts that are
impersonated, the metadata server. All at the address of the REST door.

Each checks what it is given as the real one does: the signature, audience and times of a service account's assertion
(developers.google.com/identity/protocols/oauth2/service-account), the subject token of a federated workload
(cloud.google.com/iam/docs/reference/sts), the header that the metadata server wants.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from registry_pipelines.registry.embedded import Request, Response
from tests.doubles.google.doors import error_answer
from tests.doubles.google.world import Refusal, World

_IMPERSONATE = re.compile(r"/v1/projects/-/serviceAccounts/([^/:]+):generateAccessToken")
_METADATA = "/computeMetadata/v1/"
JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"


@cache
def _key_pair() -> tuple[str, str]:
    """One RSA key for all service accounts of a test run: (private PEM, public PEM)."""
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


@dataclass
class Accounts:
    """Who can log in. service: e-mail to public key. refresh: refresh token to user. subjects: a federated workload's
    token to its audience. metadata_account: whom the machine runs as, empty for a machine that is not Google's."""

    service: dict[str, str] = field(default_factory=dict)
    refresh: dict[str, str] = field(default_factory=dict)
    subjects: dict[str, str] = field(default_factory=dict)
    metadata_account: str = ""
    project: str = "ml-prod"
    given: dict[str, int] = field(default_factory=dict)
    """How many tokens each way of logging in gave."""


class AccountDoor:
    """Answers the paths of token services; None for all others."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._accounts = world.state(Accounts)

    def __call__(self, request: Request) -> Response | None:
        path = request.path
        body = request.body.read(1024 * 1024) or b""
        if path == "/token" and request.method == "POST":
            return self._faulty("token") or self._oauth(_form(body), f"{request.base_url}/token")
        if path == "/v1/token" and request.method == "POST":
            return self._faulty("sts") or self._exchange(_form(body))
        found = _IMPERSONATE.fullmatch(unquote(path))
        if found and request.method == "POST":
            return self._faulty("impersonate") or self._impersonate(found[1], request, body)
        if path.startswith(_METADATA) or (path == "/" and "metadata-flavor" in request.headers):
            return self._metadata(request)
        return None

    def _faulty(self, name: str) -> Response | None:
        self._world.calls[name] += 1
        fault = self._world.take_fault(name)
        if fault is None:
            return None
        if fault.refusal is not None:
            return error_answer(fault.refusal)
        return Response(fault.html, [("Content-Type", "text/html")], b"<!DOCTYPE html><title>Error</title>")

    def _token(self, way: str, principal: str, seconds: float | None = None) -> tuple[str, int]:
        self._accounts.given[way] = self._accounts.given.get(way, 0) + 1
        return self._world.issue(principal, seconds)

    def _oauth(self, form: dict[str, str], here: str) -> Response:
        if form.get("grant_type") == JWT_GRANT:
            return self._assertion(form.get("assertion", ""), here)
        if form.get("grant_type") == "refresh_token":
            user = self._accounts.refresh.get(form.get("refresh_token", ""))
            if user is None or not form.get("client_id") or not form.get("client_secret"):
                return _oauth_error("invalid_grant", "Token has been expired or revoked.")
            token, life = self._token("refresh", user)
            return _json({"access_token": token, "expires_in": life, "token_type": "Bearer"})
        return _oauth_error("unsupported_grant_type", "Invalid grant_type")

    def _assertion(self, assertion: str, here: str) -> Response:
        try:
            claims = jwt.decode(assertion, options={"verify_signature": False})
            public = self._accounts.service[claims["iss"]]
            checked = jwt.decode(
                assertion,
                public,
                algorithms=["RS256"],
                audience=[
                    here,
                    "https://oauth2.googleapis.com/token",
                ],  # google-auth always writes the second
                leeway=5,
                options={"require": ["exp", "iat"]},
            )
        except KeyError:
            return _oauth_error("invalid_grant", "Invalid grant: account not found")
        except jwt.InvalidSignatureError:
            return _oauth_error("invalid_grant", "Invalid JWT Signature.")
        except jwt.PyJWTError as error:
            return _oauth_error("invalid_grant", f"Invalid JWT: {error}")
        if checked["exp"] - checked["iat"] > 3600 or not checked.get("scope"):
            return _oauth_error("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        token, life = self._token("service_account", checked["iss"])
        return _json({"access_token": token, "expires_in": life, "token_type": "Bearer"})

    def _exchange(self, form: dict[str, str]) -> Response:
        audience = self._accounts.subjects.get(form.get("subject_token", ""))
        if form.get("grant_type") != EXCHANGE_GRANT or audience is None or audience != form.get("audience"):
            return _oauth_error("invalid_grant", "The given credential is rejected by the attribute condition.")
        token, life = self._token("federated", f"principal://iam.googleapis.com/{audience.lstrip('/')}")
        kind = "urn:ietf:params:oauth:token-type:access_token"
        return _json({"access_token": token, "issued_token_type": kind, "token_type": "Bearer", "expires_in": life})

    def _impersonate(self, email: str, request: Request, body: bytes) -> Response:
        try:
            self._world.require_login, before = True, self._world.require_login
            try:
                self._world.log_in(request.headers.get("authorization", ""))
            finally:
                self._world.require_login = before
            self._world.may("iam.serviceAccounts.getAccessToken", f"projects/-/serviceAccounts/{email}")
            if email not in self._accounts.service:
                raise Refusal("NOT_FOUND", f"Gaia id not found for email {email}")
            asked = json.loads(body or b"{}")
            if not asked.get("scope"):
                raise Refusal("INVALID_ARGUMENT", "scope: required")
        except Refusal as refusal:
            return error_answer(refusal)
        seconds = float(str(asked.get("lifetime", "3600s")).rstrip("s"))
        token, life = self._token("impersonated", email, seconds)
        until = (self._world.now() + timedelta(seconds=life)).astimezone(UTC)
        return _json({"accessToken": token, "expireTime": until.strftime("%Y-%m-%dT%H:%M:%SZ")})

    def _metadata(self, request: Request) -> Response:
        flavour = ("Metadata-Flavor", "Google")
        if request.headers.get("metadata-flavor") != "Google":
            return Response(403, [flavour], b"Missing Metadata-Flavor:Google header.")
        account = self._accounts.metadata_account
        path = request.path.removeprefix(_METADATA)
        if request.path == "/":
            return Response(200, [flavour], b"computeMetadata/\n")
        if not account:
            return Response(404, [flavour], b"not found")
        if path == "project/project-id":
            return Response(200, [flavour, ("Content-Type", "application/text")], self._accounts.project.encode())
        if path == "universe/universe-domain":
            return Response(200, [flavour, ("Content-Type", "application/text")], b"googleapis.com")
        if re.fullmatch(r"instance/service-accounts/(default|[^/]+@[^/]+)/token", path):
            token, life = self._token("metadata", account)
            return _json({"access_token": token, "expires_in": life, "token_type": "Bearer"}, flavour)
        if re.fullmatch(r"instance/service-accounts/(default|[^/]+@[^/]+)/?", path):
            scopes = ["https://www.googleapis.com/auth/cloud-platform"]
            return _json({"aliases": ["default"], "email": account, "scopes": scopes}, flavour)
        if re.fullmatch(r"instance/service-accounts/default/email", path):
            return Response(200, [flavour, ("Content-Type", "application/text")], account.encode())
        return Response(404, [flavour], b"not found")


def _form(body: bytes) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(body.decode()).items()}


def _json(document: dict[str, Any], *headers: tuple[str, str]) -> Response:
    return Response(200, [("Content-Type", "application/json; charset=utf-8"), *headers], json.dumps(document).encode())


def _oauth_error(code: str, words: str) -> Response:
    body = json.dumps({"error": code, "error_description": words}).encode()
    return Response(400, [("Content-Type", "application/json; charset=utf-8")], body)


# Files that persons and machines log in with


def service_account_file(
    world: World, path: Path, address: str, email: str = "ci@ml-prod.iam.gserviceaccount.com"
) -> Path:
    """The key file of a service account, which the double from then on knows."""
    private, public = _key_pair()
    world.state(Accounts).service[email] = public
    document = {
        "type": "service_account",
        "project_id": email.partition("@")[2].partition(".")[0],
        "private_key_id": "key-1",
        "private_key": private,
        "client_email": email,
        "client_id": "100000000000000000001",
        "token_uri": f"{address}/token",
        "universe_domain": "googleapis.com",
    }
    path.write_text(json.dumps(document))
    return path


def user_file(world: World, path: Path, address: str, user: str = "ada@example.com") -> Path:
    """What `gcloud auth application-default login` leaves."""
    world.state(Accounts).refresh["1//refresh"] = user
    document = {
        "type": "authorized_user",
        "client_id": "client.apps.googleusercontent.com",
        "client_secret": "client-secret",
        "refresh_token": "1//refresh",
        "token_uri": f"{address}/token",
        "quota_project_id": "ml-prod",
    }
    path.write_text(json.dumps(document))
    return path


def federation_file(world: World, path: Path, address: str, *, impersonate: str = "") -> Path:
    """The configuration of a workload of another cloud (no secret in it), and beside it the token that it has there."""
    audience = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/github"
    subject = path.with_suffix(".subject")
    subject.write_text(f"subject-{time.time_ns()}")
    world.state(Accounts).subjects[subject.read_text()] = audience
    document: dict[str, Any] = {
        "type": "external_account",
        "audience": audience,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{address}/v1/token",
        "credential_source": {"file": str(subject)},
        "universe_domain": "googleapis.com",
    }
    if impersonate:
        world.state(Accounts).service.setdefault(impersonate, _key_pair()[1])
        document["service_account_impersonation_url"] = (
            f"{address}/v1/projects/-/serviceAccounts/{impersonate}:generateAccessToken"
        )
    path.write_text(json.dumps(document))
    return path


__all__ = ["AccountDoor", "Accounts", "federation_file", "service_account_file", "user_file"]
