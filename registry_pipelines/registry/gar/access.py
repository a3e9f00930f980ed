"""How Google's APIs are asked: with which credentials, for which project, at which address."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from registry_pipelines.errors import RegistryPipelinesError, ToolMissing
from registry_pipelines.registry.client.credentials import Credentials
from registry_pipelines.registry.client.origins import is_loopback
from registry_pipelines.registry.gar.defaults import default_file, read_credentials

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
"""What a token may be used for; the roles of its account say what it may do."""
RENEW_EARLY_S = 300.0
"""A token (1 h) is renewed this long before its end, so that no request begins with one that ends under way."""
LEAST_LIFE_S = 30.0
"""A token is used so long even where its end, or a clock, says otherwise."""
GRAFEAS_HOST = "containeranalysis.googleapis.com"
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
        """google-auth's credentials; no token yet. Raises ToolMissing, Unauthorized."""
        with self._lock:
            file = self.credentials_file or default_file()
            try:
                own = read_credentials(file, SCOPE) if file else _of_this_machine()
                return self._as_account(own) if self.impersonate else own
            except ImportError as error:
                raise ToolMissing(
                    "google-auth is not installed; Google's registries need it",
                    do="Install it: pip install 'registry-pipelines[google]'",
                ) from error
            except Exception as error:
                raise self._failed(error, where=str(file or ""), doing="reading Google credentials") from None

    def _as_account(self, own: Any) -> Any:
        from google.auth import impersonated_credentials

        account = f"projects/-/serviceAccounts/{self.impersonate}"
        there = f"{self.endpoint}/v1/{account}:generateAccessToken" if self.endpoint else None
        return impersonated_credentials.Credentials(
            own, target_principal=self.impersonate, target_scopes=[SCOPE], iam_endpoint_override=there
        )

    def _failed(self, error: Exception, *, where: str, doing: str) -> RegistryPipelinesError:
        from registry_pipelines.registry.gar.failures import translate

        permission = "iam.serviceAccounts.getAccessToken" if self.impersonate else ""
        return translate(error, where=where, doing=doing, permission=permission)

    def find(self, account: str = "") -> Credentials:
        """A log-in for the distribution protocol: always a new token. See CredentialFinder. Raises ToolMissing,
        Unauthorized, Unavailable."""
        credentials = self.credentials
        from google.auth.transport.requests import Request

        with self._lock:
            try:
                credentials.refresh(Request())
            except Exception as error:  # not chained: a token service's answer may hold what it was sent
                raise self._failed(error, where=self.impersonate, doing="asking Google for a token") from None
            expires = credentials.expiry  # naive UTC, as google-auth has it
            until = expires.replace(tzinfo=UTC).timestamp() - RENEW_EARLY_S if expires else math.inf
            # A metadata server gives the same token until shortly before its end: it is not asked at each request.
            return Credentials(USERNAME, credentials.token, use_until=max(until, time.time() + LEAST_LIFE_S))

    def account(self, repository: str) -> str:
        """One log-in for all repositories. See CredentialFinder."""
        return ""

    def client(self, kind: type[_C]) -> _C:
        """A client of one of Google's libraries, made once: over gRPC, or over REST where there is an ``endpoint``. One
        with http:// on this machine is asked without credentials. Raises ToolMissing, Unauthorized."""
        with self._lock:
            if kind not in self._made:
                self._made[kind] = self._make(kind)
            made: _C = self._made[kind]
            return made

    def _make(self, kind: Any) -> Any:
        if not self.endpoint:
            # Grafeas is an open interface: its client knows no host of Google's.
            host = {"host": GRAFEAS_HOST} if kind.__name__ == "GrafeasClient" else {}
            return kind(transport=kind.get_transport_class("grpc")(credentials=self.credentials, **host))
        from google.auth.credentials import AnonymousCredentials

        parts = urlsplit(self.endpoint)
        plain = parts.scheme == "http" and is_loopback(parts.hostname or "")
        credentials = AnonymousCredentials() if plain else self.credentials
        rest = kind.get_transport_class("rest")
        return kind(transport=rest(host=parts.netloc, credentials=credentials, url_scheme=parts.scheme))


def _of_this_machine() -> Any:
    """What google-auth finds without a file: the account of a machine of Google's, or nothing."""
    import google.auth

    return google.auth.default(scopes=[SCOPE])[0]


__all__ = ["GoogleAccess", "LOG_IN", "USERNAME"]
