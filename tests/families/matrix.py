"""One family once as source and once as target of the embedded registry: every stage through the public functions."""

from __future__ import annotations

import base64
import http.client
import random
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.errors import (
    ContentError,
    NotFound,
    OverQuota,
    Refused,
    RegistryPipelinesError,
    TagImmutable,
    Unsupported,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layout import Layout
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry, Retries
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.interface import Place
from registry_pipelines.release import Release
from registry_pipelines.transfer.closure import discover
from registry_pipelines.transfer.copy import copy_closure
from registry_pipelines.transfer.verify import compare
from tests.chain.fleet import push, write_advisory
from tests.doubles.families import Family, FamilyServer
from tests.doubles.families.table import SOURCE_STAGES, TARGET_STAGES, Cell, Row, Stage
from tests.families.content import SIGNED_TAG, manifests_of, missing_blobs, push_sibling, push_signed
from tests.patience import patient
from tests.scan.images import push_image

SETTINGS = """\
registries:
  family: {{kind: distribution, host: '{family}', plain_http: true{account}}}
  plain: {{kind: distribution, host: '{plain}'}}
images:
  here: {{registry: family, repository: {released}, targets: [plain]}}
  there: {{registry: plain, repository: released, targets: [family]}}
targets:
  family: {{registry: family, prefix: '{prefix}'}}
  plain: {{registry: plain, prefix: from}}
signing: {{generate: true}}
advisories: {{source: advisories}}
mirrors:
  inward: {{to: plain, prefix: mirrored, upstreams: [{{image: 'family/{signed}', tags: ['v*']}}]}}
  outward: {{to: family, prefix: '{mirrored}', upstreams: [{{image: plain/signed, tags: ['v*']}}]}}
syncs:
  fetch: {{source: family, repositories: ['{signed}', '{sibling}'], targets: [plain]}}
  deliver: {{source: plain, repositories: [signed, sibling], targets: [family]}}
retention:
  - {{registry: family, repositories: ['{old}'], keep_newest: 1, keep_days: 0}}
"""


@dataclass
class Outcome:
    """What came of a stage. error: the class's name, empty when all was as it must be."""

    error: str = ""
    said: str = ""


@dataclass
class Report:
    """What a family did. cells: by role and stage, without those that were not tried."""

    family: Family
    cells: dict[tuple[str, Stage], Outcome] = field(default_factory=dict)
    checks: dict[str, Outcome] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)
    """Rows that our client should never meet, and did."""
    unplayed: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    finds: dict[str, bool | None] = field(default_factory=dict)


