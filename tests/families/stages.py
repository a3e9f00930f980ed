"""Every stage through the public functions, with the family once as source and once as target."""

from __future__ import annotations

from collections.abc import Callable

from registry_pipelines.chain import Chain
from registry_pipelines.errors import (
    ContentError,
)
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.transfer.closure.discovery import discover
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.verify import compare
from tests.doubles.families.table import Stage
from tests.families.content import SIGNED_TAG
from tests.families.matrix import Matrix

# The family as source


def source_probe(matrix: Matrix) -> None:
    matrix.here.ping()
    blob = next(iter(discover(Place(matrix.here, matrix.name("signed")), SIGNED_TAG).blobs))
    matrix.here.probe(matrix.name("signed"), blob=blob)


def source_catalogue(matrix: Matrix) -> None:
    assert matrix.name("signed") in set(matrix.here.repositories())


def source_copy(matrix: Matrix) -> None:
    place, copied = Place(matrix.here, matrix.name("signed")), Place(matrix.there, "copied")
    tags = [SIGNED_TAG, *matrix.family.tags]
    for tag in tags:
        copy_closure(place, tag, [copied], engine=Engine(state=matrix.folder / "state"))
    assert compare(place, copied, SIGNED_TAG, content=True) == []
    assert set(matrix.here.tags(place.repository)) >= set(tags) - set(matrix.family.hidden)
    matrix.check_same(matrix.layout_here("signed"), matrix.layout_there("copied"))


def source_sync(matrix: Matrix) -> None:
    first = matrix.chain.sync("fetch")
    assert (first.ok, first.changed) == (True, True), first.reasons
    for name in ("signed", "sibling"):
        copied = matrix.layout_there(f"from/{matrix.name(name)}")
        matrix.check_same(matrix.layout_here(name), copied, but=matrix.family.hidden)
    again = matrix.chain.sync("fetch")
    assert (again.ok, again.changed, again.bytes_moved) == (True, False, 0), again.reasons


def source_mirror(matrix: Matrix) -> None:
    done = matrix.chain.mirror("inward")
    assert done.ok, done.reasons
    place = Place(matrix.here, matrix.name("signed"))
    assert compare(place, Place(matrix.there, f"mirrored/{place.repository}"), SIGNED_TAG) == []


def source_sbom(matrix: Matrix) -> None:
    release = matrix.release("here")
    assert matrix.chain.sbom(release).facts["components"] == 1
    assert matrix.chain.vulnerabilities(release).ok


def source_sign(matrix: Matrix) -> None:
    release = matrix.release("here")
    assert matrix.chain.sign(release).changed
    assert not Chain(matrix.chain.config).sign(release).changed


def source_verify(matrix: Matrix) -> None:
    assert matrix.chain.verify(matrix.release("here")).ok


def source_judge(matrix: Matrix) -> None:
    judged = matrix.chain.judge(matrix.release("here"))
    assert judged.ok, judged.reasons


def source_promote(matrix: Matrix) -> None:
    release = matrix.release("here")
    assert matrix.chain.promote(release).ok
    assert matrix.chain.replicate(release, "plain").ok
    assert not matrix.chain.compare_replica(release, "plain").differences


def source_collect(matrix: Matrix) -> None:
    _collect(matrix.chain, matrix, matrix.name("old"))


def _collect(chain: Chain, matrix: Matrix, repository: str) -> None:
    plan = chain.plan_retention("family")
    assert [(named, len(entry.delete)) for named, entry in plan.deletions] == [(repository, 1)], plan.rows()
    [(_, entry)] = plan.deletions
    done = chain.collect("family", plan)
    if not done.ok:
        raise Refusals("; ".join(done.reasons))
    assert matrix.server.layout(repository).find(entry.digest) is None
    assert len(matrix.server.layout(repository).tags()) == 1


class Refusals(ContentError):
    """What a collection did not delete, or a sync or mirror could not bring; the reasons are told in its result."""


# The family as target


def target_copy(matrix: Matrix) -> None:
    place, copied = Place(matrix.there, "signed"), Place(matrix.here, matrix.name("copied"))
    for tag in [SIGNED_TAG, *matrix.family.tags]:
        copy_closure(place, tag, [copied], engine=Engine(state=matrix.folder / "state"))
    assert compare(place, copied, SIGNED_TAG, content=True) == []
    matrix.check_same(matrix.layout_there("signed"), matrix.layout_here("copied"))


def target_sync(matrix: Matrix) -> None:
    first = matrix.chain.sync("deliver")
    if not first.ok:
        raise Refusals("; ".join(first.reasons))
    assert first.changed
    for name in ("signed", "sibling"):
        matrix.check_same(matrix.layout_there(name), matrix.layout_here(f"to/{name}"))
    again = matrix.chain.sync("deliver")
    assert (again.ok, again.changed, again.bytes_moved) == (True, False, 0), again.reasons


def target_replicate(matrix: Matrix) -> None:
    release, chain = matrix.release("there"), matrix.chain
    for act in (chain.sbom, chain.vulnerabilities, chain.sign, chain.judge, chain.promote):
        assert act(release).ok
    assert chain.replicate(release, "family").ok
    assert not chain.compare_replica(release, "family").differences
    assert not Chain(chain.config).replicate(release, "family").changed


def target_verify(matrix: Matrix) -> None:
    """The evidence that arrived is enough for whoever has the target alone."""
    arrived = matrix.chain.target_place("there", "family").repository
    chain = matrix.chain_with(f"repository: {matrix.name('released')}", f"repository: {arrived}")
    place = chain.place("here")
    release = Release("here", "v1.0.0", place.registry.resolve(place.repository, "v1.0.0").digest)
    assert chain.verify(release).ok


def target_mirror(matrix: Matrix) -> None:
    done = matrix.chain.mirror("outward")
    if not done.ok:
        raise Refusals("; ".join(done.reasons))
    mirrored = Place(matrix.here, f"{matrix.name('mirrored')}/signed")
    assert compare(Place(matrix.there, "signed"), mirrored, SIGNED_TAG) == []


def target_collect(matrix: Matrix) -> None:
    delivered = matrix.chain.target_place("there", "family").repository.replace("released", "old")
    for tag in ("v1", "v2"):
        copy_closure(Place(matrix.there, "old"), tag, [Place(matrix.here, delivered)])
    _collect(matrix.chain_with(f"['{matrix.name('old')}']", f"['{delivered}']"), matrix, delivered)


ACTS: dict[tuple[str, Stage], Callable[[Matrix], None]] = {
    ("source", "probe"): source_probe,
    ("source", "catalogue"): source_catalogue,
    ("source", "copy"): source_copy,
    ("source", "sync"): source_sync,
    ("source", "mirror"): source_mirror,
    ("source", "sbom"): source_sbom,
    ("source", "sign"): source_sign,
    ("source", "verify"): source_verify,
    ("source", "judge"): source_judge,
    ("source", "promote"): source_promote,
    ("source", "collect"): source_collect,
    ("target", "copy"): target_copy,
    ("target", "sync"): target_sync,
    ("target", "replicate"): target_replicate,
    ("target", "verify"): target_verify,
    ("target", "mirror"): target_mirror,
    ("target", "collect"): target_collect,
}
