"""What Google's libraries raise becomes errors of ``errors.py``.

By gRPC and by REST one failure has different classes (``AlreadyExists`` is below ``Conflict``, REST knows only that),
so the status decides: google.rpc.Code's name where the answer has it, else that of HTTP. Sources: AIP-193 (errors),
google/rpc/code.proto, google/rpc/error_details.proto (ErrorInfo, RetryInfo), cloud.google.com/apis/design/errors.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from registry_pipelines.errors import (
    Forbidden,
    NotFound,
    RateLimited,
    Refused,
    RegistryError,
    RegistryPipelinesError,
    Stalled,
    TagImmutable,
    TlsFailed,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from registry_pipelines.registry.client.retries import read_retry_after
from registry_pipelines.registry.client.translate import quote
from registry_pipelines.registry.gar.access import LOG_IN
from registry_pipelines.registry.permissions import role_with

_PERMISSION = re.compile(r"[Pp]ermission [\"']?([a-z]+(?:\.[A-Za-z]+){2})[\"']? denied")
_REST_PREFIX = re.compile(r"^(GET|POST|PUT|PATCH|DELETE) https?://[^\s]+: ")

_BY_STATUS: dict[str, type[RegistryError]] = {
    "INVALID_ARGUMENT": Refused,
    "FAILED_PRECONDITION": Refused,
    "OUT_OF_RANGE": Refused,
    "UNAUTHENTICATED": Unauthorized,
    "PERMISSION_DENIED": Forbidden,
    "NOT_FOUND": NotFound,
    "ALREADY_EXISTS": Refused,
    "ABORTED": Unavailable,
    "CANCELLED": Unavailable,
    "UNKNOWN": Unavailable,
    "INTERNAL": Unavailable,
    "DATA_LOSS": RegistryError,
    "UNIMPLEMENTED": Unsupported,
    "UNAVAILABLE": Unavailable,
    "DEADLINE_EXCEEDED": Stalled,
}
_BY_HTTP: dict[int, type[RegistryError]] = {
    400: Refused,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: Unsupported,
    409: Refused,
    412: Refused,
    499: Unavailable,
    501: Unsupported,
    504: Stalled,
}
_DO: dict[type[RegistryError], str] = {
    Unauthorized: LOG_IN,
    NotFound: "Check project, location and repository; repositories are made before a push "
    "(`gcloud artifacts repositories create`)",
    Unavailable: "Try again later",
    Stalled: "Try again; check the network",
}

_REASONS: dict[str, tuple[type[RegistryError], str]] = {
    "SERVICE_DISABLED": (Forbidden, "Switch the API on: gcloud services enable {service}"),
    "BILLING_DISABLED": (Forbidden, "Give the project a billing account"),
    "CONSUMER_INVALID": (Forbidden, "Check `project`: there is none of this name, or these credentials do not see it"),
    "USER_PROJECT_DENIED": (
        Forbidden,
        "Give the role roles/serviceusage.serviceUsageConsumer on the project that the credentials bill "
        "(quota_project_id)",
    ),
    "SECURITY_POLICY_VIOLATED": (
        Forbidden,
        "A perimeter of VPC Service Controls is in the way: let this caller in, or call from inside",
    ),
    "ACCESS_TOKEN_EXPIRED": (Unauthorized, LOG_IN),
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": (
        Forbidden,
        "The token lacks the scope cloud-platform: give it to the machine, or use a service account's own credentials",
    ),
}
"""Reasons of ErrorInfo that say more than the status (google/api/error_reason.proto)."""


def translate(error: Exception, *, where: str, doing: str, permission: str = "") -> RegistryPipelinesError:
    """The error of ours for one of Google's libraries. permission: that the call needs, where the answer names none."""
    if isinstance(error, RegistryPipelinesError):
        return error
    names = {kind.__name__ for kind in type(error).__mro__}
    if "GoogleAPICallError" in names:
        return _translate_answer(error, where=where, doing=doing, permission=permission)
    if "RefreshError" in names and (ours := _no_token(error, where=where, doing=doing, permission=permission)):
        return ours
    for local in _LOCAL:
        if local.name in names:
            do = local.do
            said = f" ({quote(str(error.args[0]))})" if local.quoted and error.args else ""
            return local.ours(f"{doing}: {local.said}{said}", where=where, do=do)
    return RegistryError(
        f"{doing} failed in Google's library ({type(error).__name__}: {quote(str(error))})", where=where
    )


def _no_token(error: Any, *, where: str, doing: str, permission: str) -> RegistryPipelinesError | None:
    """What a token service said, where it is more than that: it is down, or it refuses to impersonate."""
    if getattr(error, "retryable", False):
        return Unavailable(f"{doing}: Google gave no token", where=where, do="Try again later")
    try:
        answer = json.loads(error.args[1])["error"]
        status, said = str(answer["status"]), quote(str(answer["message"]))
    except (ValueError, LookupError, TypeError):
        return None
    what = f"{doing} was answered with {status} ({said})"
    kind = _BY_STATUS.get(status, Unauthorized)
    role = role_with(permission)
    do = f"Give the caller the role {role} on that account" if kind is Forbidden and role else _DO.get(kind, LOG_IN)
    return kind(what, where=where, do="Check `impersonate`" if kind is NotFound else do)


