"""Kills, media that are pulled out, full disks, and any mixture of what happens to media on their way."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import ClosureIncomplete, ContentError, DiskFull, LocalError
from registry_pipelines.mirror.bundle.load import load_bundles
from registry_pipelines.mirror.bundle.opened import OpenBundle
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer, Exchange
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.transfer.verify import compare
from tests.doubles.small_disk import small_disk
from tests.evidence.parts import Key
from tests.mirror.bundle.gap import NOW, Far, far_layout, publish, whole
from tests.mirror.bundle.written import Line
from tests.patience import patient
from tests.scan.images import push_image

MakeKey = Callable[[str], Key]

LOADER = """
import sys
from pathlib import Path
from registry_pipelines.registry.client import DistributionRegistry
from tests.mirror.bundle.gap import Far
Far(DistributionRegistry(sys.argv[1]), Path(sys.argv[2])).load(Path(sys.argv[3]))
"""


@pytest.fixture
def near(tmp_path: Path) -> LayoutRegistry:
    return LayoutRegistry(tmp_path / "near")


@contextmanager
def killing(server_root: Path, state: Path, disk: Path, at: int) -> Iterator[DistributionRegistry]:
    """A registry into which a process of its own loaded, which was killed when so many writes were answered."""
    child: list[subprocess.Popen[bytes]] = []
    writes: list[Exchange] = []

    def count(exchange: Exchange) -> None:
        if exchange.method in ("PUT", "POST", "PATCH"):
            writes.append(exchange)
            if len(writes) >= at:  # several are answered at once, so nobody may see just this number
                child[0].kill()

    with EmbeddedServer(server_root, on_exchange=count) as server:
        words = [sys.executable, "-c", LOADER, server.address, str(state), str(disk)]
        child.append(subprocess.Popen(words, stderr=subprocess.PIPE))
        error = child[0].communicate(timeout=patient(60))[1].decode()
        assert child[0].returncode == -signal.SIGKILL, error
        yield DistributionRegistry(server.address)


@pytest.mark.parametrize(
    "moments", [(15,), pytest.param(tuple(range(1, 48, 2)), marks=pytest.mark.long)], ids=["some", "all"]
)
def test_a_killed_load_goes_on_and_no_tag_was_early(
    near: LayoutRegistry, make_key: MakeKey, moments: tuple[int, ...], tmp_path: Path
) -> None:
    Line(make_key("near").signer).write(tmp_path / "disk", publish(near, 1))
    for moment in moments:
        root, state = tmp_path / f"private-{moment}", tmp_path / f"far-{moment}"
        with killing(root, state, tmp_path / "disk", moment) as registry:
            whole(LayoutRegistry(root))  # every tag that is there has all it names
            far = Far(registry, state)
            assert far.load(tmp_path / "disk")[0].ok
            assert whole(far.registry) == whole(near)


def test_a_medium_that_is_pulled_out_while_it_is_read_is_said_and_the_rest_comes_later(
    near: LayoutRegistry, make_key: MakeKey, tmp_path: Path
) -> None:
    bundle = Line(make_key("near").signer).write(tmp_path / "disk", publish(near, 1), part_size=5_000)
    far = far_layout(tmp_path / "far")
    found = far.look(tmp_path / "disk")
    (tmp_path / "disk" / bundle.parts[-2].name).rename(tmp_path / "pulled")
    with (tmp_path / "disk" / bundle.parts[-3].name).open("rb+") as part:
        part.truncate(10)
    (load,) = load_bundles(found, far.registry, far.memory, engine=far.engine, now=NOW)
    errors = [each.error for each in load.images if each.error]
    assert errors and all(isinstance(each, LocalError) and "Put the medium back" in each.do for each in errors)
    assert not far.memory.read().loaded
    whole(far.registry)
    (tmp_path / "pulled").rename(tmp_path / "disk" / bundle.parts[-2].name)
    assert not far.look(tmp_path / "disk")[0].whole  # the cut part is still damaged
    Line(make_key("near").signer).write(tmp_path / "disk", publish(near, 1), part_size=5_000)
    assert far.load(tmp_path / "disk")[0].ok and whole(far.registry) == whole(near)


def test_a_registry_that_is_full_says_so_and_goes_on_when_it_has_space(
    near: LayoutRegistry, make_key: MakeKey, tmp_path: Path
) -> None:
    place = Place(near, "library/large")
    push_image(place, [random.Random(1).randbytes(3 << 20)], tag="1")
    Line(make_key("near").signer).write(tmp_path / "disk", [*publish(near, 1), (place, "1")], part_size=1 << 20)
    with small_disk(tmp_path / "full", 2) as small:
        far = Far(LayoutRegistry(small / "registry"), tmp_path / "far")
        (load,) = far.load(tmp_path / "disk")
        assert any(isinstance(each.error, DiskFull) for each in load.images) and not load.ok
        whole(far.registry)
        assert not far.memory.read().loaded
        shutil.copytree(small / "registry", tmp_path / "roomy")
    moved = Far(LayoutRegistry(tmp_path / "roomy"), tmp_path / "far")
    assert moved.load(tmp_path / "disk")[0].ok and whole(moved.registry) == whole(near)


def test_a_document_that_lies_about_a_blob_tags_nothing(
    near: LayoutRegistry, make_key: MakeKey, tmp_path: Path
) -> None:
    """Signed and whole as it is: the engine hashes every blob all the same."""
    line = Line(make_key("near").signer)
    bundle = line.write(tmp_path / "disk", publish(near, 1), part_size=1 << 20)
    part = tmp_path / "disk" / bundle.parts[0].name
    far = far_layout(tmp_path / "far")
    found = far.look(tmp_path / "disk")
    content = bytearray(part.read_bytes())
    blob = next(each for each in reversed(bundle.blobs) if not each.media_type)
    content[blob.offset] ^= 1
    part.write_bytes(content)  # after it was verified
    (load,) = load_bundles(found, far.registry, far.memory, engine=far.engine, now=NOW)
    assert not load.ok and any(isinstance(each.error, ContentError) for each in load.images)
    whole(far.registry)
    content[bundle.blobs[0].offset] ^= 1
    part.write_bytes(content)
    with pytest.raises(ContentError):
        OpenBundle(bundle, [part], far.registry)


Mishap = tuple[str, int, int]
mishaps = st.lists(
    st.tuples(
        st.sampled_from(("load", "lose", "damage", "cut", "rename", "swap")), st.integers(1, 3), st.integers(0, 9)
    ),
    max_size=6,
)


@pytest.fixture(scope="module")
def three(make_key: MakeKey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The near side after three versions, and a bundle of each in ``kept/<version>``."""
    here = tmp_path_factory.mktemp("three")
    near, line = LayoutRegistry(here / "near"), Line(make_key("near").signer)
    for version in (1, 2, 3):
        line.write(here / "kept" / str(version), publish(near, version), part_size=8_000)
    return here


