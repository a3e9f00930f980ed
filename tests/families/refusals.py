"""What only some families do: what they refuse, and how that is told."""

from __future__ import annotations

import random

from registry_pipelines.errors import (
    NotFound,
    OverQuota,
    Refused,
    RegistryPipelinesError,
    TagImmutable,
    Unsupported,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine
from tests.chain.fleet import push
from tests.families.content import SIGNED_TAG, push_sibling
from tests.families.matrix import Matrix
from tests.scan.images import push_image


def try_odd_names(matrix: Matrix) -> None:
    """Repositories that some families know only from asking: one that was never made, one behind a cache, one that was
    emptied."""
    names = {row.when.name for row in matrix.family.rows} | {row.when.missing for row in matrix.family.rows}
    if "missing/.*|[^/]+" in names or "repository" in names:
        try:
            push_blob(Place(matrix.here, "missing/app"), b"to nowhere", media_type="text/plain")
        except NotFound:
            pass
        else:
            raise AssertionError("a repository that was never made took a blob")
    if "cache/[^/]+" in names:
        push_sibling(Place(matrix.connect(matrix.server.behind), "cache/library/image"))
        copy_closure(Place(matrix.here, "cache/image"), SIGNED_TAG, [Place(matrix.there, "cached")])
        assert matrix.layout_there("cached").find(SIGNED_TAG)
    if "emptied" in names:
        push_blob(Place(matrix.here, "emptied"), b"left", media_type="text/plain")
        matrix.server.layout("emptied").create()
        try:
            list(matrix.here.tags("emptied"))
        except NotFound as error:
            assert error.code == "NAME_UNKNOWN"


def try_immutable(matrix: Matrix) -> None:
    """A tag that may not move is TagImmutable, whatever the registry calls it."""
    if not any(row.when.taken for row in matrix.family.rows):
        return
    place = Place(matrix.here, matrix.name("sibling"))
    first = matrix.here.get_manifest(place.repository, SIGNED_TAG)
    matrix.here.put_manifest(place.repository, first, tag="fixed-1")
    matrix.here.put_manifest(place.repository, first, tag="fixed-1")
    try:
        push(place, "fixed-1", provenance=False)
    except RegistryPipelinesError as error:
        assert isinstance(error, TagImmutable), str(error)
    else:
        raise AssertionError("a tag that may not move moved")


def try_sparse(matrix: Matrix) -> None:
    """Where an index must be complete, a copy of some platforms says how it can be had."""
    if not any(row.when.children for row in matrix.family.rows):
        return
    place, sparse = Place(matrix.there, "signed"), Place(matrix.here, matrix.name("copied-sparse"))
    if matrix.family.needs_repositories:
        matrix.layout_here("copied-sparse").create()
    wanted = [Platform.parse("linux/amd64")]
    try:
        copy_closure(place, SIGNED_TAG, [sparse], platforms=wanted)
    except RegistryPipelinesError as error:
        assert "rewritten" in str(error)
    else:
        raise AssertionError("an index without one of its children was taken")
    copy_closure(place, SIGNED_TAG, [sparse], platforms=wanted, selection="rewritten")


def try_tag_delete(matrix: Matrix) -> None:
    """Where tags cannot be deleted, that is what is said."""
    if not any(row.on.startswith("DELETE") and row.when.reference for row in matrix.family.rows):
        return
    try:
        matrix.here.delete_tag(matrix.name("signed"), SIGNED_TAG)
    except Unsupported:
        return
    raise AssertionError("a tag was deleted")


def try_unknown_subject(matrix: Matrix) -> None:
    """What is not there has no referrers, however that is said."""
    assert matrix.here.referrers(matrix.name("signed"), Digest.of(b"never pushed")) == []


def try_large(matrix: Matrix) -> None:
    """Where bodies have a limit, a blob above it arrives all the same; several ways of sending are tried."""
    limits = [row.when.body_above for row in matrix.family.rows if row.when.body_above]
    if not limits:
        return
    push_image(Place(matrix.there, "large"), [random.Random(1).randbytes(max(limits) + 1)], tag="v1")
    target = Place(matrix.here, matrix.name("large"))
    copy_closure(Place(matrix.there, "large"), "v1", [target], engine=Engine(state=matrix.folder / "state"))
    matrix.check_same(matrix.layout_there("large"), matrix.layout_here("large"))


def try_race(matrix: Matrix) -> None:
    """A blob that another client stored meanwhile is there, whatever the answer to ours was."""
    if any(row.when.name == "raced" for row in matrix.family.rows):
        blob = push_blob(Place(matrix.here, "raced"), b"both sent it", media_type="text/plain")
        assert matrix.here.blob_size("raced", blob.digest) == blob.size


def try_refusals(matrix: Matrix) -> None:
    """A spent quota and a policy are told as what they are."""
    names = {row.when.name for row in matrix.family.rows}
    for name, error, act in (
        ("full", OverQuota, lambda place: push(place, "v1", provenance=False)),
        ("blocked", Refused, lambda place: place.registry.get_manifest(place.repository, "v1")),
    ):
        if matrix.name(name) in names:
            try:
                act(Place(matrix.here, matrix.name(name)))
            except RegistryPipelinesError as found:
                assert type(found) is error, found
            else:
                raise AssertionError(f"{name} is no refusal")


CHECKS = (
    try_large,
    try_race,
    try_odd_names,
    try_unknown_subject,
    try_refusals,
    try_immutable,
    try_sparse,
    try_tag_delete,
)
