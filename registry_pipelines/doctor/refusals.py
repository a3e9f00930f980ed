"""What an error of our own client means for a node's pull: its class and the registry's words in it."""

from __future__ import annotations

from registry_pipelines.doctor.model import Cause
from registry_pipelines.doctor.rules import rule_of
from registry_pipelines.errors import (
    ContentError,
    Forbidden,
    ManifestOutdated,
    NotFound,
    QuotaSpent,
    RateLimited,
    RedirectRefused,
    RegistryPipelinesError,
    Stalled,
    TlsFailed,
    ToolMissing,
    Unauthorized,
    Unavailable,
    Unsupported,
)

_OURS: tuple[tuple[str, Cause], ...] = (
    ("host name does not resolve", "dns"),
    ("nothing listens there", "refused-connection"),
    ("does not speak TLS", "plain-http"),
    ("no credentials for it are known here", "no-credentials"),
    ("gave no token", "no-identity"),
    ("no Google credentials", "no-identity"),
    ("no AWS credentials", "no-identity"),
)
"""Words of our own errors, which the rules for other programs do not know."""

_BY_CLASS: tuple[tuple[type[RegistryPipelinesError], Cause], ...] = (
    (TlsFailed, "tls"),
    (QuotaSpent, "pull-limit"),
    (RateLimited, "registry-rate"),
    (Stalled, "timeout"),
    (RedirectRefused, "layer-store-denied"),
    (Unauthorized, "wrong-password"),
    (Forbidden, "denied-or-missing"),
    (ManifestOutdated, "schema-1"),
    (ContentError, "content-damaged"),
    (Unsupported, "manifest-kind"),
    (ToolMissing, "no-identity"),
)

_TELLING: frozenset[Cause] = frozenset(
    {
        "abuse-limit",
        "credentials-expired",
        "endpoint-policy",
        "gcr-closed",
        "no-identity",
        "permission",
        "pull-limit",
        "token-expired",
        "vpc-service-controls",
    }
)
"""Causes whose words are exact wherever they stand; others are decided by the error's class."""


def cause_of(error: RegistryPipelinesError) -> Cause:
    """The cause that an error stands for."""
    words = f"{error.what} {error.__cause__ or ''}"
    if isinstance(error, TlsFailed) and "speak TLS" in error.what:
        return "plain-http"
    for text, cause in _OURS:
        if text in words:
            return cause
    found = rule_of(words)
    if found and found[0].cause in _TELLING:
        return found[0].cause
    if isinstance(error, NotFound):
        return "no-repository" if error.code == "NAME_UNKNOWN" or "RepositoryNotFound" in words else "no-tag"
    for kind, cause in _BY_CLASS:
        if isinstance(error, kind):
            return cause
    if isinstance(error, Unavailable):
        return "registry-fails" if error.status >= 500 else "timeout"
    return found[0].cause if found else "unknown"
