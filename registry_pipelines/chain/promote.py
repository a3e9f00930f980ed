"""Verdict and promotion of a release. Whatever copies a release asks :func:`require_promoted` first."""

from __future__ import annotations

import time

from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.evidence.predicates import PROMOTION_TYPE, roles_for
from registry_pipelines.promote import channels, verdicts
from registry_pipelines.promote.judge import judge as judge_evidence
from registry_pipelines.promote.judge import require_promoted as ask_to_leave
from registry_pipelines.release import Release


def judge(session: Session, release: Release) -> StageResult:
    """Judge a release by what its registry holds, and attach the signed verdict; ``ok`` is the verdict."""
    started = time.monotonic()
    signer, verifier = session.keys.signer("promoter"), session.verifier()
    place, subject = session.source(release), session.subject(release)
    verdict = judge_evidence(place, subject, session.policy(release), verifier, image=release.image, now=session.now())
    published = verdicts.publish(place, subject, verdict, signer, verifier)
    facts: dict[str, Scalar] = {
        "release": release.key,
        "verdict": "allow" if verdict.allow else "deny",
        "policy": verdict.policy,
        "policy_digest": verdict.policy_digest,
        "advisories_newest": verdict.advisories.newest,
        "advisories_digest": verdict.advisories.digest,
        "reasons": len(verdict.reasons),
        "accepted": len(verdict.accepted),
    }
    facts |= {f"findings_{severity.lower()}": count for severity, count in verdict.counts.items()}
    notes: list[dict[str, Scalar]] = [{"about": "reason", "text": text} for text in verdict.reasons]
    notes += [{"about": "accepted", "text": text} for text in verdict.accepted]
    notes += [{"about": "note", "text": text} for text in verdict.notes]
    word = "allow" if verdict.allow else "deny"
    return StageResult(
        stage="judge",
        subject=release.key,
        action=f"{word} by policy {verdict.policy}" + ("" if published.changed else " (unchanged)"),
        digest=published.digest,
        changed=published.changed,
        seconds=time.monotonic() - started,
        facts=facts,
        rows=notes,
        reasons=list(verdict.reasons) or [f"accepted: {text}" for text in verdict.accepted],
        notes=[text for text in verdict.notes if text.startswith("warning ")],
        ok=verdict.allow,
    )


def promote(session: Session, release: Release) -> StageResult:
    """Move the image's channel tag to a release. Raises PromotionDenied with every reason."""
    started = time.monotonic()
    image = session.image(release.image)
    done = channels.promote(
        session.source(release),
        release,
        session.policy(release),
        session.verifier(),
        session.keys.signer(*roles_for(PROMOTION_TYPE)),
        channel=image.channel,
        now=session.now(),
    )
    return StageResult(
        stage="promote",
        subject=release.key,
        action=f"{image.channel} names it" + (" now" if done.changed else " (unchanged)"),
        digest=release.digest,
        changed=done.changed,
        seconds=time.monotonic() - started,
        facts={
            "release": release.key,
            "channel": image.channel,
            "record": done.digest,
            "from_digest": done.record.from_digest,
            "promoted_by": done.record.promoted_by,
        },
    )


def require_promoted(session: Session, release: Release) -> list[str]:
    """Raise PromotionDenied unless the gate lets a release leave its source registry; what the verdict accepted."""
    return ask_to_leave(
        session.source(release),
        release,
        session.policy(release),
        session.verifier(),
        channel=session.image(release.image).channel,
        now=session.now(),
    )
