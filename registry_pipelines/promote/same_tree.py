"""Whether a release that was rechunked has every file of what it was made of: what a policy's ``same-tree`` asks.

The indexer signed the tree digests of both roots; anybody can make them again (``rechunk --verify``). A release may
have been converted after it was rechunked, so its derivation records are followed to where the layers were made anew.
What was never rechunked has nothing to show.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.model import Attestations, VerifiedAttestation, Verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.promote.documents import Step
from registry_pipelines.promote.findings import Outcome
from registry_pipelines.promote.origins import MOST_LINKS
from registry_pipelines.registry.platforms import Entry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.derivation import read_derivations
from registry_pipelines.stream.model import RECHUNKED, RECHUNKED_LAYER
from registry_pipelines.stream.rechunk_record import RechunkedPlatform, read_rechunks


@dataclass(frozen=True)
class Regrouped:
    """What is known of one platform's image that was rechunked, or of what it was converted from."""

    platform: RechunkedPlatform | None
    """None: no trusted indexer says what both roots hold."""
    record: VerifiedAttestation | None = None
    """That which does."""


def read_regrouped(
    place: Place, known: Attestations, release: Digest, images: Iterable[Entry], verifier: Verifier
) -> dict[Digest, Regrouped]:
    """By platform manifest what is known of each image that was rechunked; none of others.

    known: what was read and verified about the release. Raises RegistryError when the registry does not answer.
    """
    found: dict[Digest, Regrouped] = {}
    for entry in images:
        said = _of(place, known, release, entry.digest, verifier, MOST_LINKS)
        if said is None and any(RECHUNKED_LAYER in (layer.annotations or {}) for layer in entry.manifest.layers):
            said = Regrouped(None)
        if said is not None:
            found[entry.digest] = said
    return found


def _of(
    place: Place, known: Attestations, release: Digest, image: Digest, verifier: Verifier, links: int
) -> Regrouped | None:
    """None: no believed record says that it was rechunked. Of several the one by which most was kept."""
    said: list[Regrouped] = []
    for record, _ in read_derivations(known, release)[0]:
        pair = next((each for each in record.platforms if each.derived == image), None)
        if pair is None:
            continue
        if record.format == RECHUNKED:
            said += _roots(known, release, record.origin, image) or [Regrouped(None)]
        elif links > 1:
            further = read_attestations(place, record.origin, verifier)
            before = _of(place, further, record.origin, pair.origin, verifier, links - 1)
            said += [before] if before else []
    return max(said, key=lambda each: each.platform is not None and each.platform.same_tree, default=None)


def _roots(known: Attestations, release: Digest, origin: Digest, image: Digest) -> list[Regrouped]:
    return [
        Regrouped(platform, carrier)
        for record, carrier in sorted(read_rechunks(known, release)[0], key=lambda pair: pair[1].descriptor.digest)
        for platform in record.platforms
        if record.origin == origin and platform.rechunked == image and platform.is_covered
    ]


def has_same_tree(images: Sequence[Entry], regrouped: Mapping[Digest, Regrouped]) -> Outcome:
    """Every image that was rechunked has all files of its origin."""
    outcome = Outcome()
    for entry in images:
        said = regrouped.get(entry.digest)
        what = f"same-tree: {entry.platform} ({entry.digest})"
        if said is None:
            continue
        if said.platform is None:
            reason = f"{what} was rechunked, and nothing that a trusted indexer signed says what both roots hold"
            about = f"rechunk {entry.platform} again, or have its indexer's key trusted"
        elif not said.platform.same_tree:
            reason = f"{what} has not all files of {said.platform.origin}: {_lost(said.platform)}"
            about = f"rechunk {entry.platform} without `drop`"
        else:
            outcome.notes.append(f"{what} has the files of {said.platform.origin}, tree digest {said.platform.tree}")
            continue
        outcome.reasons.append(reason)
        outcome.steps.append(Step(kind="image", about=(about,)))
    return outcome


def _lost(platform: RechunkedPlatform) -> str:
    told = [f"{count_text(each.files, 'file')} of {size_text(each.bytes)} ({each.why})" for each in platform.dropped]
    return f"left out {', '.join(told)}" if told else "the tree digests differ"


__all__ = ["Regrouped", "has_same_tree", "read_regrouped"]
