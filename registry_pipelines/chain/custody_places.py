"""Where a digest was and is, as statements of custody: channels, copies, bundles, quarantine, and who touched it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from registry_pipelines.chain.custody_evidence import Read, rejected
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Image
from registry_pipelines.errors import (
    ContentError,
    InputError,
    ManifestInvalid,
    NotFound,
    RegistryPipelinesError,
    SignatureInvalid,
)
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.dsse import read_envelope, verify_envelope
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.evidence.predicates import DEPLOYMENT_TYPE, PROMOTION_TYPE, VERDICT_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import decode_json, encode_json
from registry_pipelines.oci.times import read_time, write_time
from registry_pipelines.progress import count_text
from registry_pipelines.promote.documents import PromotionRecord
from registry_pipelines.promote.standing import latest_record, records
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.set_aside import quarantine_of
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.report.custody import Chapter, Statement

if TYPE_CHECKING:
    from registry_pipelines.report.audit.model import Event

MOST_MOVES = 50
"""Promotions after this one that are followed, to find when a channel left it."""
MOST_BUNDLES = 500
"""The latest bundles of a mirror that are looked through."""
MOST_EVENTS = 500
"""Events that stand on a page; how many more there are is said."""


@dataclass(frozen=True)
class Reached:
    """What was said, what a reader must know first, and what could not be read."""

    statements: tuple[Statement, ...]
    alerts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def _seen(chapter: Chapter, says: str) -> Statement:
    return Statement(chapter=chapter, says=says, state="seen")


def channels(session: Session, image: Image, read: Read) -> Reached:
    """Which channels it was put on, by whom, when they left it, and which name it now."""
    found: list[Statement] = []
    alerts: list[str] = []
    notes: list[str] = []
    keys = {each.descriptor.digest: each.key_id for each in read.known.verified}
    moved = records(read.place, read.digest, read.verifier, known=read.known) if read.verifier else []
    source = session.source_of(image)
    for record, digest in moved:
        found.append(_promotion(read, record, digest, keys[digest]))
    for channel in dict.fromkeys([*(each.name for each in image.order), *(each.channel for each, _ in moved)]):
        mine = [record for record, _ in moved if (record.channel, record.image) == (channel, image.name)]
        try:
            named = digest_at(source, channel)
            if named == read.digest:
                found.append(_seen("channels", f"{channel} names it now"))
                if not mine:
                    alerts.append(f"{channel} names it, and no promotion record says who put it there")
            elif mine:
                left, note = _left(read, source, image, channel, named)
                found += left
                notes += note
        except RegistryPipelinesError as error:
            notes.append(f"channel {channel} could not be read: {error.what}")
    return Reached(tuple(found), tuple(alerts), tuple(notes))


def _promotion(read: Read, record: PromotionRecord, digest: Digest, key_id: str) -> Statement:
    by = f"{record.promoted_by} (name {record.identity})" if record.identity else "no person: automatically"
    details = [
        f"as {record.version}, in {record.repository}",
        f"by verdict {record.verdict}",
        f"before it the channel named {record.from_digest or 'nothing'}",
    ]
    if record.break_glass:
        details.append(f"against its policy, by break-glass {record.break_glass}")
    says = f"put on {record.channel} of {record.image} by {by}"
    return read.vouched("channels", says, digest, key_id, time=record.time, details=details)


def _left(
    read: Read, source: Place, image: Image, channel: str, named: Digest | None
) -> tuple[list[Statement], list[str]]:
    """The record of what came to a channel after this digest: from what it names now backwards."""
    if read.verifier is None:
        return [], []
    for _ in range(MOST_MOVES):
        if named is None or named == read.digest:
            break
        after = latest_record(source, named, read.verifier, channel=channel, image=image.name)
        if after is None:
            break
        record, digest = after
        if record.from_digest == read.digest:
            told = f"{channel} left it when {record.version} came, put there by {record.promoted_by}"
            statement = Statement(
                chapter="channels", says=told, state="verified", time=record.time, evidence=digest, signer="", role=""
            )
            return [_by_its_key(read, source, named, statement)], []
        try:
            named = Digest.parse(record.from_digest) if record.from_digest else None
        except ValueError:
            break
    return [], [f"{channel} names it no more; when that came is not known: no record leads back to it"]


def _by_its_key(read: Read, source: Place, digest: Digest, statement: Statement) -> Statement:
    """The statement with who signed its record, which is attached to another digest."""
    assert read.verifier is not None  # noqa: S101 - asked before
    known = read_attestations(source, digest, read.verifier, predicate_type=PROMOTION_TYPE)
    key = next((each.key_id for each in known.verified if each.descriptor.digest == statement.evidence), "")
    return msgspec.structs.replace(statement, signer=key, role=read.role(key))


def places(session: Session, image: Image, digest: Digest, read: Read | None) -> Reached:
    """Its source, targets and mirrors: what each has now, and what the receipts of copies say."""
    found: list[Statement] = []
    notes: list[str] = []
    source = session.source_of(image)
    named = {f"its source {image.registry}": source}
    named |= {f"target {each}": session.places.target(image, each) for each in image.targets}
    for mirror in session.config.mirrors.values():
        if image.name in mirror.images:
            stops = zip(mirror.stops, session.stops(mirror, image.repository), strict=True)
            named |= {f"mirror {mirror.name} ({stop})": place for stop, place in stops}
    for name, place in named.items():
        try:
            there = digest_at(place, digest) is not None
            found.append(_seen("places", f"{'is' if there else 'is not'} at {name} ({place}) now"))
        except RegistryPipelinesError as error:
            notes.append(f"{name} ({place}) did not say whether it is there: {error.what}")
        if place != source:
            found += _receipt(session, place, digest, name, read)
    return Reached(tuple(found), notes=tuple(notes))


def _receipt(session: Session, place: Place, digest: Digest, name: str, read: Read | None) -> Iterator[Statement]:
    from registry_pipelines.transfer.delivery.receipts import PAYLOAD_TYPE

    try:
        receipt = session.receipts().load(place, digest)
        if receipt is None:
            return
        envelope = read_envelope(receipt.envelope, where=name)
    except (ManifestInvalid, SignatureInvalid) as error:
        yield rejected("places", name, f"the receipt of the copy to {name} cannot be read: {error.what}")
        return
    told, evidence = receipt.document, Digest.of(envelope.payload)
    if str(told.get("root")) != digest or str(told.get("target")) != str(place):
        yield rejected("places", evidence, f"the receipt for {name} is about another copy")
        return
    tags = told.get("tags")
    details = [f"tags there: {', '.join(map(str, tags))}"] if isinstance(tags, dict) and tags else []
    says, at = f"copied to {name} ({place}), and read back whole", _time(str(told.get("read_back_at") or ""))
    if receipt.signed and read is not None and read.verifier is not None:
        try:
            keys = verify_envelope(envelope, read.verifier, where=name, payload_type=PAYLOAD_TYPE)
            key = read.verifier.vouching(keys, VERDICT_TYPE)  # a receipt is the promoter's
            yield read.vouched("places", says, evidence, key, time=at, details=details)
            return
        except SignatureInvalid as error:
            yield rejected("places", evidence, f"the receipt for {name}: {error.what}")
            return
    yield Statement(chapter="places", says=says, state="unsigned", time=at, evidence=evidence, details=tuple(details))


def _time(text: str) -> str:
    """As all times of a page."""
    moment = read_time(text)
    return write_time(moment) if moment else ""


def bundles(session: Session, digest: Digest, read: Read | None) -> Reached:
    """Bundles of mirrors that were made on this machine and hold it, and which far sides confirmed them."""
    from registry_pipelines.chain.bundle_create import near_state
    from registry_pipelines.mirror.bundle.format import read_bundle, verify_bundle

    found: list[Statement] = []
    notes: list[str] = []
    for name in session.config.mirrors:
        near = near_state(session, name)
        numbers = near.numbers()
        if len(numbers) > MOST_BUNDLES:
            notes.append(f"of {len(numbers)} bundles of {name} the latest {MOST_BUNDLES} were looked through")
        for number in numbers[-MOST_BUNDLES:]:
            try:
                sealed = read_bundle(near.document(number), where=f"{name}-{number}")
            except (InputError, ManifestInvalid, SignatureInvalid) as error:
                notes.append(f"bundle {number} of {name} cannot be read: {error.what}")
                continue
            bundle = sealed.bundle
            if not any(digest == each.digest or digest in each.manifests for each in bundle.images):
                continue
            evidence, says = Digest.of(sealed.envelope.payload), f"packed into bundle {bundle.name}"
            loaded = [
                f"{each.receipt.registry} confirmed that it was loaded, at {each.receipt.made_at}"
                for each in near.receipts()
                if any((one.line, one.number) == (bundle.line, number) for one in each.receipt.loaded)
            ]
            details = loaded or ["no receipt of a far side confirms it"]
            try:
                key = verify_bundle(sealed, read.verifier) if read and read.verifier else ""
            except SignatureInvalid as error:
                found.append(rejected("places", evidence, f"bundle {bundle.name}: {error.what}"))
                continue
            if read and key:
                statement = read.vouched("places", says, evidence, key, time=_time(bundle.made_at), details=details)
            else:
                statement = Statement(
                    chapter="places", says=says, state="unsigned", time=_time(bundle.made_at), evidence=evidence,
                    details=tuple(details),
                )  # fmt: skip
            found.append(statement)
    return Reached(tuple(found), notes=tuple(notes))


def deployments(read: Read) -> Iterator[Statement]:
    """Roll-outs that were read back where it runs."""
    from registry_pipelines.deploying.record import DeploymentRecord

    for found in read.known.of_type(DEPLOYMENT_TYPE):
        try:
            told = decode_json(encode_json(found.predicate), DeploymentRecord, what="deployment record")
        except ManifestInvalid as error:
            yield rejected("deployments", found.descriptor.digest, error.what)
            continue
        if told.digest != read.digest:
            continue
        if told.outcome == "running":
            says = f"runs as {told.deployment} ({told.where}), by {count_text(told.instances, 'instance')}"
        else:
            says = f"did not come up as {told.deployment} ({told.where}): {told.outcome}"
        details = [
            *told.reasons,
            f"written there as {told.written}",
            f"since {told.since}" if told.since else "",
            f"before it ran {told.before}" if told.before else "",
        ]
        yield read.signed("deployments", says, found, time=_time(told.time), details=[each for each in details if each])


def quarantine(place: Place, digest: Digest, verifier: Verifier | None) -> Iterator[Statement]:
    """Whether plans set it aside: signed records in the repository's quarantine."""
    from registry_pipelines.collect.records import RECORD_TAG, read_record

    if verifier is None:
        return
    aside = quarantine_of(place)
    try:
        tags = [tag for tag in aside.registry.tags(aside.repository) if tag.startswith(RECORD_TAG)]
    except RegistryPipelinesError:
        return  # there is no quarantine, or it cannot be listed: what is deleted says the audit, too
    for tag in tags:
        if not tag.endswith(f"-{digest.hex[:64]}"):
            continue
        try:
            record = read_record(aside, tag, verifier)
        except (SignatureInvalid, ContentError, NotFound) as error:
            yield rejected("places", f"{aside}:{tag}", error.what)
            continue
        says = f"set aside by plan {record.plan}: deleted in {record.repository}, kept until {record.until}"
        details = (f"tags that went: {', '.join(record.tags) or 'none'}", *filter(None, [record.why]))
        named = digest_at(aside, tag) or ""
        yield Statement(
            chapter="access", says=says, state="verified", time=record.at, evidence=named, role="promoter",
            details=details,
        )  # fmt: skip


