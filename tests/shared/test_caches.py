"""Caches that workers share: found by the others, believed for their digest alone, and of no harm when away."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry_pipelines.oci.behind import file_pieces
from registry_pipelines.oci.digest import Digest
from registry_pipelines.settings import Duration, Size
from registry_pipelines.shared.cache_rows import Entry, find, put
from registry_pipelines.shared.caches import INLINE_BYTES, SharedCaches
from registry_pipelines.shared.settings import CacheSettings
from registry_pipelines.stores.store import ObjectStore, open_store
from registry_pipelines.waits import BOARD
from tests.doubles.postgres import ESCAPED, PostgresServer
from tests.doubles.s3 import BUCKET, s3_server
from tests.doubles.workers import worker
from tests.patience import patient

LARGE = os.urandom(3 << 20)
"""Does not pack, so that it is in the store."""

Two = tuple[SharedCaches, SharedCaches]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture(params=["file", "s3"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "file":
        return f"file://{tmp_path / 'store'}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3"))
    return f"s3://{BUCKET}/{uuid.uuid4()}"


@pytest.fixture
def folder_url(tmp_path: Path) -> str:
    return f"file://{tmp_path / 'store'}"


def two(postgres_url: str, store_url: str) -> Two:
    return worker(postgres_url, store=store_url).caches, worker(postgres_url, store=store_url).caches


def kept(caches: SharedCaches, name: str, content: bytes, path: Path) -> None:
    path.write_bytes(content)
    caches.keep("test/v1", name, file_pieces(path))
    assert caches.settle()


def opened(store_url: str) -> ObjectStore:
    return open_store(store_url)


def objects(store: ObjectStore) -> list[str]:
    return sorted(each.key for each in store.below("caches"))


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + patient(30)
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_one_keeps_the_other_has(postgres_url: str, store_url: str, tmp_path: Path) -> None:
    mine, theirs = two(postgres_url, store_url)
    small, to = b"small" * 100, tmp_path / "here" / "entry"
    for name, content in (("small", small), ("large", LARGE), ("empty", b"")):
        assert not theirs.fetch("test/v1", name, to)
        kept(mine, name, content, tmp_path / "file")
        assert theirs.fetch("test/v1", name, to)
        assert to.read_bytes() == content
        assert not theirs.fetch("test/v2", name, to)
        assert theirs.value("test/v1", name) == content
    assert len(objects(opened(store_url))) == 1, "small ones are in the database"
    assert dict(theirs.values("test/v1")) == {"small": small, "empty": b""}
    mine.drop("test/v1", "large")
    assert theirs.value("test/v1", "large") is None
    assert [path.name for path in to.parent.iterdir()] == ["entry"], "nothing is left beside it"


def test_without_a_store_what_is_small_is_shared(postgres_url: str, tmp_path: Path) -> None:
    mine, theirs = two(postgres_url, "")
    kept(mine, "facts", LARGE[: 3 * INLINE_BYTES], tmp_path / "file")
    kept(mine, "record", LARGE, tmp_path / "file")
    assert theirs.value("test/v1", "facts") == LARGE[: 3 * INLINE_BYTES]
    assert theirs.value("test/v1", "record") is None


def test_who_may_write_into_the_bucket_alone_plants_nothing(postgres_url: str, store_url: str, tmp_path: Path) -> None:
    """Other bytes under an entry's key, those of another entry, cut off, or bent: nobody reads them, and the entry is
    made anew. A key of one's own is no entry."""
    mine, theirs = two(postgres_url, store_url)
    store, to = opened(store_url), tmp_path / "entry"
    kept(mine, "other", LARGE[::-1], tmp_path / "file")
    [other] = objects(store)
    good = store.read(other, limit=1 << 30)
    for planted in (good, LARGE, b"", None):
        kept(mine, "one", LARGE, tmp_path / "file")
        [key] = [each for each in objects(store) if each != other]
        packed = store.read(key, limit=1 << 30)
        if planted is None:
            store.delete(key)
        else:
            store.write(key, planted)
        assert not theirs.fetch("test/v1", "one", to), planted and planted[:10]
        assert not to.exists()
    for bent in (packed[:-1], packed[:-1] + bytes([packed[-1] ^ 1])):
        kept(mine, "one", LARGE, tmp_path / "file")
        store.write(key, bent)
        assert not theirs.fetch("test/v1", "one", to)
    digest = Digest.of(b"mine")
    store.write(f"caches/v1/{digest.hex[:2]}/{digest.hex}", b"mine")
    assert (theirs.counts().found, theirs.counts().changed) == (0, 5)
    kept(mine, "one", LARGE, tmp_path / "file")
    assert theirs.fetch("test/v1", "one", to)
    assert to.read_bytes() == LARGE


def test_an_entry_that_unpacks_to_more_than_it_says_is_none(postgres_url: str, folder_url: str, tmp_path: Path) -> None:
    mine, theirs = two(postgres_url, folder_url)
    kept(mine, "zeros", bytes(1 << 20), tmp_path / "file")
    entry = find(mine.database(), "test/v1", "zeros")
    assert entry is not None
    assert entry.content is not None
    put(mine.database(), "test/v1", "zeros", Entry(entry.digest, entry.stored, 1 << 10, entry.content))
    assert theirs.value("test/v1", "zeros") is None