class Matrix:
    """The registries of one family's run. Use as a context."""

    def __init__(self, family: Family, folder: Path) -> None:
        self.family = family
        self.folder = folder
        self._running = ExitStack()
        self.server = FamilyServer(family, folder / "family")
        self.plain = EmbeddedServer(folder / "plain", garbage_interval_s=None)

    def __enter__(self) -> Matrix:
        self._running.enter_context(self.server)
        self._running.enter_context(self.plain)
        self.here = self.connect(self.server.address)
        self.there = self.connect(self.plain.address)
        self._fill()
        self.chain = Chain(load(self._settings(), {"FAMILY_PASSWORD": self.password}))
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @property
    def password(self) -> str:
        return self.family.user[1] if self.family.user else "none"

    def connect(self, address: str) -> DistributionRegistry:
        """A client that waits for nothing."""
        user, word = self.family.user if self.family.user and address == self.server.address else ("", "")
        client = DistributionRegistry(
            address, username=user, password=word, plain_http=True, retries=Retries(attempts=2, sleep=lambda _: None)
        )
        self._running.callback(client.close)
        return client

    def name(self, name: str) -> str:
        """A repository's name as the family wants it."""
        return self.family.repository.format(name=name)

    def layout_here(self, name: str) -> Layout:
        return self.server.layout(self.name(name))

    def layout_there(self, name: str) -> Layout:
        return self.plain.store.layout(name)

    def _fill(self) -> None:
        if self.family.needs_repositories:
            for name in (
                "signed",
                "sibling",
                "released",
                "old",
                "copied",
                "to/signed",
                "to/sibling",
                "to/released",
                "to/old",
            ):
                self.layout_here(name).create()
            self.layout_here("mirrored/signed").create()
        door = self.connect(self.server.behind) if self.family.read_only else self.here
        for registry, name in ((door, self.name), (self.there, str)):
            push_signed(Place(registry, name("signed")), self.family.tags)
            push_sibling(Place(registry, name("sibling")))
            push(Place(registry, name("released")), "v1.0.0")
            for tag in ("v1", "v2"):
                push(Place(registry, name("old")), tag, version=tag, provenance=False)

    def _settings(self) -> Path:
        write_advisory(self.folder / "advisories")
        path = self.folder / "registry-pipelines.yaml"
        account = f", username: '{self.family.user[0]}', password: '${{FAMILY_PASSWORD}}'" if self.family.user else ""
        names = {name: self.name(name) for name in ("released", "signed", "sibling", "old", "mirrored")}
        prefix = self.name("to/x").removesuffix("/x")
        path.write_text(
            SETTINGS.format(
                family=self.server.address,
                plain=self.plain.address,
                account=account,
                prefix=prefix,
                **names,
            )
        )
        return path

    def chain_with(self, old: str, new: str) -> Chain:
        """A chain over a changed configuration."""
        text = (self.folder / "registry-pipelines.yaml").read_text()
        assert old in text
        path = self.folder / "changed.yaml"
        path.write_text(text.replace(old, new))
        return Chain(load(path, {"FAMILY_PASSWORD": self.password}))

    def release(self, image: str) -> Release:
        place = self.chain.place(image)
        return Release(image, "v1.0.0", place.registry.resolve(place.repository, "v1.0.0").digest)

    # What both sides hold, without our client

    def check_same(self, source: Layout, target: Layout, *, but: tuple[str, ...] = ()) -> None:
        """The same manifests and tags, whole. but: tags that cannot be known."""
        assert manifests_of(source) == manifests_of(target)
        assert not missing_blobs(target)
        there, here = (
            {tag: found.digest for tag, found in each.tags().items() if not tag.startswith("sha256-") or "." in tag}
            for each in (source, target)
        )
        assert {tag: digest for tag, digest in there.items() if tag not in but} == here

    def provoke(self, row: Row) -> None:
        """Do what our client never does, so that the row is played."""
        if row.provoke:
            method, path, headers = row.provoke
            connection = http.client.HTTPConnection(self.server.address, timeout=patient(30))
            basic = base64.b64encode(":".join(self.family.user or ("", "")).encode()).decode()
            connection.putrequest(method, path.format(signed=self.name("signed")))
            for name, value in headers.items():
                connection.putheader(name, value.format(basic=f"Basic {basic}"))
            connection.endheaders()
            if headers.get("Transfer-Encoding") == "chunked":
                connection.send(b"0\r\n\r\n")
            connection.getresponse().read()
            connection.close()


def run(family: Family, folder: Path) -> Report:
    """Every cell of a family's two rows, and which of its table's rows were never played."""
    report = Report(family)
    with Matrix(family, folder) as matrix:
        for role, stages, expected in (
            ("source", SOURCE_STAGES, family.source),
            ("target", TARGET_STAGES, family.target),
        ):
            for stage in stages:
                cell = expected.get(stage, Cell(""))
                if cell.why and not (cell.error or cell.lost):
                    continue
                report.cells[role, stage] = _try(ACTS[role, stage], matrix)
        for check in CHECKS:
            report.checks[check.__name__] = _try(check, matrix)
        report.met = {row.name for row in family.rows if row.provoke and matrix.server.hits[row.name]}
        for row in family.rows:
            matrix.provoke(row)
        found = matrix.here.capabilities(matrix.name("signed"))
        report.finds = {name: getattr(found, name) for name in ("referrers_api", "chunked_upload", "range_reads")}
        report.unplayed = [row.name for row in family.rows if not matrix.server.hits[row.name]]
        report.strangers = matrix.server.second.strangers
    return report


def _try(act: Callable[[Matrix], None], matrix: Matrix) -> Outcome:
    try:
        act(matrix)
    except (RegistryPipelinesError, AssertionError) as error:
        return Outcome(type(error).__name__, str(error)[:1500])
    return Outcome()


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
        copy_closure(place, tag, [copied], state=matrix.folder / "state")
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
        copy_closure(place, tag, [copied], state=matrix.folder / "state")
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


# What the families refuse


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
    copy_closure(Place(matrix.there, "large"), "v1", [target], state=matrix.folder / "state")
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
