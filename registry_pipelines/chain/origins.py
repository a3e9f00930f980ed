"""What a release was derived of, by the records that believed indexers signed."""

from __future__ import annotations

from registry_pipelines.chain.session import Session
from registry_pipelines.errors import NotFound
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.evidence.predicates import DERIVATION_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.promote.origins import MOST_LINKS
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.stream.derivation import read_derivations


def origins_of(session: Session, release: Release) -> list[Descriptor]:
    """The images that a release was derived of, which are in its repository, the one before it first and what that was
    derived of behind it; none for one that was pushed as it is, and where no trusted key is here. Raises
    RegistryError."""
    verifier, place = session.keys.trusted_if_any(), session.source(release)
    if verifier is None:
        return []
    found: dict[Digest, Descriptor] = {}
    derived = [release.digest]
    for _ in range(MOST_LINKS):
        before = [origin for each in derived for origin in _origins(place, each, verifier)]
        derived = [each.digest for each in before if each.digest not in found]
        found |= {each.digest: each for each in before}
    return list(found.values())


def _origins(place: Place, digest: Digest, verifier: Verifier) -> list[Descriptor]:
    known = read_attestations(place, digest, verifier, predicate_type=DERIVATION_TYPE)
    found = []
    for origin in dict.fromkeys(record.origin for record, _ in read_derivations(known, digest)[0]):
        try:
            found.append(place.registry.resolve(place.repository, origin))
        except NotFound:
            continue  # the gate says so
    return found


def platform_origins(session: Session, release: Release, image: Digest) -> list[Digest]:
    """The manifests that one platform's image of a release was derived of, the one before it first. Raises
    RegistryError."""
    verifier, place = session.keys.trusted_if_any(), session.source(release)
    if verifier is None:
        return []
    found, top = list[Digest](), release.digest
    for _ in range(MOST_LINKS):
        known = read_attestations(place, top, verifier, predicate_type=DERIVATION_TYPE)
        links = [
            (record.origin, pair.origin)
            for record, _ in read_derivations(known, top)[0]
            for pair in record.platforms
            if pair.derived == image
        ]
        if not links:
            break
        top, image = links[0]
        found.append(image)
    return found
