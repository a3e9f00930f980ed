"""Manifests kept as files: found again, never believed when damaged, swept when old, and no database for a run without
work."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import ManifestBytes
from registry_pipelines.transfer.closure.manifests import KEPT_S, ManifestFolder
from tests.doubles.small_disk import small_disk
from tests.patience import patient

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs


def manifest(raw: bytes, media_type: str = "application/json") -> ManifestBytes:
    return ManifestBytes(raw, media_type, Digest.of(raw))


@given(raw=st.binary(max_size=200), media_type=st.sampled_from(["", "application/vnd.oci.image.index.v1+json"]))
def test_what_was_kept_is_found(raw: bytes, media_type: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = ManifestFolder(tmp_path_factory.getbasetemp() / "manifests")
    kept = manifest(raw, media_type)
    folder.keep_manifest(kept)
    assert folder.manifest(kept.digest) == kept


@pytest.mark.parametrize("damage", [b"", b"application/json", b"application/json\n{", b"\xff\n{}", b"{}"])
def test_a_damaged_file_is_not_used(damage: bytes, tmp_path: Path) -> None:
    folder, kept = ManifestFolder(tmp_path), manifest(b"{}")
    folder.keep_manifest(kept)
    [path] = [path for path in tmp_path.rglob("*") if path.is_file()]
    path.write_bytes(damage)
    assert folder.manifest(kept.digest) is None
    folder.keep_manifest(kept)
    assert folder.manifest(kept.digest) == kept


def test_a_damaged_media_type_is_not_used(tmp_path: Path) -> None:
    folder, kept = ManifestFolder(tmp_path), manifest(b"{}")
    folder.keep_manifest(kept)
    [path] = [path for path in tmp_path.rglob("*") if path.is_file()]
    path.write_bytes(path.read_bytes().replace(b"json", b"jsoo"))
    assert folder.manifest(kept.digest) is None


def test_a_full_disk_gets_no_half_files(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 1) as disk:
        folder, large = ManifestFolder(disk), manifest(bytes(2 * 1024 * 1024))
        folder.keep_manifest(large)
        assert folder.manifest(large.digest) is None
        assert not [path for path in disk.rglob("*") if path.is_file()]


def test_what_is_no_folder_is_not_swept(tmp_path: Path) -> None:
    (tmp_path / "sha256").mkdir()
    for number in range(256):
        (tmp_path / "sha256" / f"{number:02x}").write_bytes(b"")
    ManifestFolder(tmp_path).sweep()
    assert len(list((tmp_path / "sha256").iterdir())) == 256


def test_a_folder_that_cannot_be_written_costs_only_requests(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    folder = ManifestFolder(tmp_path / "file")
    folder.keep_manifest(manifest(b"{}"))
    assert folder.manifest(Digest.of(b"{}")) is None


def test_old_files_go_in_time_and_young_ones_stay(tmp_path: Path) -> None:
    folder = ManifestFolder(tmp_path)
    old, young = manifest(b"old"), manifest(b"young")
    for each in (old, young):
        folder.keep_manifest(each)
    [path] = list(tmp_path.rglob(old.digest.hex))
    os.utime(path, (0, time.time() - KEPT_S - 60))
    deadline = time.monotonic() + patient(60)
    while path.exists():
        folder.sweep()
        assert time.monotonic() < deadline
    assert folder.manifest(young.digest) == young


LOADED = """
import sys
from registry_pipelines.cli import main
main([*sys.argv[1:], "--quiet"], standalone_mode=False)
print("psycopg" in sys.modules)
"""


def test_a_journal_in_the_state_folder_needs_no_database_library(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    """Its loading would take a tenth of the processor time of a fleet's copy."""
    graphs.image(source.place("app"), b"layer", tag="v1")

    def run() -> bool:
        arguments = ["sync", source.address, target.address, "--repository", "app", "--json"]
        done = subprocess.run(
            [sys.executable, "-c", LOADED, *arguments],
            capture_output=True, text=True, timeout=patient(60), env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1] == "True"

    assert not run()
    assert not run()
    assert target.registry.resolve("app", "v1") == source.registry.resolve("app", "v1")
