"""A table of eStargz is fetched once, and nothing else is taken for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.errors import IndexInvalid, LocalError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.oci.media_types import TOC_ANNOTATION
from registry_pipelines.stream.lazy.kept import KeptFiles
from registry_pipelines.stream.lazy.kept_tables import kept_toc
from registry_pipelines.stream.ranges import blob_ranges
from tests.evidence.parts import Counted
from tests.stream.lazy.starts import image
from tests.stream.releases import ESTARGZ, Streamer


def test_a_table_is_fetched_once_and_again_where_it_is_torn(
    counted: Counted, streamer: Streamer, tmp_path: Path
) -> None:
    derived = streamer.convert(image(counted.place), ESTARGZ).derived
    assert derived is not None
    manifest = counted.place.registry.get_manifest(counted.place.repository, derived.digest).content()
    assert isinstance(manifest, Manifest)
    layer = manifest.layers[-1]
    told, kept = (
        Digest.parse((layer.annotations or {})[TOC_ANNOTATION]),
        KeptFiles(tmp_path / "kept", max_bytes=1 << 20),
    )
    ranges, asked = blob_ranges(counted.place, layer.digest), list[int]()

    def look(expected: Digest = told) -> list[str]:
        def counting(start: int, stop: int):  # type: ignore[no-untyped-def]
            asked.append(start)
            return ranges(start, stop)

        where = {"kept": kept, "folder": tmp_path, "where": "here"}
        with kept_toc(counting, layer.digest, layer.size, expected, **where) as toc:  # type: ignore[arg-type]
            assert toc.digest == told and 0 < toc.offset < layer.size
            return [row.name for row in toc]

    names = look()
    assert names and len(asked) == 2 and look() == names and len(asked) == 2
    [path] = (tmp_path / "kept").iterdir()
    whole = path.read_bytes()
    middle = len(whole) // 2
    changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for torn in (b"", whole[:-60], whole[1:], changed, bytes(5)):
        path.write_bytes(torn)
        assert look() == names and path.read_bytes() == whole
    with pytest.raises(IndexInvalid):
        look(Digest.of(b"another table"))
    assert list((tmp_path / "kept").iterdir()) == [path], "what nobody may use is not kept"
    path.unlink()
    (tmp_path / "kept").rmdir()
    (tmp_path / "kept").write_text("no folder")
    with pytest.raises(LocalError):
        look()


def test_kept_files_keep_their_limit_and_the_newest_and_look_at_all_others_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    before = Path.iterdir

    def counted(folder: Path) -> Iterator[Path]:
        nonlocal looks
        looks += 1
        return before(folder)

    kept = KeptFiles(tmp_path / "kept", max_bytes=100_000)
    monkeypatch.setattr(Path, "iterdir", counted)
    for number in range(100):
        path = kept.put(f"{number:03}", bytes(5_000))
        there = sorted(each.name for each in os.scandir(tmp_path / "kept"))
        assert path.name in there and sum(each.stat().st_size for each in os.scandir(tmp_path / "kept")) <= 100_000
    assert len(there) > 15 and there[0] == f"{100 - len(there):03}"  # the oldest went
    looks = 0
    for number in range(200):
        KeptFiles(tmp_path / "roomy", max_bytes=100_000).put(f"{number:03}", bytes(100))
    assert looks < 10