def _translate_answer(error: Any, *, where: str, doing: str, permission: str) -> RegistryPipelinesError:
    status, http, said = _status(error), int(error.code or 0), _said(error)
    reason = str(getattr(error, "reason", "") or "")
    what = f"{doing} was answered with {status or f'HTTP {http}'}{f' ({said})' if said else ''}"
    if status == "RESOURCE_EXHAUSTED" or http == 429:
        do = "Ask less often, or raise the quota of the project (console: IAM & Admin, Quotas)"
        return RateLimited(what, where=where, do=do, retry_after_s=_retry_after(error))
    if "immutab" in said.lower():
        return TagImmutable(what, where=where, do="Use a new tag; a repository's immutable tags neither move nor go")
    kind = _BY_STATUS.get(status) or _BY_HTTP.get(http) or (Unavailable if http >= 500 else Refused)
    do = _DO.get(kind, "")
    if reason in _REASONS:
        kind, do = _REASONS[reason]
        do = do.format(service=_facts(error).get("service", "artifactregistry.googleapis.com"))
    elif kind is Forbidden:
        do = _permit(error, said, permission)
    ours = kind(what, where=where, do=do, status=http, code=status or reason)
    if isinstance(ours, Unavailable):
        ours.retry_after_s = _retry_after(error)
    return ours


def _permit(error: Any, said: str, permission: str) -> str:
    found = _PERMISSION.search(said)
    missing = _facts(error).get("permission") or (found[1] if found else "") or permission
    role = role_with(missing)
    resource = _facts(error).get("resource", "")
    on = f" on {resource}" if resource else ""
    if role:
        return f"Give the caller the role {role} ({missing}){on}"
    return f"Give the caller {missing}{on}" if missing else "Give the caller a role with this permission"


def _status(error: Any) -> str:
    """google.rpc.Code's name; empty for an answer that has none, as a proxy's page."""
    grpc_code = getattr(error, "grpc_status_code", None)
    answer: Any = getattr(error, "response", None)
    if hasattr(answer, "json"):  # REST: the class that was raised knows HTTP's status alone
        try:
            return str(answer.json()["error"]["status"])
        except (ValueError, LookupError, TypeError):
            return ""
    return grpc_code.name if grpc_code is not None else ""


def _said(error: Any) -> str:
    words = _REST_PREFIX.sub("", str(getattr(error, "message", "") or ""))
    if words.lstrip()[:1] == "<":
        return "a page of HTML"
    return quote(words)


def _facts(error: Any) -> dict[str, str]:
    """Metadata of the answer's ErrorInfo."""
    facts = getattr(error, "metadata", None)
    return {str(key): str(value) for key, value in dict(facts).items()} if facts else {}


def _retry_after(error: Any) -> float | None:
    answer = getattr(error, "response", None)
    headers = getattr(answer, "headers", None)
    if headers is not None and (waits := read_retry_after(headers.get("Retry-After"))) is not None:
        return waits
    for detail in getattr(error, "details", None) or ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else getattr(detail, "retry_delay", None)
        if isinstance(delay, str) and re.fullmatch(r"\d{1,9}(\.\d{1,9})?s", delay):
            return float(delay[:-1])
        if delay is not None and hasattr(delay, "seconds"):
            return float(delay.seconds) + float(delay.nanos) / 1e9
    return None


class _Local(msgspec.Struct, frozen=True):
    """What is raised before or instead of an answer. name: of its class, or of one above it. quoted: whether its own
    words help, and hold no secret."""

    name: str
    ours: type[RegistryError]
    said: str
    do: str = "Try again; check the network"
    quoted: bool = False


# By name and not by class: this module must be importable without Google's libraries. The first that fits holds.
_LOCAL = (
    _Local("MalformedError", Unauthorized, "the Google credentials are incomplete", LOG_IN, quoted=True),
    _Local("DefaultCredentialsError", Unauthorized, "there are no Google credentials", LOG_IN),
    _Local("ReauthFailError", Unauthorized, "the log-in has expired", LOG_IN),
    _Local("RefreshError", Unauthorized, "Google gave no token", LOG_IN, quoted=True),
    _Local("TransportError", Unavailable, "Google's token service cannot be reached"),
    _Local("GoogleAuthError", Unauthorized, "the Google credentials cannot be used", LOG_IN, quoted=True),
    _Local("RetryError", Unavailable, "Google's API did not answer in time"),
    _Local("SSLError", TlsFailed, "the API's certificate is not trusted", "Check the clock, the proxy and `endpoint`"),
    _Local("Timeout", Stalled, "no byte moved for too long"),
    _Local("ConnectionError", Unavailable, "Google's API cannot be reached"),
    _Local("RequestException", Unavailable, "the connection to Google's API broke"),
    _Local("RpcError", Unavailable, "the connection to Google's API broke"),
)

__all__ = ["translate"]
