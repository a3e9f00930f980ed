"""Advisory sets: fetched, brought up to date, carried across; whatever goes wrong, the set in use stays whole."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import (
    AdvisoriesMissing,
    ContentError,
    DigestMismatch,
    DiskFull,
    InputError,
    LocalError,
    RegistryPipelinesError,
    StateLocked,
    Unavailable,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import Counter
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.scan import updating
from registry_pipelines.scan.advisories import AdvisoryStore
from registry_pipelines.scan.advisory_sets import DESCRIPTION, Description, changing, current_set
from registry_pipelines.scan.feed import Feed
from registry_pipelines.scan.importing import import_archives, take
from registry_pipelines.scan.set_archives import digest_of, reader, write_set
from registry_pipelines.scan.updating import Updated, update
from tests.doubles.osv_export import OsvExport, Record, debian, files, malicious, pypi, small_set, write
from tests.doubles.small_disk import small_disk

NOW = datetime.now(UTC)
BOTH = ("PyPI", "Debian:13")
AT_ONCE = Retries(sleep=lambda _: None)


@pytest.fixture
def export() -> Iterator[OsvExport]:
    with OsvExport(small_set()) as export:
        yield export


def run(export: OsvExport, state: Path, *ecosystems: str, now: datetime = NOW) -> Updated:
    export.asked.clear()
    return update(Feed(export.url, retries=AT_ONCE), ecosystems, state, now=now, progress=Counter())


def ids(state: Path, name: str, ecosystem: str = "PyPI") -> list[str]:
    """What the set in use says about a package."""
    chosen = current_set(state)
    assert chosen is not None
    store = AdvisoryStore.load(chosen.folder, state)
    try:
        return [record.id for record in store.about(ecosystem, name)]
    finally:
        store.close()


def later(record: Record, hours: int = 1, **changes: object) -> Record:
    """A newer edition of a record."""
    return {**record, "modified": (NOW + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), **changes}


def test_the_first_update_fetches_each_ecosystem_once(export: OsvExport, tmp_path: Path) -> None:
    done = run(export, tmp_path, *BOTH, "npm")
    assert done.changed and done.fetched == {"Debian": "all.zip", "PyPI": "all.zip"}
    assert done.notes == ["the export has nothing for npm"]
    parts = {part.ecosystem: part for part in done.set.description.parts}
    assert (parts["PyPI"].records, parts["PyPI"].malicious, parts["Debian"].records) == (8, 2, 5)
    assert sorted(export.names("all.zip")) == ["Debian/all.zip", "PyPI/all.zip"]
    store = AdvisoryStore.load(done.set.folder, tmp_path)
    assert (store.facts.digest, store.facts.source) == (done.set.description.digest, done.set.folder.name)
    assert store.facts.newest == done.set.description.newest
    store.close()
    assert ids(tmp_path, "numpyy") == ["MAL-2025-1001"] and ids(tmp_path, "tar", "Debian:13")


def test_an_update_without_news_fetches_lists_alone(export: OsvExport, tmp_path: Path) -> None:
    first = run(export, tmp_path, *BOTH)
    done = run(export, tmp_path, now=NOW + timedelta(hours=6))
    assert not done.changed and set(done.fetched.values()) == {"unchanged"}
    assert not export.names(".zip") and done.set.folder == first.set.folder
    assert {part.complete for part in done.set.description.parts} == {f"{NOW + timedelta(hours=6):%Y-%m-%dT%H:%M:%SZ}"}


def test_what_changed_is_fetched_one_by_one(export: OsvExport, tmp_path: Path) -> None:
    run(export, tmp_path, *BOTH)
    gone = later(export.records["MAL-2025-1001"], withdrawn=export.records["MAL-2025-1001"]["modified"])
    export.put(gone, later(malicious("fresh", "2026-1")), later(debian("CVE-2026-1", "tar", {"13": ""}), 2))
    done = run(export, tmp_path, *BOTH)
    assert done.changed and done.fetched == {"Debian": "1 record", "PyPI": "2 records"}
    assert not export.names(".zip") and len(export.names(".json")) == 3
    assert ids(tmp_path, "numpyy") == [] and ids(tmp_path, "fresh") == ["MAL-2026-1"]
    export.put(later(export.records["MAL-2026-1"], 3, summary="again"))
    assert run(export, tmp_path).fetched == {"Debian": "unchanged", "PyPI": "1 record"}
    assert ids(tmp_path, "numpyy") == [] and ids(tmp_path, "fresh") == ["MAL-2026-1"]
    assert len(list((tmp_path / "advisories" / "sets").iterdir())) == 2, "the one in use, and the one before"
    assert len(list((tmp_path / "advisories").glob("*.sqlite"))) == 2


@pytest.mark.parametrize("why", ["left", "many"])
def test_the_archive_is_fetched_again(
    export: OsvExport, tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a record left the export, and where too many changed."""
    run(export, tmp_path, "PyPI")
    if why == "left":
        del export.records["MAL-2025-1001"]
    else:
        monkeypatch.setattr(updating, "MAX_SINGLES", 1)
        export.put(later(malicious("fresh", "2026-1")), later(malicious("other", "2026-2")))
    done = run(export, tmp_path)
    assert done.fetched == {"PyPI": "all.zip"} and not export.names(".json")
    assert (ids(tmp_path, "numpyy") == []) is (why == "left")


