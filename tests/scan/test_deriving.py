"""Advisories derived of Debian's changelogs: what they say, that they are labelled, and that they cover nothing."""

from __future__ import annotations

import gzip
import io
import lzma
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import AdvisoriesMissing, ContentError
from registry_pipelines.progress import Silent
from registry_pipelines.scan.advisories import AdvisoryStore
from registry_pipelines.scan.advisory_sets import current_set
from registry_pipelines.scan.deb_changelog import changelog_of, read_changes
from registry_pipelines.scan.deriving import Held, derive
from registry_pipelines.scan.feed import Feed
from registry_pipelines.scan.importing import import_archives
from registry_pipelines.scan.match import match, match_component
from registry_pipelines.scan.report import Component, Coverage
from registry_pipelines.scan.updating import Updated, update
from tests.doubles.debian_archive import DebianArchive, changelog, documented, make_deb
from tests.doubles.osv_export import OsvExport, debian, small_set
from tests.scan.test_match import platform

NOW = datetime.now(UTC)
TEXT = changelog(
    "openssl",
    ("3.0.15-1~deb12u1", "CVE-2024-9143: a fault. Also refers to CVE-2023-5363."),
    ("3.0.11-1~deb12u2", "Fix cve-2023-5363 (Closes: #1)"),
    ("3.0.11-1~deb12u1", "Nothing of note"),
)


def deb(source: str, version: str, **more: Any) -> Component:
    return Component(
        purl=f"pkg:deb/debian/{source}@{version}",
        name=source,
        version=version,
        type="deb",
        ecosystem="Debian:12",
        **more,
    )


def derived(archive: DebianArchive, state: Path, *held: Held) -> Updated:
    feed = Feed(archive.url)
    try:
        return derive(feed, held, state, now=NOW, progress=Silent())
    finally:
        feed.close()


@pytest.fixture
def archive() -> Iterator[DebianArchive]:
    with DebianArchive() as archive:
        archive.add("libssl3", "3.0.15-1~deb12u1", make_deb({"usr/lib/x": b"0" * 4000}), source="openssl")
        archive.add("openssl", "3.0.15-1~deb12u1", make_deb(documented("openssl", TEXT)))
        archive.add("openssl-old", "3.0.1-1", b"older than what the suite has", source="openssl")
        yield archive


@pytest.fixture
def store(archive: DebianArchive, tmp_path: Path) -> Iterator[AdvisoryStore]:
    made = derived(archive, tmp_path, Held("12", "openssl", "3.0.11-1~deb12u1"))
    store = AdvisoryStore.load(made.set.folder, tmp_path)
    yield store
    store.close()


def test_the_oldest_entry_that_names_a_cve_is_its_fix(store: AdvisoryStore) -> None:
    findings, _ = match_component(deb("openssl", "3.0.11-1~deb12u1"), store)
    assert [(each.ids, each.fixed_versions) for each in findings] == [
        (("CVE-2023-5363", "DERIVED-CVE-2023-5363"), ("3.0.11-1~deb12u2",)),
        (("CVE-2024-9143", "DERIVED-CVE-2024-9143"), ("3.0.15-1~deb12u1",)),
        (("DERIVED-UPDATE-openssl",), ("3.0.15-1~deb12u1",)),
    ]
    assert {each.severity for each in findings} == {"UNKNOWN"}
    assert all(each.summary.startswith("Derived, not published by Debian") for each in findings)
    middle = [each.ids[0] for each in match_component(deb("openssl", "3.0.11-1~deb12u2"), store)[0]]
    assert middle == ["CVE-2024-9143", "DERIVED-UPDATE-openssl"]


