"""Content of an object store that nothing needs: what is freed, and what somebody counts on is not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from registry_pipelines.errors import ContentError, InputError, NotFound, RegistryError, RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.stored import StoredRegistry
from registry_pipelines.registry.stored_garbage import MARK
from registry_pipelines.stores.store import ObjectStore, open_store
from tests.doubles.s3 import BUCKET, REGION, s3_server
from tests.registry.contract import image, note, read, upload

DAY_S = 24 * 3600.0


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> ObjectStore:
    return open_store(str(folder))


def age(folder: Path, *names: str) -> None:
    """As if two days had passed since all of it (or these) was written."""
    for path in folder.rglob("*"):
        if path.is_file() and (not names or path.name in names):
            facts = path.stat()
            os.utime(path, (facts.st_atime - 2 * DAY_S, facts.st_mtime - 2 * DAY_S))


def free(store: ObjectStore, unused_s: float = DAY_S) -> tuple[int, int]:
    done = StoredRegistry(store).free_content(unused_s=unused_s)
    return done.blobs, done.waiting


def test_what_was_marked_goes_a_day_later(store: ObjectStore, folder: Path) -> None:
    registry = StoredRegistry(store)
    gone = image(registry, "team/app", "old", tag="v1")
    about = note(registry, "team/app", gone.descriptor, "old too")
    stays = image(registry, "team/app", "new", tag="v2")
    registry.delete_manifest("team/app", about.digest)
    registry.delete_manifest("team/app", gone.digest)
    age(folder)
    would = registry.free_content(unused_s=DAY_S, dry_run=True)
    assert (would.blobs, would.waiting) == (0, 5) and not (folder / MARK).exists()
    assert free(store) == (0, 5) and free(store) == (0, 5)  # two manifests, two layers, an empty config
    age(folder)
    assert free(store) == (5, 0) and not (folder / MARK).exists()
    assert registry.blob_size("team/app", gone.digest) is None
    for each in stays.content().layers:  # type: ignore[union-attr]
        assert read(registry, "team/app", each.digest) == b"new"


def test_who_stores_what_is_marked_sends_it_again_and_it_stays(store: ObjectStore, folder: Path) -> None:
    gone = image(StoredRegistry(store), "team/app", "same", tag="v1")
    StoredRegistry(store).delete_manifest("team/app", gone.digest)
    age(folder)
    assert free(store) == (0, 3)
    later = StoredRegistry(store)
    layer = gone.content().layers[0]  # type: ignore[union-attr]
    assert later.blob_size("team/app", layer.digest) is None, "who counts on it would lose it"
    assert not later.mount_blob("other", layer.digest, source="team/app")
    assert read(later, "team/app", layer.digest) == b"same", "what is there can be read"
    upload(later, "other", b"same", media_type=layer.media_type)
    assert later.blob_size("other", layer.digest) == 4
    age(folder, MARK)
    for path in (folder / "blobs").rglob("*"):  # all but what was sent again is older than the mark
        if path.is_file() and path.name != layer.digest.hex:
            os.utime(path, (0, 0))
    os.utime(folder / "blobs" / "sha256" / layer.digest.hex)
    assert free(store) == (2, 1)
    assert read(later, "other", layer.digest) == b"same"


def test_an_image_that_came_meanwhile_keeps_all_of_it(store: ObjectStore, folder: Path) -> None:
    gone = image(StoredRegistry(store), "team/app", "text", tag="v1")
    StoredRegistry(store).delete_manifest("team/app", gone.digest)
    age(folder)
    assert free(store) == (0, 3)
    back = image(StoredRegistry(store), "other", "text", tag="v1")
    age(folder)
    assert back.digest == gone.digest and free(store) == (0, 0)
    assert read(StoredRegistry(store), "other", back.content().layers[0].digest) == b"text"  # type: ignore[union-attr]


def test_a_manifest_that_cannot_be_read_stops_all_of_it(store: ObjectStore, folder: Path) -> None:
    registry = StoredRegistry(store)
    broken, lost = image(registry, "team/app", "one", tag="v1"), image(registry, "team/app", "two", tag="v2")
    registry.delete_manifest("team/app", lost.digest)
    (folder / "blobs" / "sha256" / broken.digest.hex).write_bytes(b"{}")
    with pytest.raises(ContentError):
        free(store, 0)
    assert registry.blob_size("team/app", lost.digest) is not None


def test_a_mark_that_is_damaged_is_no_empty_one(store: ObjectStore, folder: Path) -> None:
    registry = StoredRegistry(store)
    image(registry, "team/app", "one", tag="v1")
    (folder / MARK).write_bytes(b"{")
    for act in (lambda: free(store), lambda: StoredRegistry(store).blob_size("team/app", Digest.of(b"one"))):
        with pytest.raises(RegistryPipelinesError, match="list of unneeded content"):
            act()


def test_it_does_the_same_on_s3(s3: str) -> None:
    store = open_store(f"s3://{BUCKET}/garbage", region=REGION, endpoint=s3)
    registry = StoredRegistry(store)
    gone, stays = image(registry, "team/app", "old", tag="v1"), image(registry, "team/app", "new", tag="v2")
    registry.delete_manifest("team/app", gone.digest)
    assert free(store) == (0, 2)
    assert free(store, 0) == (2, 0)
    assert registry.blob_size("team/app", stays.digest) is not None
    upload_again: Callable[[], object] = lambda: image(StoredRegistry(store), "team/app", "old", tag="v1")  # noqa: E731
    upload_again()
    assert free(store, 0) == (0, 0)


def test_a_manifest_is_refused_whose_blob_went_after_it_had_been_sent_again(store: ObjectStore, folder: Path) -> None:
    """Another process looked at the marked blob, it was sent again, and then that process deleted it."""
    gone = image(StoredRegistry(store), "team/app", "same", tag="v1")
    StoredRegistry(store).delete_manifest("team/app", gone.digest)
    age(folder)
    free(store)
    later = StoredRegistry(store)
    layer = gone.content().layers[0]  # type: ignore[union-attr]
    upload(later, "team/app", b"same", media_type=layer.media_type)
    upload(later, "team/app", b'{"architecture":"amd64","os":"linux"}')
    (folder / "blobs" / "sha256" / layer.digest.hex).unlink()
    with pytest.raises(RegistryError, match="is being freed"):
        later.put_manifest("team/app", gone, tag="v1")
    assert not (folder / "repositories" / "team" / "app" / "_tags" / "v1").exists()
    upload(later, "team/app", b"same", media_type=layer.media_type)
    os.utime(folder / "blobs" / "sha256" / layer.digest.hex, (0, 0))
    with pytest.raises(RegistryError, match="is being freed"):  # the clock was set back: the next run would delete it
        later.put_manifest("team/app", gone, tag="v1")
    upload(later, "team/app", b"same", media_type=layer.media_type)
    later.put_manifest("team/app", gone, tag="v1")


def test_a_mark_of_the_future_is_none(store: ObjectStore, folder: Path) -> None:
    """Else nothing would ever go, and all that it names would be sent again and again."""
    gone = image(StoredRegistry(store), "team/app", "old", tag="v1")
    StoredRegistry(store).delete_manifest("team/app", gone.digest)
    age(folder)
    assert free(store) == (0, 3)
    os.utime(folder / MARK, (4e9, 4e9))
    assert free(store) == (0, 3) and (folder / MARK).stat().st_mtime < 4e9
    age(folder, MARK)
    assert free(store) == (3, 0)


def test_so_short_a_time_that_an_upload_may_not_know_the_mark_is_refused(store: ObjectStore) -> None:
    image(StoredRegistry(store), "team/app", "old", tag="v1")
    with pytest.raises(InputError, match="unused for at least 1 h, not 60 s"):
        free(store, 60)


def test_what_refers_is_not_listed_any_more_once_it_begins_to_go(
    store: ObjectStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at each step: nothing that is listed is missing, for a copy of its subject would fail on it for ever."""
    registry = StoredRegistry(store)
    subject = image(registry, "team/app", "text", tag="v1")
    about = note(registry, "team/app", subject.descriptor, "note")
    whole, left = ObjectStore.delete, [0]

    def delete(self: ObjectStore, key: str) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        whole(self, key)

    monkeypatch.setattr(ObjectStore, "delete", delete)
    for steps in range(3):
        left[0] = steps
        with suppress(KeyboardInterrupt, NotFound):
            registry.delete_manifest("team/app", about.digest)
        for each in registry.referrers("team/app", subject.digest):
            registry.get_manifest("team/app", each.digest)
    assert not registry.referrers("team/app", subject.digest)
    with pytest.raises(NotFound):
        registry.get_manifest("team/app", about.digest)


def test_what_a_killed_upload_left_in_a_folder_goes(store: ObjectStore, folder: Path) -> None:
    image(StoredRegistry(store), "team/app", "text", tag="v1")
    key, before = f"blobs/sha256/{'a' * 64}", len(list(folder.rglob("*")))
    writing = (
        "import os, sys; from registry_pipelines.stores.store import open_store\n"
        "def pieces():\n"
        "    yield from [bytes(1 << 20)] * 40\n"
        "    os.kill(os.getpid(), 9)\n"
        f"open_store(sys.argv[1]).write_pieces({key!r}, pieces(), 41 << 20)\n"
    )
    assert subprocess.run([sys.executable, "-c", writing, str(folder)], check=False).returncode == -9
    assert len(list(folder.rglob("*"))) == before + 1 and not [each for each in store.below("") if each.key == key]
    registry = StoredRegistry(store)
    assert registry.free_content(unused_s=DAY_S).uploads == 0, "it may go on"
    age(folder)
    assert registry.free_content(unused_s=DAY_S, dry_run=True).uploads == 1
    done = registry.free_content(unused_s=DAY_S)
    assert (done.blobs, done.uploads) == (0, 1) and done.bytes >= 1 << 20
    assert len(list(folder.rglob("*"))) == before
