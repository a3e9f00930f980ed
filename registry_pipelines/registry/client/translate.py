"""Foreign failures become errors of ``errors.py``: exceptions of socket, ssl and ``wire``; HTTP statuses.

The registry's own words are quoted shortened, without control characters (they would reach a terminal) and without
secrets. Error codes: distribution-spec 1.1, "Error Codes".
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import zlib
from typing import NoReturn

from registry_pipelines.dialing import NoneAnswered
from registry_pipelines.errors import (
    DigestMismatch,
    Forbidden,
    InputError,
    NotFound,
    RateLimited,
    Refused,
    RegistryError,
    RegistryFull,
    RegistryPipelinesError,
    Stalled,
    TlsFailed,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from registry_pipelines.progress import duration_text
from registry_pipelines.registry.client.wire import (
    BadStatusLine,
    HTTPException,
    IncompleteRead,
    InvalidURL,
    LineTooLong,
)
from registry_pipelines.registry.client.words import Act, Saying, error_for, meant

MAX_ERROR_BODY_BYTES = 64 * 1024
"""Of an error's body we read no more; real ones stay below 2 KiB, a proxy's HTML page below 20 KiB."""

MAX_QUOTED_CHARACTERS = 300
"""Of the registry's own words we quote no more."""

NETWORK_ERRORS = (OSError, HTTPException, ValueError, zlib.error)
"""Everything socket, ssl and ``wire`` raise (UnicodeError and the checks of headers are ValueErrors)."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")


def raise_translated(error: BaseException, *, where: str, doing: str) -> NoReturn:
    """Raise the error of ours. The text of a ValueError may quote a header or a signed URL, so it is not chained."""
    ours = translate_exception(error, where=where, doing=doing)
    harmless = isinstance(error, OSError | HTTPException) and not isinstance(error, InvalidURL)
    raise ours from (error if harmless else None)


def translate_exception(error: BaseException, *, where: str, doing: str) -> RegistryPipelinesError:
    """The error of ours that stands for ``error``; raise it ``from`` the original. ``doing``: ``connecting``, ..."""
    if isinstance(error, RegistryPipelinesError):
        return error
    if isinstance(error, NoneAnswered):
        ours = translate_exception(error.reason, where=where, doing=doing)
        return type(ours)(f"{ours.what}; {quote(str(error))}", where=where, do=ours.do)
    if isinstance(error, ssl.SSLError):
        return _translate_tls(error, where=where, doing=doing)
    if isinstance(error, TimeoutError):
        return Stalled(f"no byte moved for too long while {doing}", where=where, do="Try again; check the network")
    if isinstance(error, socket.gaierror):
        return Unavailable("the host name does not resolve", where=where, do="Check the name, and DNS")
    if isinstance(error, ConnectionRefusedError):
        return Unavailable("nothing listens there", where=where, do="Check the port, and that the registry runs")
    if isinstance(error, InvalidURL | UnicodeError) or type(error) is ValueError:
        return InputError(f"the request cannot be written as HTTP ({type(error).__name__})", where=where)
    if isinstance(error, IncompleteRead | ConnectionError):
        return Unavailable(f"the connection broke while {doing}", where=where, do="Try again")
    if isinstance(error, BadStatusLine | LineTooLong):
        return RegistryError(
            f"the answer is not HTTP ({type(error).__name__})", where=where, do="Check the port, and plain or TLS"
        )
    if isinstance(error, HTTPException):
        return RegistryError(
            f"the answer is not proper HTTP ({quote(str(error) or type(error).__name__)})", where=where
        )
    if isinstance(error, OSError):
        reason = quote(error.strerror or str(error) or type(error).__name__)
        return Unavailable(f"the network failed while {doing} ({reason})", where=where, do="Try again")
    return RegistryError(f"{type(error).__name__} while {doing}", where=where)


def not_answered(waited_s: float, *, where: str) -> Stalled:
    """The error for a registry that has all of an upload, or a manifest, and does not come to its end."""
    error = Stalled(
        f"everything was sent, and no answer came within {duration_text(waited_s)}",
        where=where,
        do="Look at the registry's log and its storage; then run the same command again, which goes on from there",
    )
    error.waited_s = waited_s
    return error


def _translate_tls(error: ssl.SSLError, *, where: str, doing: str) -> RegistryPipelinesError:
    if isinstance(error, ssl.SSLCertVerificationError):
        why = quote(getattr(error, "verify_message", "") or "no reason given")
        do = _CERTIFICATE.get(getattr(error, "verify_code", 0), _NAME_THE_CA)
        return TlsFailed(f"the registry's certificate is not trusted ({why})", where=where, do=do)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
        return Unavailable(f"the TLS connection broke while {doing}", where=where, do="Try again")
    reason = getattr(error, "reason", None) or ""
    if reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG"}:
        return TlsFailed("the registry does not speak TLS there", where=where, do="Set plain_http for this registry")
    if "timed out" in str(error):
        return Stalled(f"no byte moved for too long while {doing}", where=where, do="Try again; check the network")
    if "BAD_RECORD" in reason or "DECRYPTION_FAILED" in reason:
        return Unavailable(f"a TLS record arrived damaged while {doing}", where=where, do="Try again")
    return TlsFailed(f"TLS failed while {doing} ({quote(reason or 'no reason given')})", where=where)


_NAME_THE_CA = "Name the CA's certificate as ca_file of this registry"

_CERTIFICATE = {
    9: "Its time has not come yet: check this machine's clock",
    10: "It has run out: have it renewed, or check this machine's clock",
    23: "It was revoked: have it replaced",
    62: "Use a host name that the certificate names",
    64: "Use a host name that the certificate names",
}
"""What to do by OpenSSL's verify code (x509_vfy.h), where naming an authority does not help."""


