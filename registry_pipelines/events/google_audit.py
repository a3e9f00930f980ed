"""Google Cloud's logs about Artifact Registry, as events of an audit: audit logs, and platform logs where they are on.

Sources: Artifact Registry, "Audit logging" (methods and the logs they are in: admin activity is always there, data
access, which has every push and pull, must be switched on) and "Access and use platform logs"; Cloud Logging's
reference, "entries.list", "LogEntry", "AuditLog". Fields that are not named here do not matter, whatever they are.

What one would not guess: the image's name in ``resourceName`` is percent-encoded, the tag stands in the request's
address alone, a long operation writes two entries, and Google's scanner pulls by an account of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import msgspec

from registry_pipelines.errors import InputError
from registry_pipelines.inventory.usage.google_rest import GoogleRest
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.times import read_time
from registry_pipelines.report.audit.model import Action, Event, Names, Reading, Service, plain, utc

SERVICE = "logging.googleapis.com"
REGISTRY = "artifactregistry.googleapis.com"
PAGE = 1000
MOST_PAGES = 600
"""Of one run: 600,000 entries. Cloud Logging lets 60 lists a minute through; it says when it is too much."""
LATE = timedelta(minutes=15)
"""Entries come so late, mostly; so much before the cursor is asked for again."""
MOST_IMAGES = 1000

_ACTIONS: dict[str, Action] = {
    "Docker-PutManifest": "push",
    "CreateTag": "push",
    "UpdateTag": "push",
    "Docker-GetManifest": "pull",
    "Docker-ServeBlob": "layer",
    "Docker-DeleteManifest": "delete",
    "Docker-DeleteTag": "delete",
    "DeleteTag": "delete",
    "DeleteVersion": "delete",
    "BatchDeleteVersions": "delete",
    "DeletePackage": "delete",
    "DeleteRepository": "delete",
    "DeleteAttachment": "delete",
}
_NOT_YET = re.compile(
    r"Docker-(StartUpload|FinishUpload|CancelUpload|HeadBlob|HeadManifest|GetTags|Catalog|DeleteBlob)"
)
_CHANGES = re.compile(r"(Create|Update|Delete|Set|Import|Export|Upload|Enable|Disable|BatchDelete)[A-Z]")
_RESOURCE = re.compile(
    r"projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)(?:/repositories/(?P<repository>[^/]+)(?P<rest>/.*)?)?"
)
_IMAGE = re.compile(r"/(?:dockerImages|packages)/(?P<name>[^/@:]+)(?:[@:](?P<reference>[^/]+))?(?P<rest>/.*)?")
_PATH = re.compile(r"/v2/(?P<name>.+)/(?:manifests|blobs)/(?P<reference>[^/?]+)(?:\?.*)?")
_DIGEST = re.compile(r"sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})")
_AGENTS: tuple[tuple[str, Service], ...] = (
    ("@container-analysis.iam.gserviceaccount.com", "scan"),
    ("@gcp-sa-artifactregistry.iam.gserviceaccount.com", "cache"),
)
"""Accounts of Google's own that act on images; nobody else can be one. Artifact Registry's own fills caches, and it
deletes by cleanup policies."""


class _Authentication(msgspec.Struct, rename="camel"):
    principal_email: str = ""
    principal_subject: str = ""


class _RequestMetadata(msgspec.Struct, rename="camel"):
    caller_ip: str = ""
    caller_supplied_user_agent: str = ""


class _Status(msgspec.Struct):
    code: int = 0
    message: str = ""


class _Grant(msgspec.Struct, rename="camel"):
    permission: str = ""
    permission_type: str = ""


class _Audit(msgspec.Struct, rename="camel"):
    service_name: str = ""
    method_name: str = ""
    resource_name: str = ""
    authentication_info: _Authentication | None = None
    request_metadata: _RequestMetadata | None = None
    status: _Status | None = None
    authorization_info: list[_Grant] = []
    request: msgspec.Raw = msgspec.Raw(b"{}")


class _Request(msgspec.Struct, rename="camel"):
    request_url: str = ""
    name: str = ""
    names: list[str] = []
    tag: msgspec.Raw = msgspec.Raw(b"null")
    tag_id: str = ""


class _Tag(msgspec.Struct):
    name: str = ""
    version: str = ""


class _Operation(msgspec.Struct):
    id: str = ""
    first: bool = False
    last: bool = False


class _Http(msgspec.Struct, rename="camel"):
    request_url: str = ""
    remote_ip: str = ""
    user_agent: str = ""
    status: int = 0


class _Resource(msgspec.Struct):
    type: str = ""
    labels: dict[str, str] = {}


class _Entry(msgspec.Struct, rename="camel"):
    timestamp: datetime
    insert_id: str
    log_name: str = ""
    proto_payload: _Audit | None = None
    operation: _Operation | None = None
    http_request: _Http | None = None
    labels: dict[str, str] = {}
    resource: _Resource | None = None


def events_of_entry(raw: bytes, reading: Reading, *, source: str, names: Names) -> Iterator[Event]:
    """What one entry tells: nothing for what is of no concern, several events for several images. What cannot be read
    is said in ``reading``. Never raises for its content."""
    try:
        entry: _Entry = msgspec.json.decode(raw, type=ready(_Entry))
        yield from _events(entry, reading, source, names)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as error:
        reading.cannot(f"an entry of Cloud Logging cannot be read: {plain(str(error))[:200]}")


def _events(entry: _Entry, reading: Reading, source: str, names: Names) -> Iterator[Event]:
    audit = entry.proto_payload or _of_platform(entry)
    if audit is None or audit.service_name not in ("", REGISTRY):
        reading.other += 1
        return
    method = audit.method_name.rpartition(".")[2]
    action = _action(method, audit)
    failed = audit.status is not None and audit.status.code != 0
    if action is None or (entry.operation and entry.operation.last and not entry.operation.first and not failed):
        reading.other += 1  # the end of what began, which was told before
        return
    request: _Request = msgspec.json.decode(audit.request, type=ready(_Request))
    images = _images(audit, request)
    if not images:
        reading.cannot(f"an entry of Cloud Logging names no repository: {plain(audit.resource_name)[:120]!r}")
        return
    for place, (registry, repository, digest, tag) in enumerate(images[:MOST_IMAGES]):
        yield Event(
            time=utc(entry.timestamp),
            who=_who(audit.authentication_info) if entry.proto_payload else "",
            action=action,
            registry=names(registry),
            repository=plain(repository),
            digest=plain(digest),
            tag=plain(tag),
            source=source,
            id=plain(entry.insert_id) + (f"/{place}" if len(images) > 1 else ""),
            operation=plain(method),
            refused=plain((audit.status.message or str(audit.status.code)) if failed and audit.status else ""),
            service=_service(audit.authentication_info, action),
            address=plain(audit.request_metadata.caller_ip if audit.request_metadata else ""),
            agent=plain(audit.request_metadata.caller_supplied_user_agent if audit.request_metadata else "")[:200],
            detail=plain(bytes(audit.request).decode(errors="replace")[:1000]) if action == "settings" else "",
        )


def _of_platform(entry: _Entry) -> _Audit | None:
    """A platform log's entry in the same form. It does not say who; its labels name method and resource."""
    if entry.resource is None or not entry.resource.type.startswith(REGISTRY):
        return None
    labels = {key.rpartition("/")[2]: value for key, value in {**entry.resource.labels, **entry.labels}.items()}
    http = entry.http_request or _Http()
    return _Audit(
        service_name=REGISTRY,
        method_name=labels.get("method_name", ""),
        resource_name=labels.get("resource_name", ""),
        request_metadata=_RequestMetadata(caller_ip=http.remote_ip, caller_supplied_user_agent=http.user_agent),
        status=_Status(code=http.status, message=f"HTTP {http.status}") if http.status >= 400 else None,
        request=msgspec.Raw(msgspec.json.encode({"requestUrl": http.request_url})),
    )