def test_what_only_derived_records_speak_of_stays_uncovered_and_is_labelled(store: AdvisoryStore) -> None:
    newest, never = deb("openssl", "3.0.15-1~deb12u1"), deb("bash", "5.2")
    for component in (newest, never):
        findings, [unknown] = match_component(component, store)
        assert findings == [] and unknown.kind == "uncovered"
        assert unknown.reason == "only advisories derived from changelogs speak of Debian:12"
    report = match([platform(newest, never)], store)
    assert report.coverage == (
        Coverage(ecosystem="Debian derived:12", components=2, records=3, newest="2026-02-03T09:00:00Z"),
    )
    assert report.lacking == {}
    other = Component(purl="pkg:deb/debian/x@1", name="x", version="1", type="deb", ecosystem="Debian:13")
    assert match_component(other, store)[1][0].reason == "the advisories hold nothing for Debian:13"


def test_what_debian_says_itself_counts_in_place_of_the_changelog(
    archive: DebianArchive, tmp_path: Path, store: AdvisoryStore
) -> None:
    records = [debian("CVE-2024-9143", "openssl", {"12": "3.0.11-1~deb12u1"}), debian("CVE-2026-1", "bash", {"12": ""})]
    with OsvExport(records) as export:
        feed = Feed(export.url)
        done = update(feed, ["Debian"], tmp_path, now=NOW, progress=Silent())
        feed.close()
    assert [part.ecosystem for part in done.set.description.parts] == ["Debian", "Debian derived"]
    assert done.notes == []
    both = AdvisoryStore.load(done.set.folder, tmp_path)
    findings, unknowns = match_component(deb("openssl", "3.0.11-1~deb12u1"), both)
    assert [each.ids[0] for each in findings] == ["CVE-2023-5363", "DERIVED-UPDATE-openssl"] and unknowns == []
    names = [(each.ecosystem, each.records) for each in match([platform(deb("openssl", "1"))], both).coverage]
    assert names == [("Debian derived:12", 3), ("Debian:12", 2)]
    both.close()


def test_other_parts_stay_and_the_same_changelogs_give_the_same_set(archive: DebianArchive, tmp_path: Path) -> None:
    with OsvExport(small_set()) as export:
        feed = Feed(export.url)
        update(feed, ["PyPI"], tmp_path, now=NOW, progress=Silent())
        feed.close()
    held = Held("12", "openssl", "3.0.11-1~deb12u1")
    first = derived(archive, tmp_path, held)
    assert [part.ecosystem for part in first.set.description.parts] == ["Debian derived", "PyPI"]
    archive.files = {path: raw for path, raw in archive.files.items() if not path.endswith(".deb")}
    again = derived(archive, tmp_path, held)  # of what was kept: files of the archive vanish
    assert not again.changed and again.set.description.digest == first.set.description.digest
    gone = derived(archive, tmp_path, Held("12", "openssl", "3.0.15-1~deb12u1"))
    assert [part.ecosystem for part in gone.set.description.parts] == ["PyPI"]
    assert "nothing newer" in gone.notes[0]


def test_without_a_changelog_it_is_still_known_that_there_is_a_newer_version(
    archive: DebianArchive, tmp_path: Path
) -> None:
    archive.add("tool", "2:2.0-1", make_deb({"usr/bin/tool": b""}))
    archive.add("wrong", "2.0", make_deb(documented("wrong", changelog("wrong", ("2.0", "x")))), sha256="0" * 64)
    archive.add("alien", "2.0", make_deb(documented("alien", changelog("other", ("2.0", "CVE-2026-7777")))))
    held = [Held("12", name, "1.0") for name in ("alien", "tool", "unheard", "wrong")]
    made = derived(archive, tmp_path, *held, Held("9", "tool", "1"))
    store = AdvisoryStore.load(made.set.folder, tmp_path)
    found = {name: match_component(deb(name, "1.0"), store)[0] for name in ("alien", "tool", "unheard", "wrong")}
    assert {name: [each.ids for each in findings] for name, findings in found.items()} == {
        "alien": [("DERIVED-UPDATE-alien",)],
        "tool": [("DERIVED-UPDATE-tool",)],
        "unheard": [],
        "wrong": [("DERIVED-UPDATE-wrong",)],
    }
    told = "\n".join(made.notes)
    assert "wrong 2.0: its package is not the one that the index names" in told
    assert "alien 2.0: no package of it has a changelog" in told and "Debian 9 is none of" in told
    store.close()


