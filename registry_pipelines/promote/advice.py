"""The gate's rule about what is inside a release, by its signed advice. Only ``gate`` uses it."""

from __future__ import annotations

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.evidence.predicates import IMAGE_ADVICE_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.promote.documents import AdviceLimits, Step
from registry_pipelines.promote.evidence import Evidence
from registry_pipelines.promote.findings import Outcome
from registry_pipelines.scan.advice.document import RULES, ImageAdvice, PlatformAdvice, counting, signed_advice

MISSING = "image advice: "
"""How reasons of this rule begin."""


def advice_within(evidence: Evidence, limits: AdviceLimits) -> Outcome:
    """Each image keeps the limits by every advice that counts. What nobody signed, or nobody looked at, is unknown, and
    denies."""
    outcome = Outcome()
    documents = []
    for attestation in evidence.attestations.of_type(IMAGE_ADVICE_TYPE):
        try:
            document = signed_advice(attestation)
        except ManifestInvalid as error:
            outcome.notes.append(f"{MISSING}not read: {error.what}")
            continue
        if document.subject == evidence.release:
            documents.append(document)
        else:
            outcome.notes.append(f"{MISSING}one is about {document.subject}")
    documents = counting(documents)
    if not documents:
        outcome.add(Outcome([f"{MISSING}none about this digest is signed by a trusted key"], [Step(kind="advice")]))
        return outcome
    for document in documents:
        outcome.add(_against(document, evidence, limits))
    return outcome


def document_within(document: ImageAdvice, limits: AdviceLimits) -> Outcome:
    """The same of a document that was just made, about the images that it names."""
    outcome = Outcome()
    for found in document.platforms:
        if limits.asks:
            for why in found.unread:
                outcome.add(_unknown(f"{MISSING}{found.platform}: not looked at: {why}"))
        outcome.add(_of_image(found, found.image, found.platform, limits))
    return outcome


def _against(document: ImageAdvice, evidence: Evidence, limits: AdviceLimits) -> Outcome:
    outcome = Outcome()
    for kind in limits.deny:
        if kind not in document.looked_for:
            outcome.add(_unknown(f"{MISSING}nobody looked for {kind}; it was made by rules {document.rules}"))
    if document.rules < RULES:
        # Newer advice may have been deleted, for which nobody needs a key.
        outcome.add(_unknown(f"{MISSING}it was made by rules {document.rules}, and {RULES} are known by now"))
    for digest, platform in evidence.platforms.items():
        rows = [each for each in document.platforms if each.image == digest]
        if not rows:
            outcome.add(_unknown(f"{MISSING}it does not cover {platform} ({digest})"))
        for found in rows:
            for why in found.unread:
                outcome.add(_unknown(f"{MISSING}{platform}: not looked at: {why}"))
            outcome.add(_of_image(found, digest, platform, limits))
    return outcome


def _unknown(reason: str) -> Outcome:
    return Outcome([reason], [Step(kind="advice")])


def _of_image(found: PlatformAdvice, digest: Digest, platform: Platform | str, limits: AdviceLimits) -> Outcome:
    reasons, about = [], []
    for row in found.advice:
        if row.kind in limits.deny:
            files = f", {count_text(row.files, 'file')}" if row.files else ""
            size = f", {size_text(row.compressed)}" if row.compressed else ""
            where = f": {row.examples[0]}" if row.examples else ""
            reasons.append(f"{MISSING}{platform} ({digest}) has {row.kind}{files}{size}{where}")
            about.append(f"{row.kind}: {row.do}")
    for name, have, most in (
        ("wasted", found.wasted, limits.max_wasted),
        ("in its layers", found.compressed, limits.max_size),
    ):
        if most is not None and have > most:
            reasons.append(f"{MISSING}{platform} ({digest}) has {size_text(have)} {name}, at most {most} pass")
            about.append(f"it has {size_text(have)} {name}, at most {most} pass")
    return Outcome(reasons, [Step(kind="image", about=tuple(about))] if reasons else [])
