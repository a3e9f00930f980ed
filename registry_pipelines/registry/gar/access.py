"""How Google's APIs are asked: with which credentials, for which project, at which address."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from registry_pipelines.errors import ToolMissing, Unauthorized
from registry_pipelines.registry.client.credentials import Credentials
from registry_pipelines.registry.client.origins import is_loopback

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
"""What a token may be used for; the roles of its account say what it may do."""
RENEW_EARLY_S = 300.0
"""A token (1 h) is renewed this long before its end, so that no request begins with one that ends under way."""
USERNAME = "oauth2accesstoken"
"""User name that Artifact Registry takes an access token for (its guide "Configure authentication")."""
LOG_IN = "Log in: gcloud auth application-default login; or name a file in `credentials`"

_C = TypeVar("_C")


@dataclass(frozen=True)
class GoogleAccess:
    """Credentials and clients of one project in one location. Safe for many threads; no network before the first call.

    credentials_file: JSON of a service account, of workload identity federation or of gcloud; without it Google's
    application default credentials. impersonate: service account whose token is asked for with those. endpoint:
    ``http(s)://host:port`` of every API where it is not the usual one; on this machine it needs no credentials.
    """

    project: str = ""
    location: str = ""
    credentials_file: Path | None = None
    impersonate: str = ""
    endpoint: str = ""
    _made: dict[type, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False, compare=False)

    @cached_property
    def credentials(self) -> Any:
        """google-auth's credentials. Raises ToolMissing, Unauthorized."""
        with self._lock:
            try:
                import google.auth
                from google.auth import exceptions, impersonated_credentials
            except ImportError as error:
                raise ToolMissing(
                    "google-auth is not installed; Google's registries need it",
                    do="Install it: pip install 'registry-pipelines[google]'",
                ) from error
            try:
                if self.credentials_file is not None:
                    own, _ = google.auth.load_credentials_from_file(str(self.credentials_file), scopes=[SCOPE])
                else:
                    own, _ = google.auth.default(scopes=[SCOPE])
            except exceptions.GoogleAuthError as error:
                raise Unauthorized(f"no Google credentials: {str(error)[:300]}", do=LOG_IN) from error
            if not self.impersonate:
                return own
            return impersonated_credentials.Credentials(own, target_principal=self.impersonate, target_scopes=[SCOPE])

    def find(self, account: str = "") -> Credentials:
        """A log-in for the distribution protocol. See CredentialFinder. Raises ToolMissing, Unauthorized."""
        from google.auth import exceptions
        from google.auth.transport.requests import Request

        credentials = self.credentials
        with self._lock:
            try:
                credentials.refresh(Request())
            except exceptions.GoogleAuthError as error:
                raise Unauthorized(f"Google gave no token: {type(error).__name__}", do=LOG_IN) from error
            expires = credentials.expiry  # naive UTC, as google-auth has it
            until = expires.replace(tzinfo=UTC).timestamp() - RENEW_EARLY_S if expires else 0.0
            return Credentials(USERNAME, credentials.token, use_until=until)

    def account(self, repository: str) -> str:
        """One log-in for all repositories. See CredentialFinder."""
        return ""

    def client(self, kind: type[_C]) -> _C:
        """A client of one of Google's libraries, made once. An ``endpoint`` with http:// is asked over REST and without
        credentials; one with https:// over REST with them. Raises ToolMissing, Unauthorized."""
        with self._lock:
            if kind not in self._made:
                self._made[kind] = self._make(kind)
            made: _C = self._made[kind]
            return made

    def _make(self, kind: Any) -> Any:
        if not self.endpoint:
            return kind(credentials=self.credentials)
        from google.auth.credentials import AnonymousCredentials

        parts = urlsplit(self.endpoint)
        plain = parts.scheme == "http" and is_loopback(parts.hostname or "")
        credentials = AnonymousCredentials() if plain else self.credentials
        return kind(transport="rest", credentials=credentials, client_options={"api_endpoint": self.endpoint})


__all__ = ["GoogleAccess", "LOG_IN", "USERNAME"]