def test_a_mirror_without_the_suite_changes_nothing(archive: DebianArchive, tmp_path: Path) -> None:
    with pytest.raises(AdvisoriesMissing, match="trixie-security"):
        derived(archive, tmp_path, Held("13", "openssl", "1"))
    assert current_set(tmp_path) is None
    with pytest.raises(AdvisoriesMissing, match="nothing newer"):
        derived(archive, tmp_path, Held("12", "openssl", "4"))


def test_the_part_is_kept_when_archives_are_imported(archive: DebianArchive, tmp_path: Path) -> None:
    derived(archive, tmp_path, Held("12", "openssl", "1"))
    with OsvExport(small_set()) as export:
        feed = Feed(export.url)
        feed.download("PyPI/all.zip", tmp_path / "all.zip", Silent())
        feed.close()
    done = import_archives({"PyPI": tmp_path / "all.zip"}, tmp_path, now=NOW)
    assert [part.ecosystem for part in done.set.description.parts] == ["Debian derived", "PyPI"]


@pytest.mark.parametrize("suffix", [".xz", ".gz", ""])
def test_packages_of_every_compression_are_read(suffix: str) -> None:
    package = make_deb(documented("openssl", TEXT), suffix=suffix)
    assert changelog_of(io.BytesIO(package), "openssl", where="x.deb") == TEXT
    assert changelog_of(io.BytesIO(package), "other", where="x.deb") == ""
    native = make_deb({"usr/share/doc/apt/changelog.gz": gzip.compress(changelog("apt", ("2.6", "x")).encode())})
    assert changelog_of(io.BytesIO(native), "apt", where="x.deb").startswith("apt (2.6)")


def test_hostile_packages_are_refused_in_bounds() -> None:
    bomb = make_deb({"usr/share/doc/x/changelog.Debian.gz": gzip.compress(b"x (1) y; z\n" + b"\0" * 8_500_000)})
    thirsty = lzma.compress(b"x" * 1000, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 28}])
    start = make_deb({})
    cut = start.index(b"data.tar.xz")
    for package in (
        bomb,
        start[:cut] + f"{'data.tar.xz':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(thirsty):<10}`\n".encode() + thirsty,
        b"!<arch>\n" + b"x" * 60,
        start[:cut],
        b"",
    ):
        with pytest.raises(ContentError):
            changelog_of(io.BytesIO(package), "x", where="x.deb")


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_damage_is_our_error_or_a_text(data: st.DataObject) -> None:
    package = bytearray(make_deb(documented("openssl", TEXT), suffix=data.draw(st.sampled_from([".xz", ".gz", ""]))))
    if data.draw(st.booleans()):
        package = package[: data.draw(st.integers(0, len(package)))]
    else:
        package[data.draw(st.integers(0, len(package) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(ContentError):
        assert isinstance(changelog_of(io.BytesIO(bytes(package)), "openssl", where="x.deb"), str)


@settings(deadline=None, max_examples=100)
@given(st.text("ab1 ().;-<>*\nCVE20", max_size=300))
def test_any_text_is_a_changelog(text: str) -> None:
    for change in read_changes(text):
        assert change.source and change.version and list(change.cves) == sorted(set(change.cves))


def test_dates_and_odd_lines() -> None:
    odd = TEXT.replace(" -- A B <a@b.example>  Tue, 03 Feb 2026 10:00:00 +0100", " -- A B <a@b>  Tue, 99 Foo 2026", 1)
    first, second, _ = read_changes(f"garbage\n{odd}")
    assert (first.time, second.time) == ("", "2026-02-03T09:00:00Z")
