"""What a release was derived of, by the records that believed indexers signed."""

from __future__ import annotations

from registry_pipelines.chain.session import Session
from registry_pipelines.errors import NotFound
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.predicates import DERIVATION_TYPE
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.release import Release
from registry_pipelines.stream.derivation import read_derivations


def origins_of(session: Session, release: Release) -> list[Descriptor]:
    """The images that a release was derived of, which are in its repository; none for one that was pushed as it is, and
    where no trusted key is here. Raises RegistryError."""
    verifier, place = session.keys.trusted_if_any(), session.source(release)
    if verifier is None:
        return []
    known = read_attestations(place, release.digest, verifier, predicate_type=DERIVATION_TYPE)
    found = []
    for digest in dict.fromkeys(record.origin for record, _ in read_derivations(known, release.digest)[0]):
        try:
            found.append(place.registry.resolve(place.repository, digest))
        except NotFound:
            continue  # the gate says so
    return found