def access(session: Session, digest: Digest, repository: str, tag: str) -> tuple[list[Statement], str, list[str]]:
    """What kept events say of it; why there are none; and notes. Events of its version tag in its repository that name
    no digest are told as what they are."""
    from registry_pipelines.chain.audit import stored_events, was_read

    if not was_read(session):
        return [], "not collected: no log was read on this machine (`report audit`)", []
    try:
        events = stored_events(session, digest=digest)
        if tag:
            events += [
                each for each in stored_events(session, repository=repository) if not each.digest and each.tag == tag
            ]
    except RegistryPipelinesError as error:
        return [], f"not known: the kept events cannot be read: {error.what}", []
    events.sort(key=lambda each: each.time)
    if not events:
        return [], "the logs that were collected say nothing of it", []
    notes = []
    if len(events) > MOST_EVENTS:
        notes = [f"{len(events) - MOST_EVENTS} older events are not on this page"]
    return [_event(each) for each in events[-MOST_EVENTS:]], "", notes


VERBS = {
    "push": "pushed it",
    "delete": "deleted it",
    "pull": "pulled it",
    "layer": "fetched a layer of it",
    "settings": "changed a setting",
    "login": "logged in",
}


def _event(each: Event) -> Statement:
    who = each.who or (f"the registry's {each.service}" if each.service else "somebody that the log does not name")
    tag = f", tag {each.tag}" if each.tag else ""
    of = "" if each.digest else " (by tag: the log names no digest)"
    tried = f"tried, and was refused ({each.refused}): " if each.refused else ""
    details = [f"{name}: {value}" for name, value in (("from", each.address), ("with", each.agent)) if value]
    return Statement(
        chapter="access",
        says=f"{who} {tried}{VERBS[each.action]} at {each.registry}/{each.repository}{tag}{of}",
        state="logged",
        time=write_time(each.time),
        evidence="",
        signer="",
        details=(f"log {each.source}, entry {each.id}", *details),
    )
