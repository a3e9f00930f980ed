"""Where a converted release came from: the provenance of its origin, reached through a signed derivation record.

The record is a claim of the indexer. What can be held against it without reading layers is: the origin must be in the
same repository, each pair of manifests below the two, and a pair must have the same config but for its list of layers;
where the form changes no layer, the same layers. Where all layers are new ones (``rechunked``) the indexer must have
signed, too, what both roots hold, and the config may have another history, which tells of layers.

What was derived may be derived again: rechunked, and then converted. The records are followed to the image that was
pushed, and what they say together is told as one record.
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
from registry_pipelines.stream.model import RECHUNKED
from registry_pipelines.stream.rechunk_record import RechunkRecord, read_rechunks

NO_LAYER_CHANGED = ("soci-v2",)
"""Formats that leave every layer as it is."""


MOST_LINKS = 3
"""Derivations behind each other that are followed; the chain makes two."""


@dataclass(frozen=True)
class Origin:
    """What one derivation record leads to."""

    record: Derivation
    """What was made of what: of records behind each other the origin of the last, and the form of the first."""
    attestation: VerifiedAttestation
    """The record's own; of several that about the release."""
    provenance: tuple[VerifiedAttestation, ...] = ()
    """Believed ones of the origin."""
    covers: frozenset[Digest] = frozenset()
    """Platform manifests of the derived release whose origins' provenance is believed."""
    problems: tuple[str, ...] = field(default=())
    """Why others are not covered, one sentence each without full stop."""
    also: tuple[VerifiedAttestation, ...] = ()
    """What else it rests on: records further on, and those of both roots."""
    forms: tuple[str, ...] = ()
    """What was done, the last first."""

    @property
    def made_by(self) -> str:
        """What was done, in the order in which it was."""
        return " and ".join(reversed(self.forms or (self.record.format,)))

    def proven_by(self, made: Callable[[str], bool]) -> frozenset[Digest]:
        """Of what it covers, that which provenance by these keys covers alone. made: asked with a key id."""
        pairs = [pair for pair in self.record.platforms if pair.derived in self.covers]
        proven: set[Digest] = set()
        for attestation in (each for each in self.provenance if made(each.key_id)):
            single = set(attestation.subjects) - {self.record.origin}
            proven |= {pair.derived for pair in pairs if not single or pair.origin in single}
        return frozenset(proven)


def read_origins(
    place: Place,
    known: Attestations,
    release: Digest,
    images: Sequence[Entry],
    verifier: Verifier,
    *,
    links: int = MOST_LINKS,
) -> tuple[tuple[Origin, ...], list[Rejected]]:
    """Follow every believed derivation record about ``release``, and what looked like one and is not.

    known: what was read and verified about the release; images: those below it. links: records behind each other that
    are followed. Empty for what was not converted. Raises RegistryError when the registry does not answer.
    """
    records, rejected = read_derivations(known, release)
    records.sort(key=lambda pair: pair[1].descriptor.digest)  # reasons stand in an order that no registry decides
    roots, unread = read_rechunks(known, release)
    rejected += unread
    found = [
        origin
        for record, carrier in records
        for origin in _Link(place, record, carrier, roots, images, verifier, links).origins()
    ]
    return tuple(found), rejected


def covered_by(attestation: VerifiedAttestation, images: frozenset[Digest]) -> frozenset[Digest]:
    """Which of a release's platform manifests provenance of its top digest covers: all that this digest binds, unless
    it names single platforms itself."""
    return images & frozenset(attestation.subjects) or images


