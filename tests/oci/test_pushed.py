"""A tar that is walked while it is made."""

from __future__ import annotations

import io
import tarfile
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import LayerInvalid
from registry_pipelines.oci.layer.pushed import PIECE_BYTES, PushedTar
from registry_pipelines.oci.layer.walk import open_tar

SIZES = st.sampled_from([0, 1, 511, 512, 70_000, PIECE_BYTES - 1, PIECE_BYTES, 3 * PIECE_BYTES + 5])


def walked(tar: PushedTar, wanted: list[int]) -> tuple[int, list[tuple[str, int, bytes]]]:
    """How long the tar is, and every entry with the first bytes of its content, as many as are wanted; of the rest
    nothing is asked."""
    try:
        walk = open_tar(tar)
        found = [(entry.name, entry.size, entry.head(wanted[number])) for number, entry in enumerate(walk)]
        return walk.finish().size, found
    finally:
        tar.abandon()


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(SIZES, SIZES), max_size=6), st.integers(1, 3 * PIECE_BYTES))
def test_the_walk_gets_what_it_asks_for_and_passes_over_the_rest(files: list[tuple[int, int]], step: int) -> None:
    target = io.BytesIO()
    contents = [bytes([number]) * size for number, (size, _) in enumerate(files, 1)]
    with tarfile.open(fileobj=target, mode="w") as archive:
        for number, content in enumerate(contents):
            info = tarfile.TarInfo(f"file{number}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    raw, tar = memoryview(target.getvalue()), PushedTar()
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(walked, tar, [want for _, want in files])
        step = max(step, len(raw) // 2000)
        try:
            for start in range(0, len(raw), step):
                tar.write(raw[start : start + step])
        finally:
            tar.close()
        expected = [(f"file{number}", size, contents[number][:want]) for number, (size, want) in enumerate(files)]
        assert found.result() == (len(raw), expected)


def test_a_maker_that_gives_up_is_a_cut_for_a_walk_that_reads() -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        info = tarfile.TarInfo("large")
        info.size = 4 * PIECE_BYTES
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    tar = PushedTar()
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(walked, tar, [4 * PIECE_BYTES])
        tar.write(target.getvalue()[: 3 * PIECE_BYTES])
        tar.close()
        assert isinstance(found.exception(), LayerInvalid)


def test_what_is_passed_over_may_be_handed_over_begun_and_still_to_come() -> None:
    tar = PushedTar()
    tar.write(bytes(PIECE_BYTES))  # handed over
    tar.write(b"begun")
    tar.skip(PIECE_BYTES + len(b"begun, to") - 1)
    tar.write(b", to come")
    tar.close()
    buffer = memoryview(bytearray(100))
    assert bytes(buffer[: tar.readinto(buffer)]) == b"o come"
    assert tar.readinto(buffer) == 0
