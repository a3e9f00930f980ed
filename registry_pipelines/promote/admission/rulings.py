"""What the gate says about one digest that a cluster wants to start: its standing in the image's source registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from registry_pipelines.evidence.model import Verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.promote.documents import Policy
from registry_pipelines.promote.findings import Outcome
from registry_pipelines.promote.leaving import read_digest
from registry_pipelines.promote.standing import Standing
from registry_pipelines.registry.protocol import Place

Code = Literal[
    "no-reference",
    "latest",
    "not-approved",
    "no-digest",
    "not-found",
    "not-promoted",
    "not-allowed",
    "revoked",
    "unreachable",
    "late",
    "unreadable",
]
"""Why something may not start. ``no-reference``: it is no name of an image. ``latest``: the tag is latest, or none is
written. ``not-approved``: neither an image of ours nor approved. ``no-digest``: digests are required. ``not-found``:
the tag names nothing. ``not-promoted``: its verdict is allow, and nobody promoted it. ``not-allowed``: the gate says
no, or nobody judged it. ``revoked``: a person took it back. ``unreachable``: a registry does not answer. ``late``: the
answer takes too long. ``unreadable``: the object cannot be read."""


@dataclass(frozen=True)
class Ruling:
    """Whether a digest may start. code: empty when it may; else ``reasons`` say all that is against it."""

    image: str
    digest: Digest
    code: Code | Literal[""] = ""
    reasons: tuple[str, ...] = ()
    version: str = ""
    """The tag it was promoted as; empty where it was not."""
    verdict: str = ""
    """Digest of the manifest with the signed verdict."""
    glass: str = ""
    """The break-glass by which alone it may, in a sentence."""

    @property
    def allowed(self) -> bool:
        """Whether it may start."""
        return not self.code


def ruling_of(
    place: Place,
    digest: Digest,
    policy: Policy,
    verifier: Verifier,
    *,
    image: str,
    channel: str,
    now: datetime | None = None,
) -> Ruling:
    """Ask the gate whether a digest may be where releases go; what starts in a cluster is a copy of it. See
    :func:`gate.may_leave`; nothing but the source registry is asked, and nothing is written.

    place: the image's source. channel: that it must have been promoted to. Raises RegistryError.
    """
    moment = now or datetime.now(UTC)
    found = read_digest(place, image, digest, policy, verifier, unversioned=channel)
    standing, outcome = found.standing, found.may_leave(channel, moment)
    promoted = any(record.image == image for record in standing.records)
    # Of a digest that nobody promoted no version is known, so nothing is said of its tag.
    reasons = [each for each in outcome.reasons if promoted or each not in outcome.of_version]
    latest = standing.verdicts.latest(image, policy.name)
    glass = standing.interventions.excuse(channel, image, moment)
    sentence = glass.sentence() if glass else ""
    return Ruling(
        image=image,
        digest=digest,
        code=_code(standing, outcome, reasons) if reasons else "",
        reasons=tuple(reasons),
        version=standing.release.tag if promoted else "",
        verdict=str(latest.digest) if latest else "",
        glass=sentence if sentence in outcome.accepted else "",
    )


def _code(standing: Standing, outcome: Outcome, reasons: Sequence[str]) -> Code:
    if standing.interventions.revoked:
        return "revoked"
    return "not-promoted" if all(each in outcome.of_promotion for each in reasons) else "not-allowed"


__all__ = ["Code", "Ruling", "ruling_of"]