def test_what_the_archive_lacks_is_fetched_too(export: OsvExport, tmp_path: Path) -> None:
    """The real export writes list and archive one after the other, and its archives were known to lack records."""
    late = later(malicious("fresh", "2026-1"))
    old = files(export.records.values())["PyPI/all.zip"]
    export.put(late)
    export.served["PyPI/all.zip"] = old
    assert run(export, tmp_path, "PyPI").fetched == {"PyPI": "all.zip, 1 record"}
    assert ids(tmp_path, "fresh") == ["MAL-2026-1"]


def test_a_listed_record_that_is_not_there_is_said_and_asked_for_again(export: OsvExport, tmp_path: Path) -> None:
    run(export, tmp_path, "PyPI")
    export.put(later(malicious("fresh", "2026-1")), later(malicious("other", "2026-2")))
    export.missing.add("PyPI/MAL-2026-1.json")
    done = run(export, tmp_path)
    assert done.notes == ["PyPI: 1 record listed and not to be had: MAL-2026-1"]
    assert done.set.description.parts[0].missing == ("MAL-2026-1",) and ids(tmp_path, "other")
    export.missing.clear()
    assert run(export, tmp_path).notes == [] and ids(tmp_path, "fresh") == ["MAL-2026-1"]


def test_an_export_without_lists_is_asked_by_etag(export: OsvExport, tmp_path: Path) -> None:
    export.missing |= {".*/modified_id.csv", "ecosystems.txt"}
    assert run(export, tmp_path, "PyPI", "npm").fetched == {"PyPI": "all.zip"}
    assert run(export, tmp_path).fetched == {"PyPI": "unchanged"}
    assert [status for _, name, _, status in export.asked if name.endswith(".zip")] == [304]
    export.put(later(malicious("fresh", "2026-1")))
    assert run(export, tmp_path).fetched == {"PyPI": "all.zip"} and ids(tmp_path, "fresh")


def large_set() -> list[Record]:
    """PyPI's archive has some 400 kB, which is several blocks."""
    return [*small_set(), *(malicious(f"evil-{number}", f"2026-{number}") for number in range(1500))]


@pytest.mark.parametrize("at", [1, 70_000, 200_000])
def test_a_cut_download_goes_on_where_it_was(tmp_path: Path, at: int) -> None:
    with OsvExport(large_set()) as export:
        export.cut["PyPI/all.zip"] = at
        counter = Counter()
        update(Feed(export.url, retries=AT_ONCE), ["PyPI"], tmp_path, now=NOW, progress=counter)
        asked = [(wanted, status) for _, name, wanted, status in export.asked if name == "PyPI/all.zip"]
        assert asked == [("", 200), (f"bytes={at}-", 206)]
        lists = len(export.content("PyPI/modified_id.csv") or b"") + len(export.content("PyPI/all.zip") or b"")
        assert counter.bytes_moved == lists, "each byte is counted once"


def test_an_interrupted_update_is_gone_on_with_and_uses_nothing_half(tmp_path: Path) -> None:
    with OsvExport(large_set()) as export:
        run(export, tmp_path, "PyPI")
        before = current_set(tmp_path)
        export.cut["Debian/all.zip"] = 300
        with pytest.raises(Unavailable, match=r"advisories import Debian=Debian-all\.zip PyPI=PyPI-all\.zip"):
            feed = Feed(export.url, retries=Retries(attempts=1))
            update(feed, ["Debian"], tmp_path, now=NOW, progress=Counter())
        assert current_set(tmp_path) == before
        done = run(export, tmp_path, "Debian")
        assert ("GET", "Debian/all.zip", "bytes=300-", 206) in export.asked
        assert done.fetched == {"Debian": "all.zip", "PyPI": "unchanged"}


