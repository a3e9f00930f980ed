"""A bundle as a registry: any range of any blob, out of parts that cut it anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import LocalError, NotFound, RegistryError, Unsupported
from registry_pipelines.mirror.bundle.opened import OpenBundle
from registry_pipelines.mirror.bundle.sliced import PartStream
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import BlobReader
from tests.evidence.parts import Key
from tests.mirror.bundle.gap import publish
from tests.mirror.bundle.test_load import MakeKey
from tests.mirror.bundle.written import Line


def drain(reader: BlobReader, buffer_size: int) -> bytes:
    found = b""
    with reader:
        buffer = memoryview(bytearray(buffer_size))
        while count := reader.readinto(buffer):
            found += bytes(buffer[:count])
    return found


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Path]:
    content = bytes(range(256)) * 4
    return content, tmp_path_factory.mktemp("parts")


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 1100), start=st.integers(0, 1024), length=st.integers(0, 1024), buffer=st.integers(1, 300))
def test_any_range_out_of_any_slices(
    stream: tuple[bytes, Path], size: int, start: int, length: int, buffer: int
) -> None:
    content, folder = stream
    paths = []
    for number, at in enumerate(range(0, len(content), size)):
        paths.append(folder / f"{size}-{number}")
        if not paths[-1].exists():
            paths[-1].write_bytes(content[at : at + size])
    stop = min(start + length, len(content))
    assert drain(PartStream(paths, size).reader(start, max(start, stop)), buffer) == content[start:stop]


@pytest.fixture
def opened(make_key: MakeKey, tmp_path: Path) -> OpenBundle:
    near, key = LayoutRegistry(tmp_path / "near"), make_key("near")
    assert isinstance(key, Key)
    bundle = Line(key.signer).write(tmp_path / "disk", publish(near, 1), part_size=700)
    paths = [tmp_path / "disk" / part.name for part in bundle.parts]
    return OpenBundle(bundle, paths, LayoutRegistry(tmp_path / "far"))


def test_an_upload_goes_on_in_the_middle_of_a_blob(opened: OpenBundle, tmp_path: Path) -> None:
    near = LayoutRegistry(tmp_path / "near")
    for repository, blobs in opened.content.items():
        for digest, size in blobs.items():
            assert opened.blob_size(repository, digest) == size
            whole = drain(near.open_blob(repository, digest), 4096)
            reader = opened.open_blob(repository, digest, start=size // 2)
            assert (reader.size, reader.start) == (size, size // 2)
            assert drain(reader, 100) == whole[size // 2 :]
            assert drain(opened.open_blob(repository, digest, start=1, stop=7), 3) == whole[1:7]


def test_it_is_only_read_and_knows_what_it_does_not_hold(opened: OpenBundle, tmp_path: Path) -> None:
    nowhere = Digest.of(b"nothing")
    for wrong in (
        lambda: opened.open_blob("library/app", nowhere),
        lambda: opened.resolve("library/app", "no-such-tag"),
        lambda: opened.resolve("library/app", nowhere),
        lambda: opened.tags("library/none"),
    ):
        with pytest.raises(NotFound):
            wrong()
    digest, size = next(iter(opened.content["library/app"].items()))
    with pytest.raises(RegistryError) as outside:
        opened.open_blob("library/app", digest, start=size + 1)
    assert outside.value.status == 416
    with pytest.raises(Unsupported):
        opened.delete_tag("library/app", "latest")
    for part in (tmp_path / "disk").glob("*.part*"):
        part.unlink()
    with pytest.raises(LocalError, match="cannot be read any more"):
        drain(opened.open_blob("library/app", digest), 100)
