"""The gate's rule about libraries that nothing brings, by what signed provenance says. Only ``gate`` uses it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from registry_pipelines.evidence.model import VerifiedAttestation
from registry_pipelines.evidence.predicates import PROVENANCE_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import count_text
from registry_pipelines.promote.documents import LinksDenied, Step
from registry_pipelines.promote.evidence import Evidence
from registry_pipelines.promote.findings import Outcome

LINKS = "libraries: "
"""How reasons of this rule begin."""

SEVERITIES: Mapping[LinksDenied, tuple[str, ...]] = {"certain": ("certain",), "likely": ("certain", "likely")}


def links_within(evidence: Evidence, denied: LinksDenied) -> Outcome:
    """Nothing of the severities that deny is missing in any image, by every provenance about it that says something.
    What none says is unknown, and denies."""
    outcome = Outcome()
    for digest, platform in evidence.platforms.items():
        said = [found for each in _about(evidence, digest) if (found := _links(each, str(platform))) is not None]
        if not said:
            reason = f"{LINKS}no signed provenance says what is missing in {platform} ({digest})"
            outcome.add(Outcome([reason], [Step(kind="provenance")]))
        for links in said:
            outcome.add(_against(links, f"{platform} ({digest})", denied))
    return outcome


def _about(evidence: Evidence, digest: Digest) -> Iterator[VerifiedAttestation]:
    """Provenance of an image, or of that which it was converted from: both have the same files."""
    for attestation in evidence.attestations.of_type(PROVENANCE_TYPE):
        if digest in attestation.subjects or set(attestation.subjects) == {evidence.release}:
            yield attestation
    for origin in evidence.origins:
        if digest in origin.covers:
            yield from origin.provenance


def _links(attestation: VerifiedAttestation, platform: str) -> Mapping[str, Any] | None:
    """What it says of a platform (``build.links.report``, ``link_parameters``); None where it says nothing whole."""
    found: Any = attestation.predicate
    for name in ("buildDefinition", "internalParameters", "links", platform):
        found = found.get(name) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or any(type(found.get(name)) is not int for name in ("certain", "likely")):
        return None
    return found


def _against(links: Mapping[str, Any], where: str, denied: LinksDenied) -> Outcome:
    severities = SEVERITIES[denied]
    number = sum(links[name] for name in severities)
    if not number:
        return Outcome()
    rows = links.get("findings")
    named = [each for each in rows if isinstance(each, Mapping)] if isinstance(rows, list) else []
    texts = [_text(each) for each in named if each.get("severity") in severities][:3]
    more = f": {'; '.join(texts)}" if texts else ""
    reason = f"{LINKS}{count_text(number, 'thing')} of {where} cannot be loaded{more}"
    return Outcome([reason], [Step(kind="image", about=tuple(texts))])


def _text(row: Mapping[str, Any]) -> str:
    owners, needs = (row.get(name) for name in ("owners", "needs"))
    who = ", ".join(map(str, owners[:3])) if isinstance(owners, list) and owners else "a file"
    what = ", ".join(map(str, needs[:3])) if isinstance(needs, list) and needs else "what was not read"
    return f"{who} needs {what}"[:300]
