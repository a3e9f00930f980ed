"""What an agent says of itself: who uses what, what was counted, and the last of it when it is gone."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from registry_pipelines.errors import (
    DiskFull,
    Forbidden,
    InputError,
    ManifestInvalid,
    NotFound,
    SignatureInvalid,
    Unavailable,
)
from registry_pipelines.node.counts import MOST_FALLBACKS, Counts, reason_of
from registry_pipelines.node.lazy_images import REF_LABEL
from registry_pipelines.node.status import NodeStatus, Reporter, read_status, users_of
from registry_pipelines.node.store import Info, Kind
from registry_pipelines.oci.manifests import encode_json
from registry_pipelines.stream.lazy.mounting import end_mount, mount_fuse
from registry_pipelines.stream.lazy.notes import MountNote, NoteFile
from tests.patience import until
from tests.stream.lazy.mounts import need_fuse

FIRST = NodeStatus(process=7, started="2026-01-01T00:00:00+00:00", version="1", socket="/run/s", root="/var/n")


def snapshot(number: int, kind: Kind, above: int | None = None, image: str = "") -> Info:
    return Info(number, f"s{number}", "", kind, 0, 0, {}, image=image, above=above)


def test_counters_add_up_over_threads_and_know_their_names() -> None:
    counts = Counts()
    threads = [
        threading.Thread(target=lambda: [counts.count("layers", way="lazy") for _ in range(1000)]) for _ in range(8)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    counts.count("layers", 2, way="normal")
    assert counts.value("layers", way="lazy") == 8000 and counts.value("layers") == 8002
    assert [(each.name, each.value, each.labels) for each in counts.counters()] == [
        ("layers", 8000, {"way": "lazy"}),
        ("layers", 2, {"way": "normal"}),
    ]
    with pytest.raises(KeyError):
        counts.count("layer")


def test_of_each_image_the_last_reason_is_kept_the_newest_first() -> None:
    counts = Counts()
    for number in range(MOST_FALLBACKS + 1):
        counts.fall_back(f"image{number}", "registry", "it did not answer")
    counts.fall_back("image5", "credentials", "they are wrong")
    kept = counts.fallbacks()
    assert (kept[0].image, kept[0].reason, kept[0].count) == ("image5", "credentials", 2)
    assert len(kept) == MOST_FALLBACKS and "image0" not in {each.image for each in kept}
    assert counts.value("fallbacks") == MOST_FALLBACKS + 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Forbidden("x"), "credentials"),
        (NotFound("x"), "not-found"),
        (Unavailable("x"), "registry"),
        (SignatureInvalid("x"), "not-trusted"),
        (DiskFull("x"), "disk"),
        (InputError("x"), "this-machine"),
        (ManifestInvalid("x"), "image"),
        (ValueError("x"), "other"),
    ],
)
def test_every_error_has_a_word(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


def test_containers_use_the_image_that_serves_what_they_stand_on() -> None:
    snapshots = [
        snapshot(1, "committed", image="a"),
        snapshot(2, "committed", 1, image="a"),
        snapshot(3, "committed", 2),  # pulled as usual
        snapshot(4, "active", 3),
        snapshot(5, "active", 2),
        snapshot(6, "view", 2),
        snapshot(7, "committed", image="b"),
        snapshot(8, "active"),
        snapshot(9, "active", 7)._replace(name="k8s.io/12/a/b"),
        snapshot(10, "active", 7)._replace(labels={REF_LABEL: "sha256:1"}),  # a layer that is unpacked
        snapshot(11, "active", 7)._replace(
            name=f"default/13/extract-5-x sha256:{'1' * 64}"
        ),  # by a client without labels
    ]
    found = users_of(snapshots)
    assert {name: (each.layers, each.containers) for name, each in found.items()} == {
        "a": (2, ["s4", "s5"]),
        "b": (1, ["k8s.io/a/b"]),
    }


def test_the_status_follows_the_mounts_and_stays_when_the_agent_is_gone(tmp_path: Path) -> None:
    state, root = tmp_path / "state", tmp_path / "root"
    root.mkdir()
    snapshots: list[Info] = [snapshot(1, "committed", image="app@sha256:1"), snapshot(2, "active", 1)]
    note = MountNote(
        image="app",
        digest="sha256:1",
        folder=str(state / "node/1"),
        process=1,
        since="s",
        lazy=True,
        pack="sha256:2",
        stalls=3,
        pack_bytes=100,
    )
    counts = Counts()

    def now() -> Sequence[Info]:
        return snapshots

    with Reporter(root, FIRST, now, counts=counts, lazy_state=state):
        with NoteFile(state / "mounts") as file, NoteFile(state / "mounts") as other:
            file.write(note)
            note.folder = "/elsewhere"  # of `stream mount`
            other.write(note)
            until(lambda: counts.value("packs") == 1)
            until(lambda: len(read_status(root).status.images[0].mounts) == 1)
            note.folder, note.stalls, note.pack_bytes = str(state / "node/1"), 5, 150
            file.write(note)
            until(lambda: counts.value("stalls") == 5)
        until(lambda: not read_status(root).status.images[0].mounts)
        told = read_status(root)
        assert told.alive and not told.status.ended and told.status.updated
        assert told.status.images[0].containers == ["s2"] and told.status.containers == 1
        assert counts.value("fetched_bytes", way="pack") == 150 and counts.value("mounts") == 1
    told = read_status(root)
    assert not told.alive and told.status.ended and told.status.images[0].image == "app@sha256:1"


def test_what_a_killed_agent_counted_is_shown_and_not_counted_again(tmp_path: Path) -> None:
    """Until its mount is served on: the numbers are those of one agent since its start."""
    need_fuse()
    state, folder, counts = tmp_path / "state", tmp_path / "state/node/1", Counts()
    folder.mkdir(parents=True)
    device = mount_fuse(folder, "left")
    try:
        note = MountNote(
            image="app", digest="sha256:1", folder=str(folder), process=1, since="s", lazy=True, stalls=3, pack="x"
        )
        (state / "mounts").mkdir()
        (state / "mounts" / "left.json").write_bytes(encode_json(note))  # nobody holds its lock
        with Reporter(tmp_path, FIRST, lambda: [], counts=counts, lazy_state=state) as reporter:
            [image] = reporter.now().images
            assert [each.stalls for each in image.mounts] == [3] and not counts.counters()
    finally:
        os.close(device)
        end_mount(folder)


def test_a_folder_that_nobody_served_has_no_status(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no agent"):
        read_status(tmp_path)
