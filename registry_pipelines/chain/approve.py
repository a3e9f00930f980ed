"""What people say about a release: approve it, take that back, list who did."""

from __future__ import annotations

import time
from datetime import timedelta

from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.evidence.model import Signer
from registry_pipelines.promote.approvals import PublishedApproval, new_approval, publish, read_approvals
from registry_pipelines.promote.person import Person, account
from registry_pipelines.release import Release


def approve(
    session: Session,
    release: Release,
    capacity: str,
    by: Person | None = None,
    *,
    note: str = "",
    lasts: timedelta | None = None,
    withdraw: bool = False,
    signer: Signer | None = None,
) -> StageResult:
    """Attach what a person says about a release, signed. by: who; the account of this process unless told. lasts: how
    long it counts; for ever unless told. withdraw: take back all that was said in this capacity. signer: the person's
    own key; the configuration's of the person unless told. Raises InputError when its key does not count as that."""
    started = time.monotonic()
    place, subject = session.source(release), session.subject(release)
    said = new_approval(
        place,
        release,
        capacity,
        by or account(),
        now=session.now(),
        note=note,
        lasts=lasts,
        withdraw=withdraw,
    )
    key = signer or session.keys.signer("person")
    published = publish(place, subject, said, key, session.verifier())
    approval = published.approval
    word = "withdrawn" if withdraw else "approved"
    return StageResult(
        stage="approve",
        subject=release.key,
        action=f"{word} as {capacity}" + ("" if published.changed else " (unchanged)"),
        digest=published.digest,
        changed=published.changed,
        seconds=time.monotonic() - started,
        facts={
            "release": release.key,
            "capacity": approval.capacity,
            "says": approval.says,
            "approved_by": approval.approved_by,
            "identity": approval.identity,
            "expires": approval.expires,
            "key_id": published.key_id,
        },
    )


def approvals(session: Session, release: Release) -> StageResult:
    """Everything that people said about a release, and whether it counts now. Nothing is written."""
    started = time.monotonic()
    found = read_approvals(session.source(release), release.digest, session.verifier())
    now = session.now()
    capacities = sorted({each.approval.capacity for each in found.published})
    counting = {
        each.digest for capacity in capacities for each in found.standing(capacity, image=release.image, now=now)
    }
    rows: list[dict[str, Scalar]] = [_row(each, each.digest in counting) for each in found.published]
    return StageResult(
        stage="approvals",
        subject=release.key,
        action=", ".join(_in_capacity(capacity, rows) for capacity in capacities) or "nobody approved it",
        digest=release.digest,
        seconds=time.monotonic() - started,
        facts={"release": release.key, "counting": len(counting)},
        rows=rows,
        notes=[
            f"not believed: {each}" for each in found.rejected if "approval" in each.reason or "count as" in each.reason
        ],
    )


def _row(published: PublishedApproval, counts: bool) -> dict[str, Scalar]:
    approval = published.approval
    return {
        "capacity": approval.capacity,
        "says": approval.says,
        "counts": counts,
        "by": approval.approved_by,
        "identity": approval.identity,
        "time": approval.time,
        "expires": approval.expires,
        "note": approval.note,
        "key": published.key_id,
    }


def _in_capacity(capacity: str, rows: list[dict[str, Scalar]]) -> str:
    people = dict.fromkeys(str(row["by"]) for row in rows if row["capacity"] == capacity and row["counts"])
    return f"{capacity}: {', '.join(people)}" if people else f"{capacity}: none that counts"