def all_ends_equal(three: Path, happened: list[Mishap]) -> None:
    with TemporaryDirectory() as folder:
        here = Path(folder)
        shutil.copytree(three / "kept", here / "media")
        far = far_layout(here / "far")
        for what, version, at in happened:
            befall(far, here / "media" / str(version), what, at)
        whole(far.registry)
        for version in (1, 2, 3):  # what was lacking comes once more
            shutil.copytree(three / "kept" / str(version), here / "media" / str(version), dirs_exist_ok=True)
            assert far.load(here / "media" / str(version))[0].ok
        assert whole(far.registry) == whole(LayoutRegistry(three / "near"))


@settings(max_examples=3, deadline=None)
@given(happened=mishaps)
def test_whatever_happens_to_media_all_ends_equal(three: Path, happened: list[Mishap]) -> None:
    all_ends_equal(three, happened)


@pytest.mark.long
@settings(max_examples=200, deadline=None)
@given(happened=mishaps)
def test_whatever_happens_to_media_all_ends_equal_often(three: Path, happened: list[Mishap]) -> None:
    all_ends_equal(three, happened)


def befall(far: Far, medium: Path, what: str, at: int) -> None:
    parts = sorted(path for path in medium.iterdir() if ".bundle.json" not in path.name)
    if what == "load":
        found = far.look(medium)
        if all(each.whole for each in found):
            assert load_bundles(found, far.registry, far.memory, engine=far.engine, now=NOW)[0].ok
    elif parts:
        part, other = parts[at % len(parts)], parts[(at + 1) % len(parts)]
        if what == "lose":
            part.unlink()
        elif what == "damage":
            part.write_bytes(bytes(byte ^ 255 for byte in part.read_bytes()))
        elif what == "cut":
            part.write_bytes(part.read_bytes()[:-1])
        elif what == "rename":
            part.rename(medium / f"other-{at}")
        else:
            first, second = part.read_bytes(), other.read_bytes()
            part.write_bytes(second)
            other.write_bytes(first)