def quote(text: str) -> str:
    """Somebody else's words, fit for an error: one short line without control characters and secrets."""
    from registry_pipelines.redacting import redact_text  # for failures alone

    return redact_text(_CONTROL.sub(" ", text)).strip()[:MAX_QUOTED_CHARACTERS]


_REASONS = ("message", "description", "reason")


def read_error_body(body: bytes) -> tuple[str, str]:
    """(code, message) of an error body; a body that is not the specification's JSON gives ``("", its text)``."""
    text = body.decode("utf-8", "replace")
    try:
        errors = json.loads(text).get("errors")
        first = errors[0]
        code, message, detail = first.get("code"), first.get("message"), first.get("detail")
    except (ValueError, AttributeError, TypeError, LookupError, RecursionError):
        return "", "" if text.lstrip()[:1] == "<" else quote(text)
    words = message if isinstance(message, str) else ""
    if isinstance(detail, dict):  # Artifactory and Quay put their reason one level deeper
        detail = next((detail[key] for key in _REASONS if isinstance(detail.get(key), str)), "")
    if isinstance(detail, str) and detail:
        words = f"{words}: {detail}" if words else detail
    return quote(code) if isinstance(code, str) else "", quote(words)


_BY_CODE: dict[str, type[RegistryError]] = {
    "UNAUTHORIZED": Unauthorized,
    "DENIED": Forbidden,
    "UNSUPPORTED": Unsupported,
    "BLOB_UNKNOWN": NotFound,
    "BLOB_UPLOAD_UNKNOWN": NotFound,
    "MANIFEST_UNKNOWN": NotFound,
    "NAME_UNKNOWN": NotFound,
}
_BY_STATUS: dict[int, type[RegistryError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: Unsupported,
    407: Unauthorized,
    408: Unavailable,
    410: NotFound,
    425: Unavailable,
    501: Unsupported,
    507: RegistryFull,
}
_DO: dict[type[RegistryError], str] = {
    Unauthorized: "Check the user name and password or token of this registry",
    Forbidden: "Ask for the permission, or use other credentials",
    NotFound: "Check the name",
    Unsupported: "See whether the registry is read-only, or lacks this operation",
    RegistryFull: "Free space at the registry (delete images, run its garbage collection), then run it again",
    Unavailable: "Try again later",
}
_TLS_WANTED = re.compile(
    rb"client sent an http request to an https server|plain http request was sent to https port|"
    rb"speaking plain http to an ssl-enabled server",
    re.IGNORECASE,
)
"""Go's server, nginx and Apache to who speaks plain HTTP where TLS is spoken; all answer 400."""
_FULL = re.compile(rb'no space left on device|disk quota exceeded|"Err"\s*:\s*(?:28|122)\b', re.IGNORECASE)
"""A full disk in the body of a 5xx. distribution 2.8 (docker-registry, Harbor) answers 500, ``UNKNOWN``, "unknown
error", and tells it in the detail alone: as Go's words when content is written, as ``{"DriverName": "filesystem",
"Enclosed": {"Op": "write", "Path": ..., "Err": 28}}`` when an upload is opened or a manifest is put. 28 and 122 are
Linux's ENOSPC and EDQUOT. 507 is Insufficient Storage (RFC 4918 section 11.5), the embedded server's answer."""


def translate_status(
    status: int,
    body: bytes,
    *,
    where: str,
    doing: str,
    retry_after_s: float | None = None,
    act: Act = "read",
    host: str = "",
) -> RegistryPipelinesError:
    """The error for an answer that was not expected. ``doing``: what was asked, as ``reading a manifest``. act: the
    same, for words that mean something in such answers only. host: of the registry, where it is known."""
    if status == 400 and _TLS_WANTED.search(body):
        return TlsFailed("the registry speaks TLS there", where=where, do="Set plain_http: false for this registry")
    code, message = read_error_body(body)
    said = f" ({code}{': ' if code and message else ''}{message})" if code or message else ""
    what = f"{doing} was answered with HTTP {status}{said}"
    row = meant(status, code, message, body, act=act, host=host)
    if row is not None:
        return _by_row(row, what, status, code, where=where, retry_after_s=retry_after_s, host=host)
    if code == "DIGEST_INVALID" and status < 500:
        return DigestMismatch(what, where=where, do="The content changed on the way; send it again")
    kind = RegistryFull if status >= 500 and _FULL.search(body) else _error_class(status, code)
    if kind is RegistryFull:
        what = f"the registry's disk is full: {what}"
    do = _google_role(message) if kind is Forbidden else ""
    error = kind(what, where=where, do=do or _advice(kind, status, act=act), status=status, code=code)
    if isinstance(error, Unavailable):
        error.retry_after_s = retry_after_s
    return error


_GOOGLE_PERMISSION = re.compile(
    r'ermission "(?P<name>artifactregistry\.[A-Za-z.]+)" denied on resource "(?P<on>[^"]+)"'
)


def _google_role(message: str) -> str:
    """What to do about a permission that Artifact Registry names in its own words; empty for other answers."""
    denied = _GOOGLE_PERMISSION.search(message)
    if denied is None:
        return ""
    from registry_pipelines.registry.permissions import role_with  # reads a table; most answers need none

    role = role_with(denied[1])
    return f"Give the caller {f'the role {role}' if role else denied[1]} on {denied[2]}"


def _by_row(
    row: Saying, what: str, status: int, code: str, *, where: str, retry_after_s: float | None, host: str
) -> RegistryPipelinesError:
    kind, do = error_for(row, status, host)
    if issubclass(kind, RateLimited):
        return kind(what, where=where, do=do, retry_after_s=retry_after_s)
    return kind(what, where=where, do=do, status=status, code=code)


def _advice(kind: type[RegistryError], status: int, *, act: Act) -> str:
    """A bare 500 says nothing; some registries, and proxies before them, tell of a full disk in their log alone."""
    if status == 500 and act in ("write", "tag") and kind is Unavailable:
        return "Look into its log: where a registry answers every upload with 500, a full disk is the commonest cause"
    if status == 407:
        return "It is the proxy that asks: write user and password into HTTP_PROXY, as http://user:password@host:port"
    return _DO.get(kind, "")


def _error_class(status: int, code: str) -> type[RegistryError]:
    if status < 500 and status != 401 and code in _BY_CODE:
        return _BY_CODE[code]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return Unavailable
    return Refused if 400 <= status < 500 else RegistryError