@dataclass(frozen=True)
class _Link:
    """One derivation record on the way to an image that was pushed."""

    place: Place
    record: Derivation
    carrier: VerifiedAttestation
    roots: Sequence[tuple[RechunkRecord, VerifiedAttestation]]
    """What is signed of both roots of a derivation; about what was derived."""
    images: Sequence[Entry]
    """Of what was derived."""
    verifier: Verifier
    links: int

    def origins(self) -> list[Origin]:
        origin = self.record.origin
        try:
            top = self.place.registry.get_manifest(self.place.repository, origin)
            entries = images_of(read_entries(self.place, top))
        except NotFound:
            return [self._nowhere(f"the origin {origin} is not here any more")]
        except ContentError as error:
            return [self._nowhere(f"the origin {origin} cannot be read: {error.what}")]
        found = read_attestations(self.place, origin, self.verifier)
        own = tuple(found.of_type(PROVENANCE_TYPE))
        if own:
            proven = frozenset[Digest]().union(*(covered_by(each, frozenset(map(_digest, entries))) for each in own))
            covers, problems = self._held(entries, proven)
            return [Origin(self.record, self.carrier, own, covers, problems, self._also(), (self.record.format,))]
        further: tuple[Origin, ...] = ()
        if self.links > 1:
            further, _ = read_origins(self.place, found, origin, entries, self.verifier, links=self.links - 1)
        if further:
            return [self._through(entries, each) for each in further]
        reason = f"no provenance of the origin {origin} is signed by a trusted key"
        return [self._nowhere(reason, *(f"not believed: {each}" for each in found.rejected[:10]))]

    def _nowhere(self, *problems: str) -> Origin:
        return Origin(self.record, self.carrier, problems=problems, forms=(self.record.format,))

    def _through(self, entries: Sequence[Entry], further: Origin) -> Origin:
        """This record and what it leads to as one: what was made of the image that was pushed."""
        covers, problems = self._held(entries, further.covers)
        before = {pair.derived: pair.origin for pair in further.record.platforms}
        pairs = tuple(
            msgspec.structs.replace(pair, origin=before[pair.origin])
            for pair in self.record.platforms
            if pair.origin in before
        )
        return Origin(
            msgspec.structs.replace(self.record, origin=further.record.origin, platforms=pairs),
            self.carrier,
            further.provenance,
            covers,
            (*further.problems, *problems),
            (*self._also(), further.attestation, *further.also),
            (self.record.format, *further.forms),
        )

    def _also(self) -> tuple[VerifiedAttestation, ...]:
        if self.record.format != RECHUNKED:
            return ()
        return tuple(carrier for record, carrier in self.roots if record.origin == self.record.origin)

    def _held(self, entries: Sequence[Entry], proven: frozenset[Digest]) -> tuple[frozenset[Digest], tuple[str, ...]]:
        """Which images the record speaks of truly, as far as that can be held against it, and why not of others."""
        pairs = {pair.derived: pair for pair in self.record.platforms}
        origins = {entry.digest: entry for entry in entries}
        problems, covers = [], set()
        for entry in self.images:
            reason = self._against(entry, pairs.get(entry.digest), origins, proven)
            if reason:
                problems.append(f"{entry.platform} ({entry.digest}): {reason}")
            else:
                covers.add(entry.digest)
        return frozenset(covers), tuple(problems)

    def _against(
        self, entry: Entry, pair: DerivedPlatform | None, origins: dict[Digest, Entry], proven: frozenset[Digest]
    ) -> str:
        """Why the origin's provenance says nothing about one manifest; empty when it does."""
        form = self.record.format
        if pair is None:
            return "the derivation record does not name it"
        origin = origins.get(pair.origin)
        if origin is None:
            return f"the derivation record says it was made of {pair.origin}, which is no image of {self.record.origin}"
        if pair.origin not in proven:
            return f"the origin's signed provenance does not cover {pair.origin}"
        regrouped = form == RECHUNKED
        if _apart_from_layers(origin, regrouped) != _apart_from_layers(entry, regrouped):
            return f"its config says other things than that of {pair.origin}, and a conversion changes its layers alone"
        if form in NO_LAYER_CHANGED and _layers(origin) != _layers(entry):
            return f"its layers are not those of {pair.origin}, and this conversion changes none ({form})"
        if regrouped and not self._vouched(pair):
            return f"nothing that a trusted indexer signed says that its files are those of {pair.origin}"
        return ""

    def _vouched(self, pair: DerivedPlatform) -> bool:
        if pair.origin == pair.derived:
            return True
        return any(
            each.is_covered and (each.origin, each.rechunked) == (pair.origin, pair.derived)
            for record, _ in self.roots
            if record.origin == self.record.origin
            for each in record.platforms
        )


def _digest(entry: Entry) -> Digest:
    return entry.digest


def _apart_from_layers(entry: Entry, regrouped: bool) -> object:
    """What a config says beside its layers. regrouped: other layers have another history."""
    config = entry.config and msgspec.structs.replace(entry.config, rootfs=None)
    return config and (msgspec.structs.replace(config, history=None) if regrouped else config)


def _layers(entry: Entry) -> list[Digest]:
    return [layer.digest for layer in (entry.manifest.config, *entry.manifest.layers)]


__all__ = ["Origin", "covered_by", "read_origins"]