def test_a_file_that_changed_meanwhile_is_begun_anew(tmp_path: Path) -> None:
    with OsvExport(large_set()) as export:
        export.cut["PyPI/all.zip"] = 70_000
        with pytest.raises(Unavailable):
            feed = Feed(export.url, retries=Retries(attempts=1))
            update(feed, ["PyPI"], tmp_path, now=NOW, progress=Counter())
        export.put(later(malicious("fresh", "2026-9999")))
        run(export, tmp_path, "PyPI")
        statuses = [status for _, name, _, status in export.asked if name == "PyPI/all.zip"]
        assert statuses == [412, 200] and ids(tmp_path, "fresh")


def test_a_server_without_ranges_gives_the_whole_again(tmp_path: Path) -> None:
    with OsvExport(large_set()) as export:
        export.cut["PyPI/all.zip"], export.without_ranges = 70_000, True
        run(export, tmp_path, "PyPI")
        assert len(ids(tmp_path, "evil-7")) == 1


def test_what_is_not_what_the_bucket_says_is_thrown_away(export: OsvExport, tmp_path: Path) -> None:
    export.wrong_hash.add("PyPI/all.zip")
    with pytest.raises(DigestMismatch, match="thrown away"):
        run(export, tmp_path, "PyPI")
    assert current_set(tmp_path) is None
    export.wrong_hash.clear()
    assert run(export, tmp_path, "PyPI").changed


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + bytes(18)])
def test_an_archive_that_is_none_is_never_used(export: OsvExport, tmp_path: Path, content: bytes) -> None:
    run(export, tmp_path, "Debian")
    before = current_set(tmp_path)
    export.served["PyPI/all.zip"] = content
    with pytest.raises((AdvisoriesMissing, ContentError)):
        run(export, tmp_path, "PyPI")
    assert current_set(tmp_path) == before
    export.served.clear()
    assert run(export, tmp_path, "PyPI").changed