acts = st.lists(
    st.tuples(st.sampled_from(("make", "carry", "confirm", "let go")), st.integers(0, 9), st.booleans()), max_size=8
)


def the_last_bundle_makes_it_whole(make_key: MakeKey, happened: list[tuple[str, int, bool]]) -> None:
    """Bundles on any receipt that ever came, some of them lost; content that the far side let go meanwhile. What is
    loaded is whole, or nothing is written; a bundle on a receipt of now can always be loaded."""
    with TemporaryDirectory() as folder:
        here = Path(folder)
        near, far, line = LayoutRegistry(here / "near"), far_layout(here / "far"), Line(make_key("near").signer)
        publish(near, 0)
        receipts = [far.receipt(make_key("far").signer)]
        for what, at, full in happened:
            if what == "make":
                receipt = None if full else receipts[at % len(receipts)]
                line.write(here / str(line.number + 1), publish(near, line.number + 1), receipt=receipt)
            elif what == "carry" and line.number:
                with suppress(ClosureIncomplete):
                    assert far.load(here / str(at % line.number + 1))[0].ok
            elif what == "confirm":
                receipts.append(far.receipt(make_key("far").signer))
            elif what == "let go":
                let_go(far.registry, at, whole_manifest=full)
        last = far.receipt(make_key("far").signer)
        wanted = publish(near, line.number + 1)
        line.write(here / "last", wanted, receipt=last)
        (load,) = far.load(here / "last")
        assert load.ok, [str(each.error) for each in load.images]
        for place, tag in wanted:
            assert compare(place, Place(far.registry, place.repository), tag, content=True) == []


def let_go(registry: Registry, at: int, *, whole_manifest: bool) -> None:
    """Delete a tag's manifest, or one of its blobs alone as a collector does that errs."""
    repositories = list(registry.repositories())
    if not repositories:
        return
    repository = repositories[at % len(repositories)]
    tags = list(registry.tags(repository))
    if not tags:
        return
    manifest = registry.get_manifest(repository, tags[at % len(tags)])
    if whole_manifest:
        registry.delete_manifest(repository, manifest.digest)
    else:
        content = manifest.content()
        if isinstance(content, Manifest):
            registry.delete_blob(repository, content.layers[0].digest)


@settings(max_examples=3, deadline=None)
@given(happened=acts)
def test_a_bundle_on_a_receipt_of_now_can_always_be_loaded(
    make_key: MakeKey, happened: list[tuple[str, int, bool]]
) -> None:
    the_last_bundle_makes_it_whole(make_key, happened)


@pytest.mark.long
@settings(max_examples=150, deadline=None)
@given(happened=acts)
def test_a_bundle_on_a_receipt_of_now_can_always_be_loaded_often(
    make_key: MakeKey, happened: list[tuple[str, int, bool]]
) -> None:
    the_last_bundle_makes_it_whole(make_key, happened)