def _action(method: str, audit: _Audit) -> Action | None:
    if known := _ACTIONS.get(method):
        return known
    if _NOT_YET.fullmatch(method):
        return None
    writes = any(each.permission_type == "ADMIN_WRITE" for each in audit.authorization_info)
    return "settings" if writes or _CHANGES.match(method) else None


def _who(told: _Authentication | None) -> str:
    return plain((told and (told.principal_email or told.principal_subject)) or "anonymous")


def _service(told: _Authentication | None, action: Action) -> Service:
    email = told.principal_email if told else ""
    for ending, service in _AGENTS:
        if email.startswith("service-") and email.endswith(ending):
            return "lifecycle" if service == "cache" and action == "delete" else service
    return ""


def _images(audit: _Audit, request: _Request) -> list[tuple[str, str, str, str]]:
    """Registry's host, repository (``PROJECT/REPOSITORY/IMAGE``), digest and tag of each image that is meant."""
    named = request.names or [audit.resource_name or request.name]
    found = [image for name in named if (image := _resource(name))]
    if len(found) == 1:
        return [_with_request(found[0], request)]
    return found


def _resource(name: str) -> tuple[str, str, str, str] | None:
    match = _RESOURCE.search(name)
    if match is None:
        return None
    host = f"{match['location']}-docker.pkg.dev"
    repository = "/".join(filter(None, (match["project"], match["repository"])))
    image = _IMAGE.fullmatch(match["rest"] or "")
    if image is None:
        return host, repository, "", ""
    rest = image["rest"] or ""
    reference = unquote(image["reference"] or rest.removeprefix("/versions/").removeprefix("/tags/").strip("/"))
    digest, tag = (reference, "") if _DIGEST.fullmatch(reference) else ("", reference)
    return host, f"{repository}/{unquote(image['name'])}", digest, tag


