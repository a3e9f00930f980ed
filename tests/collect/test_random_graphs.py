"""Random repositories against an evaluator of its own: a plan deletes what the model says and nothing else, applying
does what the plan says, undo brings all of it back, and a kill between any two writes leaves every tag whole."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.collect.apply import Applied, apply_plan
from registry_pipelines.collect.plan import RetentionPlan
from registry_pipelines.collect.quarantine import Quarantine, restore
from registry_pipelines.evidence.keys import verifier_of
from registry_pipelines.evidence.model import Signer
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, ManifestBytes, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.set_aside import quarantine_of
from registry_pipelines.threads import Pool
from tests.collect.test_quarantine import records
from tests.collect.test_quarantine import signer as signer
from tests.collect.test_retention import KIND, NOW, made, plan, rule

MEMORY = Path("/dev/shm")
"""Where there is one: what is synced there costs nothing."""


@dataclass(frozen=True)
class Shape:
    """images: days of age and layers. indexes: numbers of what they list (images first, then indexes before it, then
    one that is not there). notes: numbers of their subjects. tags: number of a manifest by tag."""

    images: list[tuple[int, list[int]]]
    indexes: list[list[int]]
    notes: list[int]
    tags: dict[str, int]
    keep_newest: int


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    images = draw(
        st.lists(st.tuples(st.integers(1, 50), st.lists(st.integers(0, 4), max_size=3)), min_size=1, max_size=5)
    )
    indexes: list[list[int]] = []
    for number in range(draw(st.integers(0, 3))):
        indexes.append(draw(st.lists(st.integers(-1, len(images) + number - 1), min_size=1, max_size=3, unique=True)))
    notes: list[int] = []
    for number in range(draw(st.integers(0, 4))):
        notes.append(draw(st.integers(0, len(images) + len(indexes) + number - 1)))
    tops = len(images) + len(indexes)
    tags = draw(st.dictionaries(st.sampled_from([f"t{n}" for n in range(8)]), st.integers(0, tops - 1), min_size=1))
    return Shape(images, indexes, notes, tags, draw(st.integers(0, 2)))


@dataclass
class Model:
    """What was pushed, by its own account."""

    manifests: dict[Digest, ManifestBytes] = field(default_factory=dict)
    children: dict[Digest, list[Digest]] = field(default_factory=dict)
    subject: dict[Digest, Digest] = field(default_factory=dict)
    blobs: dict[Digest, list[Digest]] = field(default_factory=dict)
    age: dict[Digest, int] = field(default_factory=dict)
    tags: dict[str, Digest] = field(default_factory=dict)

    def reach(self, start: set[Digest], *, back: bool) -> set[Digest]:
        """With children and evidence; back: also what kept evidence is about."""
        reached = set(start)
        while True:
            more = {child for one in reached for child in self.children[one] if child in self.manifests}
            more |= {one for one, subject in self.subject.items() if subject in reached}
            more |= {self.subject[one] for one in reached if back and one in self.subject}
            if more <= reached:
                return reached
            reached |= more

    def stay(self, newest: int) -> set[Digest]:
        """The newest images, those of unknown age, and all they need; whoever is needed stays with all it needs."""
        tagged = set(self.tags.values())
        ranked = sorted((one for one in tagged if one in self.age), key=lambda one: (-self.age[one], one), reverse=True)
        return self.reach({*ranked[:newest], *(one for one in tagged if one not in self.age)}, back=True)


def build(place: Place, shape: Shape) -> Model:
    model, order = Model(), []

    def add(manifest: ManifestBytes, children: list[Digest], blobs: list[Digest]) -> None:
        place.registry.put_manifest(place.repository, manifest)
        model.manifests[manifest.digest], model.children[manifest.digest] = manifest, children
        model.blobs[manifest.digest] = blobs
        order.append(manifest)

    for number, (age, layers) in enumerate(shape.images):
        config = {"architecture": f"a{number}", "os": "linux", "created": made(age)}
        below = [push_blob(place, json.dumps(config).encode(), media_type=media_types.OCI_CONFIG)]
        below += [push_blob(place, b"layer %d" % each, media_type=media_types.OCI_LAYER) for each in layers]
        image = Manifest(
            schema_version=2, media_type=media_types.OCI_MANIFEST, config=below[0], layers=tuple(below[1:])
        )
        add(manifest_bytes(image), [], [each.digest for each in below])
        model.age[order[-1].digest] = age
    gone = Descriptor(media_type=media_types.OCI_MANIFEST, digest=Digest.of(b"not there"), size=9)
    for number, listed in enumerate(shape.indexes):
        lines = [gone if each < 0 else order[each].descriptor for each in listed]
        entries = tuple(
            Descriptor(
                media_type=each.media_type,
                digest=each.digest,
                size=each.size,
                platform=Platform(os="linux", architecture=f"a{number}-{place_}"),
            )
            for place_, each in enumerate(lines)
        )
        index = Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=entries)
        add(manifest_bytes(index), [each.digest for each in lines], [])
        images = {each.digest for each in order[: len(shape.images)]}  # of an index of indexes the age is not known
        ages = [model.age[each.digest] if each.digest in images else None for each in lines if each is not gone]
        known = [age for age in ages if age is not None]
        if known and len(known) == len(ages):
            model.age[order[-1].digest] = min(known)
    for number, subject in enumerate(shape.notes):
        empty = push_blob(place, b"{}", media_type=media_types.OCI_EMPTY)
        about = Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            artifact_type=KIND,
            config=empty,
            layers=(push_blob(place, b"note %d" % number, media_type="text/plain"),),
            subject=order[subject].descriptor,
        )
        add(manifest_bytes(about), [], [])
        model.subject[order[-1].digest] = order[subject].digest
    for tag, number in shape.tags.items():
        place.registry.put_manifest(place.repository, order[number], tag=tag)
        model.tags[tag] = order[number].digest
    return model


class Killed(BaseException):
    """The process is gone."""


class Killable:
    """A registry whose process is killed before its write number ``after``."""

    def __init__(self, inner: LayoutRegistry, after: int) -> None:
        self._inner, self._left = inner, after
        self.name = inner.name

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in ("put_manifest", "delete_manifest", "delete_tag", "mount_blob", "upload_blob", "delete_blob"):
            return found

        def written(*arguments: Any, **named: Any) -> Any:
            if self._left == 0:
                raise Killed
            self._left -= 1
            return found(*arguments, **named)

        return written


@contextmanager
def repository() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Place(LayoutRegistry(Path(folder)), "team/app")


def there(place: Place, model: Model) -> set[Digest]:
    layout = place.registry._store.layout(place.repository)  # type: ignore[attr-defined]
    return {digest for digest in model.manifests if layout.blob_size(digest) is not None}


def tags_of(place: Place) -> dict[str, Digest]:
    return {tag: place.registry.resolve(place.repository, tag).digest for tag in place.registry.tags(place.repository)}


def assert_whole(place: Place, model: Model) -> None:
    """Every tag that is there can be pulled, with its evidence and every byte."""
    tags = tags_of(place)
    assert tags.items() <= model.tags.items()
    for digest in model.reach(set(tags.values()), back=False):
        assert place.registry.get_manifest(place.repository, digest).raw == model.manifests[digest].raw
        for blob in model.blobs[digest]:
            assert place.registry.blob_size(place.repository, blob) is not None


def apply(place: Place, found: RetentionPlan, signer: Signer | None) -> Applied:
    aside = Quarantine(found.digest, 14, signer, verifier_of(signer), NOW) if signer else None
    return apply_plan(place.registry, found, now=NOW, aside=aside)


@settings(max_examples=30)
@given(shapes(), st.booleans())
def test_a_plan_is_what_the_model_says_is_applied_as_it_says_and_undone(
    signer: Signer, shape: Shape, quarantine: bool
) -> None:
    with repository() as place:
        model = build(place, shape)
        before = there(place, model)
        found = plan(place.registry, rule(("*",), keep_newest=shape.keep_newest, keep_days=0))
        stays = model.stay(shape.keep_newest)
        kept = {entry.digest for each in found.repositories for entry in each.entries if entry.reasons}
        assert kept == set(model.tags.values()) & stays
        done = apply(place, found, signer if quarantine else None)
        planned = {digest for _, entry in found.deletions for digest in entry.delete}
        assert done.ok and before - there(place, model) == planned == {each.digest for each in done.deleted}
        assert not planned & stays, "nothing that is needed goes"
        assert tags_of(place) == {tag: digest for tag, digest in model.tags.items() if digest in stays}
        assert_whole(place, model)
        if quarantine:
            undo(place, signer)
            assert tags_of(place) == model.tags and there(place, model) >= model.reach(
                set(model.tags.values()), back=False
            )
            assert_whole(place, model)


def undo(place: Place, signer: Signer) -> None:
    with Pool(2, "undo") as pool:
        for record in records(place, signer):
            assert not restore(record, quarantine_of(place), pool).problems


@pytest.mark.parametrize("quarantine", [True, False])
@settings(max_examples=15)
@given(shape=shapes(), after=st.integers(0, 25))
def test_killed_between_any_two_writes_every_tag_is_whole_and_the_same_plan_finishes(
    signer: Signer, quarantine: bool, shape: Shape, after: int
) -> None:
    with repository() as place:
        model = build(place, shape)
        found = plan(place.registry, rule(("*",), keep_newest=shape.keep_newest, keep_days=0))
        dying = Place(Killable(place.registry, after), place.repository)  # type: ignore[arg-type]
        try:
            apply(dying, found, signer if quarantine else None)
        except Killed:
            assert_whole(place, model)
        assert apply(place, found, signer if quarantine else None).ok
        planned = {digest for _, entry in found.deletions for digest in entry.delete}
        assert not planned & there(place, model)
        assert_whole(place, model)
        if quarantine:
            undo(place, signer)
            assert tags_of(place) == model.tags
            assert_whole(place, model)
