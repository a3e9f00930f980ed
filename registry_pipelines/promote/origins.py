"""Where a converted release came from: the provenance of its origin, reached through a signed derivation record.

The record is a claim of the indexer. What can be held against it without reading layers is: the origin must be in the
same repository, each pair of manifests below the two, and a pair must have the same config but for its list of layers;
where the form changes no layer, the same layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from registry_pipelines.errors import ContentError, NotFound
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.model import Attestations, Rejected, VerifiedAttestation, Verifier
from registry_pipelines.evidence.predicates import PROVENANCE_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.platforms import Entry, images_of, read_entries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.derivation import Derivation, DerivedPlatform, read_derivations

NO_LAYER_CHANGED = ("soci-v2",)
"""Formats that leave every layer as it is."""


@dataclass(frozen=True)
class Origin:
    """What one derivation record leads to."""

    record: Derivation
    attestation: VerifiedAttestation
    """The record's own."""
    provenance: tuple[VerifiedAttestation, ...] = ()
    """Believed ones of the origin."""
    covers: frozenset[Digest] = frozenset()
    """Platform manifests of the derived release whose origins' provenance is believed."""
    problems: tuple[str, ...] = field(default=())
    """Why others are not covered, one sentence each without full stop."""

    def proven_by(self, made: Callable[[str], bool]) -> frozenset[Digest]:
        """Of what it covers, that which provenance by these keys covers alone. made: asked with a key id."""
        pairs = [pair for pair in self.record.platforms if pair.derived in self.covers]
        proven: set[Digest] = set()
        for attestation in (each for each in self.provenance if made(each.key_id)):
            single = set(attestation.subjects) - {self.record.origin}
            proven |= {pair.derived for pair in pairs if not single or pair.origin in single}
        return frozenset(proven)


def read_origins(
    place: Place, known: Attestations, release: Digest, images: Sequence[Entry], verifier: Verifier
) -> tuple[tuple[Origin, ...], list[Rejected]]:
    """Follow every believed derivation record about ``release``, and what looked like one and is not.

    known: what was read and verified about the release; images: those below it. Empty for what was not converted. An
    origin that is itself derived leads nowhere: its provenance is not looked for further on. Raises RegistryError when
    the registry does not answer.
    """
    records, rejected = read_derivations(known, release)
    records.sort(key=lambda pair: pair[1].descriptor.digest)  # reasons stand in an order that no registry decides
    return tuple(_follow(place, record, carrier, images, verifier) for record, carrier in records), rejected


def covered_by(attestation: VerifiedAttestation, images: frozenset[Digest]) -> frozenset[Digest]:
    """Which of a release's platform manifests provenance of its top digest covers: all that this digest binds, unless
    it names single platforms itself."""
    return images & frozenset(attestation.subjects) or images


def _follow(
    place: Place, record: Derivation, carrier: VerifiedAttestation, images: Sequence[Entry], verifier: Verifier
) -> Origin:
    try:
        top = place.registry.get_manifest(place.repository, record.origin)
        origins = {entry.digest: entry for entry in images_of(read_entries(place, top))}
    except NotFound:
        return Origin(record, carrier, problems=(f"the origin {record.origin} is not here any more",))
    except ContentError as error:
        return Origin(record, carrier, problems=(f"the origin {record.origin} cannot be read: {error.what}",))
    found = read_attestations(place, record.origin, verifier, predicate_type=PROVENANCE_TYPE)
    if not found.verified:
        reason = f"no provenance of the origin {record.origin} is signed by a trusted key"
        return Origin(record, carrier, problems=(reason, *(f"not believed: {each}" for each in found.rejected[:10])))
    proven = frozenset[Digest]().union(*(covered_by(each, frozenset(origins)) for each in found.verified))
    pairs = {pair.derived: pair for pair in record.platforms}
    problems, covers = [], set()
    for entry in images:
        reason = _against(entry, pairs.get(entry.digest), origins, proven, record)
        if reason:
            problems.append(f"{entry.platform} ({entry.digest}): {reason}")
        else:
            covers.add(entry.digest)
    return Origin(record, carrier, found.verified, frozenset(covers), tuple(problems))


def _against(
    entry: Entry,
    pair: DerivedPlatform | None,
    origins: dict[Digest, Entry],
    proven: frozenset[Digest],
    record: Derivation,
) -> str:
    """Why the origin's provenance says nothing about one manifest; empty when it does."""
    if pair is None:
        return "the derivation record does not name it"
    origin = origins.get(pair.origin)
    if origin is None:
        return f"the derivation record says it was made of {pair.origin}, which is no image of {record.origin}"
    if pair.origin not in proven:
        return f"the origin's signed provenance does not cover {pair.origin}"
    if _apart_from_layers(origin) != _apart_from_layers(entry):
        return f"its config says other things than that of {pair.origin}, and a conversion changes its layers alone"
    if record.format in NO_LAYER_CHANGED and _layers(origin) != _layers(entry):
        return f"its layers are not those of {pair.origin}, and this conversion changes none ({record.format})"
    return ""


def _apart_from_layers(entry: Entry) -> object:
    return entry.config and msgspec.structs.replace(entry.config, rootfs=None)


def _layers(entry: Entry) -> list[Digest]:
    return [layer.digest for layer in (entry.manifest.config, *entry.manifest.layers)]


__all__ = ["Origin", "covered_by", "read_origins"]
