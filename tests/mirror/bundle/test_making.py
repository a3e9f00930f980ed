"""A bundle is made whole or goes on where it stopped, and its parts one after another are a tar that others read."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import (
    ClosureIncomplete,
    ContentError,
    DigestMismatch,
    DiskFull,
    InputError,
    StateLocked,
    Unavailable,
)
from registry_pipelines.mirror.bundle.format import read_bundle, verify_bundle
from registry_pipelines.mirror.bundle.near import NearState, Progressed
from registry_pipelines.mirror.bundle.parts import HALF, half_written
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import BlobReader, Place, Registry
from tests.doubles.small_disk import small_disk
from tests.evidence.parts import Key
from tests.mirror.bundle.gap import publish
from tests.mirror.bundle.nearside import Near, stream_of_parts
from tests.patience import patient
from tests.scan.images import push_image

MakeKey = Callable[[str], Key]
Peer = Callable[[str], str]
BIG = 2_200_000


@pytest.fixture
def near(tmp_path: Path, make_key: MakeKey) -> Near:
    """Upstreams with a blob that is fetched in ranges, in a folder."""
    registry = LayoutRegistry(tmp_path / "near-registry")
    images = publish(registry, 1)
    big = Place(registry, "library/big")
    push_image(big, [{"weights.bin": noise(BIG)}, {"a": "b"}], tag="1")
    return Near(
        registry, tmp_path / "near-state", make_key("promoter").signer, [*images, (big, "1")], part_size=500_000
    )


def noise(size: int) -> bytes:
    """Bytes that no compression makes smaller, the same each time."""
    import random

    return random.Random(7).randbytes(size)


def members(stream: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        return {each.name: tar.extractfile(each).read() for each in tar if each.isfile()}  # type: ignore[union-attr]


def test_the_parts_are_one_tar_of_a_layout_and_the_document_says_where_each_blob_is(
    near: Near, tmp_path: Path, make_key: MakeKey
) -> None:
    made = near.make(tmp_path / "disk")
    sealed = read_bundle((tmp_path / "disk" / "upstreams-0001.bundle.json").read_bytes())
    assert verify_bundle(sealed, make_key("promoter").verifier) and sealed.bundle == made.bundle
    assert len(made.bundle.parts) > 4 and {part.size for part in made.bundle.parts[:-1]} == {500_000}
    stream = stream_of_parts(made.bundle, tmp_path / "disk")
    assert len(stream) == made.bundle.stream_size
    files = members(stream)
    for blob in made.bundle.blobs:
        content = stream[blob.offset : blob.offset + blob.size]
        assert Digest.of(content) == blob.digest and files[f"blobs/sha256/{blob.digest.hex}"] == content
    index = json.loads(files["index.json"])
    named = {
        entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"]
        for entry in index["manifests"]
        if "annotations" in entry
    }
    for place, tag in near.images:
        assert named[f"{place.repository}:{tag}"] == near.registry.resolve(place.repository, tag).digest
    assert {entry["digest"] for entry in index["manifests"]} == {blob.digest for blob in made.bundle.manifests}
    assert [path for path in near.folder.rglob("*draft.parts*") if path.exists()] == []


def test_two_runs_make_the_same_bytes(near: Near, tmp_path: Path) -> None:
    first = near.make(tmp_path / "one")
    second = near.make(tmp_path / "two")
    assert (first.bundle.number, second.bundle.number) == (1, 2) and first.bundle.line == second.bundle.line
    assert [part.sha256 for part in first.bundle.parts] == [part.sha256 for part in second.bundle.parts]


def test_tar_and_skopeo_read_it(near: Near, tmp_path: Path, peer: Peer) -> None:
    made = near.make(tmp_path / "disk")
    whole = tmp_path / "whole.tar"
    whole.write_bytes(stream_of_parts(made.bundle, tmp_path / "disk"))
    listed = subprocess.run(["tar", "tf", str(whole)], capture_output=True, text=True, check=True).stdout.split()
    assert listed[:3] == ["oci-layout", "index.json", "blobs/"]
    copied = [peer("skopeo"), "copy", "--all", f"oci-archive:{whole}:library/many:1", f"oci:{tmp_path / 'out'}:1"]
    subprocess.run(copied, capture_output=True, check=True, timeout=patient(60))
    top = json.loads((tmp_path / "out" / "index.json").read_text())["manifests"][0]["digest"]
    assert top == near.registry.resolve("library/many", "1").digest


def test_one_part_alone_is_made_again_byte_for_byte(near: Near, tmp_path: Path) -> None:
    made = near.make(tmp_path / "disk")
    for number in (1, 3, len(made.bundle.parts)):
        written = near.again(1, [number], tmp_path / "more")
        assert [path.name for path in written] == [made.bundle.parts[number - 1].name, "upstreams-0001.bundle.json"]
        for path in written:
            assert path.read_bytes() == (tmp_path / "disk" / path.name).read_bytes()
    with pytest.raises(InputError, match="no part 99"):
        near.again(1, [99], tmp_path / "more")
    with pytest.raises(InputError, match="no bundle 7 of upstreams is remembered here; known: 1"):
        near.again(7, [1], tmp_path / "more")


class Wrapped:
    """A registry that does something when a blob is opened."""

    def __init__(self, registry: Registry, opened: Callable[[Digest, int], None]) -> None:
        self._registry, self._opened, self.name = registry, opened, registry.name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    def open_blob(self, repository: str, digest: Digest, *, start: int = 0, stop: int | None = None) -> BlobReader:
        self._opened(digest, start)
        return self._registry.open_blob(repository, digest, start=start, stop=stop)


def big_blob(near: Near) -> Digest:
    sizes = {blob.digest: blob.size for blob in near.draft().bundle.blobs}
    near.state.drop()
    return max(sizes, key=lambda digest: sizes[digest])


def test_a_source_that_goes_away_leaves_the_finished_parts_and_the_same_call_finishes(
    near: Near, tmp_path: Path
) -> None:
    disk, big = tmp_path / "disk", big_blob(near)

    def refuse(digest: Digest, start: int) -> None:
        if digest == big:
            raise ClosureIncomplete("it is away")

    with pytest.raises(ClosureIncomplete, match="it is away"):
        near.making(disk, registry=Wrapped(near.registry, refuse)).finish(near.draft())  # type: ignore[arg-type]
    assert not list(disk.glob("*.json")) and not list(disk.glob(f"*{HALF}"))
    before = {path: path.stat().st_mtime_ns for path in disk.iterdir()}
    made = near.make(disk)
    assert made.bundle.number == 2 and {path: path.stat().st_mtime_ns for path in before} == before
    assert len(members(stream_of_parts(made.bundle, disk))) == len(made.bundle.blobs) + 2


def test_a_blob_that_changed_at_the_source_is_refused(near: Near, tmp_path: Path) -> None:
    big = big_blob(near)
    [path] = (tmp_path / "near-registry").rglob(big.hex)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    with pytest.raises(DigestMismatch, match="other bytes than its name says"):
        near.make(tmp_path / "disk")
    assert not list((tmp_path / "disk").glob("*.json"))
    content[-1] ^= 1
    path.write_bytes(content)
    made = near.make(tmp_path / "disk")
    assert made.bundle.number == 2
    stream_of_parts(made.bundle, tmp_path / "disk")
    content[0] ^= 1
    path.write_bytes(content)
    at = next(blob.offset for blob in made.bundle.blobs if blob.digest == big)
    with pytest.raises(ContentError, match="other bytes than the bundle's document says"):
        near.again(2, [at // 500_000 + 1], tmp_path / "more")
    assert not list((tmp_path / "more").glob("*.part*"))


@pytest.mark.parametrize("kept", [True, False])
def test_after_a_part_the_rest_is_made_by_another_process(near: Near, tmp_path: Path, kept: bool) -> None:
    """kept: the first medium is at hand still; else the head of the blob that was cut is read from the source."""
    whole = near.make(tmp_path / "whole")
    near.state.drop()
    disk, draft = tmp_path / "disk", near.draft()
    making = near.making(disk)
    making.near = Stopping(near.state, 2)
    with pytest.raises(Stopped):
        making.finish(draft)
    (disk / f"upstreams-0002.part0004{HALF}").write_bytes(b"torn")
    if not kept:
        disk.rename(tmp_path / "away")
    made = near.make(disk)
    assert [path.name for path in made.written[:1]] == ["upstreams-0002.part0004"]
    assert [part.sha256 for part in made.bundle.parts] == [part.sha256 for part in whole.bundle.parts]
    assert not list(disk.glob(f"*{HALF}"))
    stream_of_parts(made.bundle, disk, tmp_path / "away")


def test_a_full_medium_ends_cleanly_and_another_takes_the_rest(near: Near, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 2) as small:
        with pytest.raises(DiskFull, match=r"no space is left for the next part, of .* the finished parts stay"):
            near.make(small)
        finished = sorted(path.name for path in small.iterdir())
        assert 1 <= len(finished) <= 4 and not any(name.endswith((HALF, ".json")) for name in finished)
        made = near.make(small, tmp_path / "large")
        assert (tmp_path / "large" / "upstreams-0001.bundle.json").exists()
        assert len(members(stream_of_parts(made.bundle, small, tmp_path / "large"))) == len(made.bundle.blobs) + 2


def test_files_of_another_bundle_are_not_written_over(near: Near, tmp_path: Path) -> None:
    near.make(tmp_path / "disk")
    lost = Near(near.registry, tmp_path / "new-state", near.signer, near.images, part_size=500_000)
    with pytest.raises(InputError, match="of another bundle"):
        lost.make(tmp_path / "disk")
    assert lost.make(tmp_path / "other").bundle.number == 1


def test_a_link_on_a_medium_leads_nothing_out_of_it(near: Near, tmp_path: Path) -> None:
    disk, precious = tmp_path / "disk", tmp_path / "precious"
    disk.mkdir()
    precious.write_text("of somebody else")
    (disk / f"upstreams-0001.part0001{HALF}").symlink_to(precious)
    (disk / "upstreams-0001.part0002").symlink_to(tmp_path / "not-there")
    (disk / "upstreams-0001.bundle.json").symlink_to(precious)
    made = near.make(disk)
    assert precious.read_text() == "of somebody else" and not (tmp_path / "not-there").exists()
    assert not any(path.is_symlink() for path in disk.iterdir())
    stream_of_parts(made.bundle, disk)


def test_a_part_that_another_process_writes_is_left_to_it(near: Near, tmp_path: Path) -> None:
    with half_written(tmp_path, "upstreams-0001.part0001") as file:
        os.write(file, b"of the other")
        with pytest.raises(StateLocked, match="another process writes"):
            near.make(tmp_path)
    assert (tmp_path / "upstreams-0001.part0001").read_bytes() == b"of the other"
    (tmp_path / f"upstreams-0001.part0001{HALF}").write_bytes(b"left by one that was killed")
    (tmp_path / "upstreams-0001.part0001").unlink()
    stream_of_parts(near.make(tmp_path).bundle, tmp_path)


def test_a_source_that_is_away_for_a_moment_is_waited_for(near: Near, tmp_path: Path) -> None:
    big, failed = big_blob(near), []

    def once(digest: Digest, start: int) -> None:
        if digest == big and not failed:
            failed.append(start)
            raise Unavailable("a moment")

    made = near.making(tmp_path / "disk", registry=Wrapped(near.registry, once)).finish(near.draft())  # type: ignore[arg-type]
    assert failed and len(members(stream_of_parts(made.bundle, tmp_path / "disk"))) == len(made.bundle.blobs) + 2


def test_a_medium_that_takes_no_large_files_is_said(near: Near, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    draft = near.draft()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
        with pytest.raises(InputError, match=r"the medium takes no file of .* --part-size"):
            near.making(tmp_path / "disk").finish(draft)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "disk").iterdir())


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part_size=st.integers(2_500, 40_000), stops=st.lists(st.integers(0, 12), max_size=4), moved=st.booleans())
def test_however_it_is_cut_and_wherever_it_stops_the_stream_is_one(
    small: Near, tmp_path_factory: pytest.TempPathFactory, part_size: int, stops: list[int], moved: bool
) -> None:
    """stops: after so many parts of each run the source goes away. moved: each run writes to a medium of its own."""
    here = tmp_path_factory.mktemp("cut")
    near = Near(small.registry, here / "state", small.signer, small.images, part_size=part_size)
    folders = [here / f"disk-{number if moved else 0}" for number in range(len(stops) + 1)]
    draft = near.draft()
    for stop, folder in zip(stops, folders, strict=False):
        making = near.making(folder)
        making.near = Stopping(near.state, stop)
        with contextlib.suppress(Stopped):
            if near.state.draft() is not None:
                making.finish(draft)
    made = near.make(folders[-1]).bundle if near.state.draft() is not None else near.state.bundle(1)
    media = list(dict.fromkeys(folders))
    content = stream_of_parts(made, *media)
    known = members(content)
    assert len(known) == len(made.blobs) + 2
    assert all(Digest.of(known[f"blobs/sha256/{each.digest.hex}"]) == each.digest for each in made.blobs)


class Stopped(BaseException):
    """A process was killed."""


class Stopping(NearState):
    """Ends the process after so many parts."""

    def __init__(self, state: NearState, parts: int) -> None:
        super().__init__(state.documents, state.mirror)
        self.parts = parts

    def keep(self, progressed: Progressed) -> None:
        super().keep(progressed)
        if progressed.under_way is None:
            self.parts -= 1
        if self.parts < 0:
            raise Stopped


@pytest.fixture
def small(tmp_path: Path, make_key: MakeKey) -> Near:
    registry = LayoutRegistry(tmp_path / "small-registry")
    return Near(registry, tmp_path / "small-state", make_key("promoter").signer, publish(registry, 1))