def test_nothing_to_fetch_is_wrong_input(export: OsvExport, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no ecosystem is named"):
        run(export, tmp_path)
    with pytest.raises(InputError, match="no ecosystem is named"):
        run(export, tmp_path, "../..", ".", "")
    done = run(export, tmp_path / "odd", "PyPI", "../..", "..:12", "a/b")
    assert len(done.notes) == 3 and all("is no name of an ecosystem" in note for note in done.notes)
    assert not [name for name in export.names() if not name.startswith(("PyPI/", "ecosystems.txt"))]
    with pytest.raises(AdvisoriesMissing, match="nothing for Nowhere"):
        run(export, tmp_path, "Nowhere")


def test_an_unreachable_host_names_the_files_to_fetch_by_hand(tmp_path: Path) -> None:
    feed = Feed("http://127.0.0.1:9/osv", retries=Retries(attempts=1))
    with pytest.raises(Unavailable) as caught:
        update(feed, ["PyPI", "Red Hat"], tmp_path, now=NOW, progress=Counter())
    assert "http://127.0.0.1:9/osv/Red%20Hat/all.zip (save it as Red%20Hat-all.zip)" in caught.value.do
    assert "advisories import PyPI=PyPI-all.zip 'Red Hat=Red%20Hat-all.zip'`" in caught.value.do


def test_one_changes_sets_at_a_time(export: OsvExport, tmp_path: Path) -> None:
    with changing(tmp_path), pytest.raises(StateLocked):
        run(export, tmp_path, "PyPI")


@pytest.mark.parametrize("damage", ["cut", "other", "gone", "described"])
def test_a_damaged_set_is_never_used_and_an_update_mends_it(export: OsvExport, tmp_path: Path, damage: str) -> None:
    folder = run(export, tmp_path, "PyPI").set.folder
    archive = folder / "PyPI.zip"
    raw = archive.read_bytes()
    archive.unlink()
    if damage == "cut":
        archive.write_bytes(raw[:-1])
    elif damage == "other":
        archive.write_bytes(raw[:-1] + b"x")
    elif damage == "described":
        archive.write_bytes(raw)
        (folder / ".set.json").write_bytes(b"{}")
    with pytest.raises(AdvisoriesMissing):
        ids(tmp_path, "numpyy")
    assert run(export, tmp_path, "PyPI", now=NOW + timedelta(seconds=5)).fetched == {"PyPI": "all.zip"}
    assert ids(tmp_path, "numpyy")


def test_how_new_a_set_is_by_its_oldest_part(export: OsvExport, tmp_path: Path) -> None:
    """Fresh records of one ecosystem say nothing about another, and an export that stands still is as old as it is."""
    week = NOW - timedelta(days=7)
    folder = write(tmp_path / "byhand", small_set(week))
    import_archives({"Debian": folder / "Debian" / "all.zip"}, tmp_path, now=NOW)
    run(export, tmp_path, "PyPI")
    chosen = current_set(tmp_path)
    assert chosen is not None
    assert chosen.description.newest == f"{max(each['modified'] for each in export.records.values())[:19]}Z", "of both"
    import_archives({"Debian": folder / "Debian" / "all.zip"}, tmp_path, now=NOW)
    chosen = current_set(tmp_path)
    assert chosen is not None and chosen.description.newest == f"{week:%Y-%m-%dT%H:%M:%SZ}"
    store = AdvisoryStore.load(chosen.folder, tmp_path)
    assert store.facts.newest == chosen.description.newest
    store.close()


def test_archives_fetched_by_hand_become_a_set_and_are_gone_on_with(export: OsvExport, tmp_path: Path) -> None:
    folder = write(tmp_path / "byhand", export.records.values())
    archives = {name: folder / name / "all.zip" for name in ("PyPI", "Debian")}
    done = import_archives(archives, tmp_path, now=NOW)
    assert done.fetched == {"PyPI": "all.zip", "Debian": "all.zip"} and ids(tmp_path, "numpyy")
    export.put(later(malicious("fresh", "2026-1")))
    assert run(export, tmp_path).fetched == {"Debian": "unchanged", "PyPI": "1 record"}
    with pytest.raises(AdvisoriesMissing, match="no record in it is about npm"):
        import_archives({"npm": archives["PyPI"]}, tmp_path, now=NOW)
    with pytest.raises(LocalError):
        import_archives({"npm": tmp_path / "nowhere.zip"}, tmp_path, now=NOW)
    (tmp_path / "cut.zip").write_bytes(archives["PyPI"].read_bytes()[:-30])
    with pytest.raises(AdvisoriesMissing):
        import_archives({"PyPI": tmp_path / "cut.zip"}, tmp_path, now=NOW)
    assert ids(tmp_path, "fresh") == ["MAL-2026-1"]


@pytest.mark.parametrize("kind", ["archive", "set"])
def test_an_import_that_fails_leaves_nothing_and_an_interrupted_update_stays(
    export: OsvExport, tmp_path: Path, kind: str
) -> None:
    """A full disk stays full where what was half copied is left on it."""
    archive = write(tmp_path / "byhand", export.records.values()) / "PyPI" / "all.zip"
    exported = tmp_path / "set.tar"
    write_set(run(export, tmp_path / "there", *BOTH).set, exported)
    with small_disk(tmp_path / "small", 1) as folder:
        state, left = folder / "state", folder / "state" / "advisories" / "partial"
        (folder / "other").write_bytes(bytes(1020 * 1024))
        for _ in range(2):
            with pytest.raises(DiskFull):
                if kind == "archive":
                    import_archives({"PyPI": archive}, state, now=NOW)
                else:
                    take(state, reader(exported, now=NOW), now=NOW)
            assert not left.exists()
            left.mkdir()
            (left / "Debian").mkdir()  # what an update brought before it was interrupted
            with pytest.raises(DiskFull):
                import_archives({"PyPI": archive}, state, now=NOW)
            assert [path.name for path in left.iterdir()] == ["Debian"]
            (left / "Debian").rmdir()
            left.rmdir()


@pytest.mark.parametrize("field", ["records", "malicious", "singles", "size"])
def test_counts_below_zero_are_no_description_of_this_build(exported: tuple[bytes, Path], field: str) -> None:
    raw = msgspec.json.decode(
        (next((exported[1] / "state" / "advisories" / "sets").iterdir()) / DESCRIPTION).read_bytes()
    )
    part = raw["parts"][0]
    (part["files"][0] if field == "size" else part)[field] = -1
    with pytest.raises(AdvisoriesMissing, match="none of this build"):
        Description.decode(msgspec.json.encode(raw), where="set")


def test_what_only_sboms_name_is_explained(export: OsvExport, tmp_path: Path) -> None:
    done = run(export, tmp_path, "PyPI", "Bitnami")
    assert done.notes == ["the export has nothing for Bitnami, which has the records of CPython itself"]


def test_a_set_crosses_in_one_file(export: OsvExport, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    run(export, here, *BOTH)
    export.put(later(malicious("fresh", "2026-1")))
    chosen = run(export, here).set
    digest = write_set(chosen, tmp_path / "set.tar")
    assert digest == digest_of(tmp_path / "set.tar") == write_set(chosen, tmp_path / "again.tar")
    done = take(there, reader(tmp_path / "set.tar", now=NOW, digest=digest), now=NOW)
    assert done.set.description == chosen.description and ids(there, "fresh") == ["MAL-2026-1"]
    with pytest.raises(DigestMismatch, match="not sha256:"):
        take(there, reader(tmp_path / "set.tar", now=NOW, digest=Digest.of(b"another")), now=NOW)
    ahead = take(there, reader(tmp_path / "set.tar", now=NOW - timedelta(days=400)), now=NOW)
    assert ahead.set.description.newest <= f"{NOW - timedelta(days=400):%Y-%m-%dT%H:%M:%SZ}"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Path]:
    folder = tmp_path_factory.mktemp("exported")
    with OsvExport([*pypi("numpy", "2021-1", fixed="2"), malicious("numpyy", "2025-1")]) as export:
        write_set(run(export, folder / "state", "PyPI").set, folder / "set.tar")
    return (folder / "set.tar").read_bytes(), folder


@given(st.data())
@settings(max_examples=60)
def test_a_file_that_is_not_whole_or_was_changed_is_refused_with_our_error(
    exported: tuple[bytes, Path], data: st.DataObject
) -> None:
    """Except for what no digest covers and nothing is read from: padding, and a tar member's owner and time."""
    raw, folder = exported
    at = data.draw(st.integers(0, len(raw) - 1))
    cut = data.draw(st.booleans())
    changed = raw[:at] if cut else raw[:at] + bytes([raw[at] ^ (1 << data.draw(st.integers(0, 7)))]) + raw[at + 1 :]
    path, state = folder / "changed.tar", folder / "fresh"
    path.write_bytes(changed)
    try:
        done = take(state, reader(path, now=NOW), now=NOW)
    except RegistryPipelinesError:
        return
    assert done.set.is_whole()
    with zipfile.ZipFile(done.set.folder / "PyPI.zip") as archive:
        assert archive.testzip() is None and (done.set.folder / "PyPI.zip").read_bytes() in raw


def test_each_file_of_a_set_is_checked(exported: tuple[bytes, Path]) -> None:
    """The list of the records too, by which the next update knows what is new."""
    raw, folder = exported
    at = raw.rindex(b"MAL-2025-1")
    (folder / "list.tar").write_bytes(raw[:at] + b"MAL-2025-2" + raw[at + 10 :])
    with pytest.raises(DigestMismatch, match=r"PyPI\.csv has the sha256"):
        take(folder / "fresh", reader(folder / "list.tar", now=NOW), now=NOW)


def test_a_link_in_place_of_a_file_is_no_part_of_a_set(exported: tuple[bytes, Path]) -> None:
    _, folder = exported
    with tarfile.open(folder / "set.tar") as whole, tarfile.open(folder / "links.tar", "w") as changed:
        for member in whole:
            content = whole.extractfile(member)
            if member.name.endswith(".zip"):
                member.type, member.linkname, member.size, content = tarfile.SYMTYPE, "/etc/passwd", 0, None
            changed.addfile(member, content)
    with pytest.raises(AdvisoriesMissing, match="is not where it should be"):
        take(folder / "fresh", reader(folder / "links.tar", now=NOW), now=NOW)


def test_an_ecosystem_is_no_path(exported: tuple[bytes, Path]) -> None:
    """What is fetched for an ecosystem is kept in a folder of its name."""
    raw, folder = exported
    name = b'"ecosystem":"PyPI"'
    assert name in raw
    (folder / "path.tar").write_bytes(raw.replace(name, b'"ecosystem":"../x"'))
    with pytest.raises(AdvisoriesMissing, match="none of this build"):
        take(folder / "fresh", reader(folder / "path.tar", now=NOW), now=NOW)


def test_two_exports_to_one_file_both_end_well(exported: tuple[bytes, Path]) -> None:
    raw, folder = exported
    chosen = current_set(folder / "state")
    assert chosen is not None
    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(lambda _: write_set(chosen, folder / "both.tar"), range(40)))
    assert set(digests) == {Digest.of(raw)} and (folder / "both.tar").read_bytes() == raw
    assert not list(folder.glob(".both*"))
