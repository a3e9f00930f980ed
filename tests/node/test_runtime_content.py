"""What containerd has fetched already is found by the process that asks, and held against its digest."""

from __future__ import annotations

import os
from pathlib import Path

from registry_pipelines.node.runtime_content import RuntimeContent
from registry_pipelines.oci.digest import Digest


def root_of(folder: Path) -> tuple[Path, Path]:
    """Of a runtime: its database and its blobs."""
    database = folder / "io.containerd.metadata.v1.bolt" / "meta.db"
    blobs = folder / "io.containerd.content.v1.content" / "blobs" / "sha256"
    database.parent.mkdir(parents=True)
    blobs.mkdir(parents=True)
    return database, blobs


def test_a_runtimes_content_is_read_where_its_process_has_it(tmp_path: Path) -> None:
    database, blobs = root_of(tmp_path / "root")
    content, digest = RuntimeContent(), Digest.of(b"{}")
    (blobs / digest.hex).write_bytes(b"{}")
    content.joined(os.getpid())  # which has no such database open
    assert content.read(digest) is None
    with database.open("wb"):
        content.joined(os.getpid())
    assert content.read(digest) == b"{}"
    (blobs / digest.hex).write_bytes(b"{")
    assert content.read(digest) is None, "what is not whole would be taken for it"
    for odd in (Digest.of(b"pipe"), Digest.of(b"link"), Digest.of(b"none")):
        assert content.read(odd) is None
    os.mkfifo(blobs / Digest.of(b"pipe").hex)
    (blobs / Digest.of(b"link").hex).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_bytes(b"link")
    assert content.read(Digest.of(b"pipe")) is None and content.read(Digest.of(b"link")) is None
    content.joined(0)  # of another namespace of processes
    content.joined(2**22 + 1)
