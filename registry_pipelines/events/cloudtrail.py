"""Records of CloudTrail about Amazon ECR, as events of an audit.

Sources: the ECR user guide, "Logging Amazon ECR actions with AWS CloudTrail" (its examples of ``PutImage``,
``BatchGetImage`` and ``PolicyExecutionEvent``); the CloudTrail user guide, "CloudTrail record contents" and
"CloudTrail userIdentity element". Fields that are not named here do not matter, whatever they are.

What one would not guess: ``PolicyExecutionEvent``, which deletes, says ``readOnly: true``; ``DryRunEvent``, a preview,
has the same shape and deletes nothing; ``responseElements`` of a pull is null, so a pull by tag has no digest.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from registry_pipelines.oci.decoding import ready
from registry_pipelines.registry.ecr.hosts import EcrHost
from registry_pipelines.report.audit.model import Action, Event, Names, Reading, Service, plain, utc

SOURCE = "ecr.amazonaws.com"
MOST_IMAGES = 1000
"""Images of one record; ECR takes 100 in a call."""
MOST_DETAIL = 1000

_UPLOADS = frozenset({"InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload", "BatchCheckLayerAvailability"})
_READS = ("Describe", "List", "Get", "BatchGet", "Batch", "Validate", "Start")
"""How operations begin that change nothing that an audit asks for, where the record does not say."""

_SERVICES: dict[str, Service] = {
    "replication.ecr.amazonaws.com": "replication",
    "pullthroughcache.ecr.amazonaws.com": "cache",
    "inspector2.amazonaws.com": "scan",
    "lifecycle.ecr.amazonaws.com": "lifecycle",
}
"""Services of AWS that act on images by a rule of the account. Others that act for a caller (CloudFormation) are none:
somebody called them."""


class _Issuer(msgspec.Struct, rename="camel"):
    arn: str | None = None


class _Session(msgspec.Struct, rename="camel"):
    session_issuer: _Issuer | None = None


class _Identity(msgspec.Struct, rename="camel"):
    type: str | None = None
    arn: str | None = None
    principal_id: str | None = None
    account_id: str | None = None
    user_name: str | None = None
    identity_provider: str | None = None
    invoked_by: str | None = None
    session_context: _Session | None = None


class _Resource(msgspec.Struct, rename="camel"):
    account_id: str | None = None


class _Record(msgspec.Struct, rename="camel"):
    event_time: datetime
    event_source: str
    event_name: str
    event_id: str = msgspec.field(name="eventID")
    aws_region: str = ""
    source_ip: str | None = msgspec.field(default=None, name="sourceIPAddress")
    user_agent: str | None = None
    error_code: str | None = None
    read_only: bool | None = None
    recipient_account_id: str | None = None
    user_identity: _Identity | None = None
    request_parameters: msgspec.Raw = msgspec.Raw(b"null")
    response_elements: msgspec.Raw = msgspec.Raw(b"null")
    service_event_details: msgspec.Raw = msgspec.Raw(b"null")
    resources: list[_Resource] | None = None


class _ImageId(msgspec.Struct, rename="camel"):
    image_digest: str | None = None
    image_tag: str | None = None


class _Request(msgspec.Struct, rename="camel"):
    repository_name: str | None = None
    registry_id: str | None = None
    image_tag: str | None = None
    image_digest: str | None = None
    layer_digest: str | None = None
    image_ids: list[_ImageId] | None = None


class _Image(msgspec.Struct, rename="camel"):
    image_id: _ImageId | None = None


class _Response(msgspec.Struct, rename="camel"):
    image: _Image | None = None
    image_ids: list[_ImageId] | None = None


class _LifecycleImage(msgspec.Struct, rename="camel"):
    digest: str | None = None
    tag_list: list[str] | None = None


class _LifecycleAction(msgspec.Struct, rename="camel"):
    lifecycle_event_image: _LifecycleImage | None = None
    rule_priority: int | None = None
    action: str | None = None


class _Lifecycle(msgspec.Struct, rename="camel"):
    repository_name: str | None = None
    lifecycle_event_image_actions: list[_LifecycleAction] | None = None


def _decoded(raw: msgspec.Raw | bytes, kind: Any) -> Any:
    """A part of a record; None where it has none. Raises msgspec.MsgspecError."""
    return None if bytes(raw) == b"null" else msgspec.json.decode(raw, type=ready(kind))


def events_of_record(raw: bytes | msgspec.Raw, reading: Reading, *, source: str, names: Names) -> Iterator[Event]:
    """What one record tells: nothing for what is of no concern, several events for several images. What cannot be read
    is said in ``reading``. Never raises for its content."""
    try:
        record: _Record = _decoded(raw, _Record)
        if record.event_source != SOURCE:
            reading.other += 1
            return
        yield from _events(record, reading, source, names)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, AttributeError, ValueError) as error:
        reading.cannot(f"a record of CloudTrail cannot be read: {plain(str(error))[:200]}")


def _events(record: _Record, reading: Reading, source: str, names: Names) -> Iterator[Event]:
    name = record.event_name
    if name == "PolicyExecutionEvent":
        yield from _lifecycle(record, source, names)
        return
    if name in _UPLOADS or name == "DryRunEvent":
        reading.other += 1
        return
    request: _Request = _decoded(record.request_parameters, _Request) or _Request()
    common = _common(record, request, source, names)
    if name == "PutImage":
        found = _put(record, request)
        yield Event(**common, action="push", id=record.event_id, digest=found[0], tag=found[1])
    elif name in ("BatchGetImage", "BatchDeleteImage"):
        action: Action = "pull" if name == "BatchGetImage" else "delete"
        images = _images(record, request, deleted=action == "delete")
        yield from _each(common, action, record.event_id, images)
    elif name == "GetDownloadUrlForLayer":
        yield Event(**common, action="layer", id=record.event_id, digest=plain(request.layer_digest))
    elif name == "GetAuthorizationToken":
        yield Event(**common, action="login", id=record.event_id)
    elif name == "DeleteRepository":
        yield Event(**common, action="delete", id=record.event_id, detail="the repository with all of its images")
    elif record.read_only or (record.read_only is None and name.startswith(_READS)):
        reading.other += 1
    else:
        yield Event(**common, action="settings", id=record.event_id, detail=_detail(record.request_parameters))


def _put(record: _Record, request: _Request) -> tuple[str, str]:
    answer: _Response = _decoded(record.response_elements, _Response) or _Response()
    told = (answer.image.image_id if answer.image else None) or _ImageId()
    return plain(told.image_digest or request.image_digest), plain(request.image_tag or told.image_tag)


def _images(record: _Record, request: _Request, *, deleted: bool) -> list[tuple[str, str]]:
    """Digest and tag of each image. Of a deletion those that went, where the answer says so: others stay."""
    asked = request.image_ids or []
    if deleted and not record.error_code:
        answer: _Response | None = _decoded(record.response_elements, _Response)
        if answer is not None and answer.image_ids is not None:
            asked = answer.image_ids
    return [(plain(each.image_digest), plain(each.image_tag)) for each in asked[:MOST_IMAGES]]


def _each(common: dict[str, Any], action: Action, of: str, images: list[tuple[str, str]]) -> Iterator[Event]:
    if len(images) == 1:
        yield Event(**common, action=action, id=of, digest=images[0][0], tag=images[0][1])
        return
    for place, (digest, tag) in enumerate(images):
        yield Event(**common, action=action, id=f"{of}/{place}", digest=digest, tag=tag)


def _lifecycle(record: _Record, source: str, names: Names) -> Iterator[Event]:
    """One event for each image; those that go to the archive are a change of settings, not gone."""
    told: _Lifecycle = _decoded(record.service_event_details, _Lifecycle) or _Lifecycle()
    common = _common(record, _Request(repository_name=told.repository_name), source, names)
    for place, each in enumerate((told.lifecycle_event_image_actions or [])[:MOST_IMAGES]):
        image = each.lifecycle_event_image or _LifecycleImage()
        gone = (each.action or "expire").lower() in ("expire", "delete")
        yield Event(
            **{**common, "service": "lifecycle"},
            action="delete" if gone else "settings",
            id=f"{record.event_id}/{place}",
            digest=plain(image.digest),
            tag=plain(next(iter(image.tag_list or ()), "")),
            detail=f"rule {each.rule_priority}; tags: {plain(' '.join(image.tag_list or ())) or 'none'}",
        )


def _common(record: _Record, request: _Request, source: str, names: Names) -> dict[str, Any]:
    who = record.user_identity or _Identity()
    account = request.registry_id or _owner(record) or record.recipient_account_id or who.account_id or ""
    return {
        "time": utc(record.event_time),
        "who": _who(who),
        "registry": names(_host(account, record.aws_region)),
        "repository": plain(request.repository_name),
        "source": source,
        "operation": plain(record.event_name),
        "refused": plain(record.error_code),
        "service": _service(who),
        "address": plain(record.source_ip),
        "agent": plain(record.user_agent)[:200],
    }


_HOSTS: dict[tuple[str, str], str] = {}


def _host(account: str, region: str) -> str:
    key = account[:12], region[:41]
    if key not in _HOSTS:
        if len(_HOSTS) > 10_000:
            _HOSTS.clear()
        _HOSTS[key] = EcrHost(plain(key[0]), plain(key[1])).name
    return _HOSTS[key]


def _owner(record: _Record) -> str:
    return next((each.account_id for each in record.resources or () if each.account_id), "")


def _who(identity: _Identity) -> str:
    """The caller in one word: the ARN, which nobody can choose freely. A role's has its session's name, which is a
    person's where a company logs in through one."""
    if identity.arn:
        return plain(identity.arn)
    if identity.identity_provider:
        return plain(f"{identity.identity_provider}/{identity.user_name or identity.principal_id or ''}")
    if identity.type == "AWSService" or not identity.principal_id:
        return plain(identity.invoked_by) or plain(identity.account_id)
    return plain(f"{identity.account_id or ''}:{identity.principal_id}")


def _service(identity: _Identity) -> Service:
    """By AWS's own word: who invoked it, or the path of a service's role, which IAM lets nobody else have."""
    if found := _SERVICES.get(identity.invoked_by or ""):
        return found
    issuer = identity.session_context.session_issuer if identity.session_context else None
    parts = (issuer.arn or "").split("/") if issuer else []
    return _SERVICES.get(parts[2], "") if len(parts) > 3 and parts[1] == "aws-service-role" else ""


def _detail(parameters: msgspec.Raw) -> str:
    """What was set, as it was asked for. ECR's requests hold no secrets: credentials are named by ARN."""
    text = bytes(parameters).decode(errors="replace")
    return "" if text == "null" else plain(text[:MOST_DETAIL])


__all__ = ["SOURCE", "events_of_record"]