def test_a_store_that_is_away_costs_time_and_is_said(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "store"
    mine, theirs = two(postgres_url, f"file://{folder}")
    kept(mine, "large", LARGE, tmp_path / "file")
    moved = folder.rename(tmp_path / "elsewhere")
    folder.write_text("no folder any more")
    assert not theirs.fetch("test/v1", "large", tmp_path / "entry")
    kept(theirs, "second", LARGE[1:], tmp_path / "file")
    kept(theirs, "small", b"small", tmp_path / "file")
    assert [each.reason for each in BOARD.open.values() if each.host == f"file://{folder}"]
    assert theirs.value("test/v1", "small") == b"small", "the database goes on"
    folder.unlink()
    moved.rename(folder)
    assert not theirs.fetch("test/v1", "large", tmp_path / "entry"), "it is left alone for a while"
    monkeypatch.setattr(theirs._away["store"], "_until", 0.0)
    assert theirs.fetch("test/v1", "large", tmp_path / "entry")
    assert not [each for each in BOARD.open.values() if each.host == f"file://{folder}"]


def test_a_database_that_is_away_is_no_harm(
    postgres_programs: Path, folder_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry_pipelines.shared.caches.DATABASE_AWAY_S", 0.5)
    with PostgresServer(postgres_programs) as server:
        url = f"postgresql://rp:{ESCAPED}@/postgres?host={server.folder}"
        mine, theirs = two(url, folder_url)
        kept(mine, "small", b"small", tmp_path / "file")
        assert theirs.value("test/v1", "small") == b"small"
        server.stop()
        assert theirs.value("test/v1", "small") is None
        kept(theirs, "more", b"more", tmp_path / "file")
        with theirs.turn("layer"):
            theirs.drop("test/v1", "small")
        assert dict(theirs.values("test/v1")) == {}
        assert theirs.sweep() is None
        server.start()
        wait_until(lambda: theirs.value("test/v1", "small") == b"small")
        assert theirs.value("test/v1", "more") is None


def test_turns_are_one_after_the_other_and_what_was_kept_is_there(
    postgres_url: str, folder_url: str, tmp_path: Path
) -> None:
    workers = [worker(postgres_url, store=folder_url).caches for _ in range(3)]
    path, made = tmp_path / "file", []
    path.write_bytes(LARGE)

    def work(caches: SharedCaches) -> None:
        for number in range(5):
            with caches.turn(f"layer {number}"):
                if caches.value("test/v1", str(number)) is None:
                    made.append(number)
                    caches.keep("test/v1", str(number), file_pieces(path))

    threads = [threading.Thread(target=work, args=(caches,)) for caches in (*workers, *workers)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(made) == [0, 1, 2, 3, 4]


def test_a_turn_that_failed_is_the_next_ones(postgres_url: str, folder_url: str) -> None:
    mine, theirs = two(postgres_url, folder_url)
    with pytest.raises(ZeroDivisionError), mine.turn("layer"):
        raise ZeroDivisionError
    with theirs.turn("layer"), theirs.turn("another"):
        pass


def test_what_is_old_or_too_much_goes_and_nothing_else(postgres_url: str, store_url: str, tmp_path: Path) -> None:
    settings = CacheSettings(max_size=Size(10 << 20), max_age=Duration(days=30))
    mine = worker(postgres_url, store=store_url, caches=settings).caches
    store = opened(store_url)
    for number in range(4):
        kept(mine, str(number), bytes([number]) + LARGE, tmp_path / "file")
    kept(mine, "same", bytes([3]) + LARGE, tmp_path / "file")
    store.write("caches/v1/notes.txt", b"not ours")
    store.write("else/where", b"not ours")
    done = mine.sweep()
    assert done is not None
    assert (done.entries, done.unnamed) == (2, 0), "the two that were not used for longest"
    assert [mine.value("test/v1", name) is not None for name in ("0", "1", "2", "3", "same")] == [False] * 2 + [
        True
    ] * 3
    assert len(objects(store)) == 3
    done = worker(postgres_url, store=store_url, caches=CacheSettings(max_age=Duration(seconds=0))).caches.sweep()
    assert done is not None
    assert done.entries == 3
    assert objects(store) == ["caches/v1/notes.txt"]
    assert store.size("else/where") is not None


def test_bytes_that_no_entry_names_go_after_a_day(postgres_url: str, folder_url: str, tmp_path: Path) -> None:
    mine, theirs = two(postgres_url, folder_url)
    kept(mine, "dropped", LARGE, tmp_path / "file")
    kept(mine, "named", LARGE[1:], tmp_path / "file")
    mine.drop("test/v1", "dropped")
    assert mine.sweep().unnamed == 0  # type: ignore[union-attr]
    for path in (tmp_path / "store" / "caches").rglob("*"):
        os.utime(path, (1e9, 1e9))
    with mine.turn("anything"):
        lease = worker(postgres_url).leases.attempt("caches sweep")
        assert lease is not None
        assert theirs.sweep() is None, "another does it"
    theirs._leases_of().leave(lease)
    wait_until(lambda: (mine.sweep() or theirs.sweep()) is not None)
    assert len(objects(opened(folder_url))) == 1
    assert theirs.value("test/v1", "named") == LARGE[1:]