def _with_request(image: tuple[str, str, str, str], request: _Request) -> tuple[str, str, str, str]:
    """With what the request's address adds: a tag, or the digest where the resource is the repository alone."""
    host, repository, digest, tag = image
    path = _PATH.search(request.request_url)
    if path is not None:
        reference = unquote(path["reference"])
        is_digest = _DIGEST.fullmatch(reference) is not None
        repository = unquote(path["name"])
        digest, tag = (digest or reference, tag) if is_digest else (digest, tag or reference)
    if bytes(request.tag) not in (b"null", b""):
        told: _Tag = msgspec.json.decode(request.tag, type=ready(_Tag))
        digest = digest or told.version.rpartition("/")[2]
        tag = tag or request.tag_id or told.name.rpartition("/")[2]
    return host, repository, digest, tag


class GoogleLogs:
    """``entries.list`` of one project. project, location: whose registry. Data access that is not logged is not there,
    and nothing says so: docs/audit.md tells how to switch it on."""

    def __init__(self, name: str, rest: GoogleRest, project: str, location: str, *, names: Names) -> None:
        if not re.fullmatch(r"[a-z0-9.:-]{1,100}", project) or not re.fullmatch(r"[a-z0-9-]{1,40}", location):
            raise InputError(f"{project[:60]!r} in {location[:40]!r} is no project of Google's")
        self.where = f"Cloud Logging of {project}"
        self._name, self._rest, self._project, self._location, self._names = name, rest, project, location, names

    def read(self, reading: Reading, *, since: datetime, until: datetime) -> Iterator[Event]:
        """See LogSource."""
        cursor = read_time(reading.cursor.get("until", ""))
        start = max(since, min(cursor, until) - LATE) if cursor else since
        asked: dict[str, Any] = {
            "resourceNames": [f"projects/{self._project}"],
            "filter": self._filter(start, until),
            "orderBy": "timestamp asc",
            "pageSize": PAGE,
        }
        last = start
        for _ in range(MOST_PAGES):
            answer = self._rest.post("/v2/entries:list", asked)
            for entry in answer.get("entries") or ():
                yield from events_of_entry(msgspec.json.encode(entry), reading, source=self._name, names=self._names)
                at = read_time(str(entry.get("timestamp", ""))) if isinstance(entry, dict) else None
                last = max(last, min(at, until)) if at else last
            if not answer.get("nextPageToken"):
                reading.cursor["until"] = until.astimezone(UTC).isoformat()
                return
            asked = {**asked, "pageToken": answer["nextPageToken"]}
            reading.cursor["until"] = last.astimezone(UTC).isoformat()
        reading.note(f"{MOST_PAGES * PAGE} entries were read, up to {last:%Y-%m-%dT%H:%MZ}; the next run goes on")
        reading.whole = False

    def _filter(self, start: datetime, until: datetime) -> str:
        first, end = (each.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for each in (start, until))
        return (
            f'(protoPayload.serviceName="{REGISTRY}" OR resource.type:"{REGISTRY}/") '
            f'AND timestamp>="{first}" AND timestamp<"{end}"'
        )


__all__ = ["GoogleLogs", "SERVICE", "events_of_entry"]
