"""The end of every build: provenance beside the image, signed where a key is, and tags that never move."""

from __future__ import annotations

from collections.abc import Sequence

from registry_pipelines.build.builder import PREDICATE_TYPE_ANNOTATION, PROVENANCE_ARTIFACT
from registry_pipelines.errors import TagImmutable
from registry_pipelines.evidence.artifacts import attach_once
from registry_pipelines.evidence.attestations import attest_statement
from registry_pipelines.evidence.model import Signer
from registry_pipelines.evidence.predicates import PROVENANCE_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at


def check_version(place: Place, version: str, there: Digest | None, top: Digest, said: Sequence[str]) -> None:
    """Raise TagImmutable where the version names another image. there: what it names. said: what the reader should know
    of this build."""
    if there not in (None, top):
        raise TagImmutable(
            f"version {version} is {there}, and this build is {top}",
            where=f"{place}:{version}",
            do="; ".join(["Give the build a new version: versions never move", *said]),
        )


def choose_tags(
    place: Place, wanted: Sequence[str], top: Digest, said: Sequence[str]
) -> tuple[tuple[str, ...], list[str]]:
    """Tags that will name the image, and those of them that do not yet. wanted: the version first; that it names
    something else is an error. A commit's tag that does (other wheels, same commit) stays where it is. Raises
    TagImmutable."""
    there = {tag: digest_at(place, tag) for tag in wanted}
    check_version(place, wanted[0], there[wanted[0]], top, said)
    tags = tuple(tag for tag in wanted if there[tag] in (None, top))
    return tags, [tag for tag in tags if there[tag] is None]


def attach_provenance(
    place: Place, top: Descriptor, content: bytes, signer: Signer | None
) -> tuple[Descriptor, int, bool]:
    """Attach a provenance statement, and sign it with the key where there is one: the artifact's manifest, the bytes
    that were sent, and whether anything was not there before."""
    attached, changed = attach_once(
        place,
        subject=top,
        artifact_type=PROVENANCE_ARTIFACT,
        content=content,
        media_type=PROVENANCE_ARTIFACT,
        annotations={PREDICATE_TYPE_ANNOTATION: PROVENANCE_TYPE},
    )
    sent = (len(content) + attached.size) * changed
    signed = attest_statement(place, top, content, signer).changed if signer is not None else False
    return attached, sent, changed or signed
