"""Kept events held against the signed evidence of a configuration, and what persons say about the alerts of that."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta

import msgspec

from registry_pipelines.chain.audit_evidence import UNDONE_WITHIN, SignedEvidence
from registry_pipelines.chain.audit_reading import folder_of, store_of
from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError
from registry_pipelines.evidence.predicates import ACKNOWLEDGEMENT_TYPE, roles_for
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.times import read_time, write_time
from registry_pipelines.promote.person import Person, account
from registry_pipelines.report.audit.acknowledged import Acknowledgement, acknowledge, acknowledged, check_id
from registry_pipelines.report.audit.alerts import TOGETHER, Judge, Judgement, deeds
from registry_pipelines.report.audit.store import only
from registry_pipelines.shared.documents import Documents, change

EXPLAINED = "explained.json"
"""Beside the events."""


def judged(session: Session, since: datetime) -> Judgement:
    """Alerts over the kept events since, with who acknowledged them. Raises InputError, LocalError."""
    store, verifier, now = store_of(session), session.keys.trusted_if_any(), session.now()
    done = only(("",), "refused")
    nobody = only(("",), "who") & only(("",), "service")
    changing = only(("push", "delete"), "action") & done
    anonymous = list(store.events(since=since, where=changing & nobody))
    named = deeds(anonymous, store.events(since=since - TOGETHER, where=changing) if anonymous else ())
    deletions = store.events(since=since, where=only(("delete",), "action") & done & only(("",), "service"))
    ledger = _Explained(folder_of(session))
    pushed = only(("push",), "action") & done
    evidence = SignedEvidence(
        session,
        verifier,
        known=ledger.known,
        deletions=deletions,
        pushes=lambda digests: store.events(since=since - UNDONE_WITHIN, where=pushed & only(digests, "digest")),
    )
    judge = Judge(evidence, session.config.report.audit.pushers, now=now, named=named)
    moves = pushed & only(evidence.channel_names or {""}, "tag")
    for event in store.events(until=since, where=moves):  # of all that is kept: what a channel named tells a move back
        judge.remember(event)
    for event in store.events(since=since, where=changing):
        judge.look(event)
    found = judge.judgement
    ledger.add(found.explained, now=now, keep=session.config.report.audit.keep)
    told, problems = acknowledged(_folder(session), [each.id for each in found.alerts], verifier)
    found.alerts = [
        msgspec.structs.replace(each, acknowledged=f"{ack.by}: {ack.reason} ({ack.at})")
        if (ack := told.get(each.id))
        else each
        for each in found.alerts
    ]
    found.problems = [*problems, *evidence.problems]
    return found


class _Explained:
    """What explained deletions in earlier looks, by log entry: plans go after 30 days, and events are kept longer."""

    def __init__(self, folder: Documents) -> None:
        self._folder = folder
        found = folder.read(EXPLAINED)
        self._all = _explained(found.content if found else None)
        self.known = {entry: why for entry, (_, why) in self._all.items()}

    def add(self, found: dict[str, str], *, now: datetime, keep: timedelta) -> None:
        """Raises LocalError."""
        new = {entry: (write_time(now), why) for entry, why in found.items() if entry not in self._all}
        if not new:
            return
        oldest = now - keep

        def added(raw: bytes | None) -> bytes:
            kept = {entry: told for entry, told in _explained(raw).items() if (read_time(told[0]) or now) >= oldest}
            return msgspec.json.encode({**kept, **new})

        change(self._folder, EXPLAINED, added)


def _explained(raw: bytes | None) -> dict[str, tuple[str, str]]:
    """A damaged one begins anew."""
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        if raw is not None:
            return dict(msgspec.json.decode(raw, type=ready(dict[str, tuple[str, str]])))
    return {}


def acknowledge_alerts(session: Session, alerts: tuple[str, ...], reason: str, by: Person | None) -> StageResult:
    """Sign that a person looked at alerts, and why they are no harm. Raises InputError: no such alert among the events
    that are kept, no reason, no key; LocalError."""
    wanted = [check_id(each) for each in alerts]
    oldest = session.now() - session.config.report.audit.keep
    known = {each.id: each for each in judged(session, oldest).alerts}
    if missing := [each for each in wanted if each not in known]:
        raise InputError(
            f"there is no alert {missing[0]}", do="Copy its id from `registry-pipelines report audit --since 90d`"
        )
    person, signer = by or account(), session.keys.signer(*roles_for(ACKNOWLEDGEMENT_TYPE))
    for each in wanted:
        told = Acknowledgement(alert=each, reason=reason.strip(), by=person.name, at=write_time(session.now()))
        acknowledge(_folder(session), told, signer)
    return StageResult(
        stage="audit",
        subject=session.config.path.name,
        action=f"acknowledged {', '.join(wanted)}",
        changed=True,
        facts={"acknowledged": len(wanted), "by": person.name},
        rows=[{"alert": each, "said": known[each].said, "acknowledged": f"{person.name}: {reason}"} for each in wanted],
    )


def _folder(session: Session) -> Documents:
    return folder_of(session).under("acknowledged")
