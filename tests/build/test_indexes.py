"""Where wheels come from: folders, indexes in all the forms that pip takes, both."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry_pipelines.build.builder import BuildSpec
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.resolving import StoredWheel, resolve
from registry_pipelines.build.target import RUNNING_PYTHON, WheelTarget
from registry_pipelines.build.wheel_store import WheelStore
from registry_pipelines.errors import RequirementsInvalid
from registry_pipelines.oci.platforms import Platform
from tests.build.index_server import IndexServer
from tests.build.wheels import make_wheel
from tests.doubles.certificates import make_certificates

Resolve = Callable[..., list[StoredWheel]]


@pytest.fixture(autouse=True)
def only_our_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's pip settings."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Resolve]:
    cache = BuildCache(tmp_path / "state/cache.sqlite")
    store = WheelStore(tmp_path / "state/wheels", cache)

    def run(*lines: str, fetched: Callable[[int], object] = lambda _: None, **settings: object) -> list[StoredWheel]:
        spec = BuildSpec(name="x", requirements=lines, **settings)  # type: ignore[arg-type]
        target = WheelTarget(Platform.here(), RUNNING_PYTHON)
        return resolve(spec, target, store=store, cache=cache, fetched=fetched)

    yield run
    cache.close()


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """From now on whoever starts pip fails."""

    def stop() -> None:
        (tmp_path / "shadow").mkdir()
        (tmp_path / "shadow/pip.py").write_text("raise SystemExit('pip was asked')\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "shadow"))

    return stop


def page(*anchors: str) -> tuple[bytes, str]:
    return f"<!DOCTYPE html><html><body>{''.join(anchors)}</body></html>".encode(), "text/html"


def file_of(path: Path) -> tuple[bytes, str]:
    return path.read_bytes(), "application/octet-stream"


def hash_of(path: Path, kind: str = "sha256") -> str:
    return f"{kind}={hashlib.new(kind, path.read_bytes()).hexdigest()}"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path / "served", "leaf", "1.0")


# Folders


def test_local_wheels_are_linked_not_copied(ask: Resolve, wheel: Path) -> None:
    [stored] = ask("leaf", wheels=wheel.parent)
    assert stored.path.samefile(wheel)


def test_an_unchanged_folder_is_not_asked_about_again(
    ask: Resolve, wheel: Path, no_pip: Callable[[], None], tmp_path: Path
) -> None:
    extra = make_wheel(tmp_path / "more", "other").parent
    first = ask("leaf", "other", wheels=wheel.parent, find_links=(str(extra),))
    no_pip()
    assert ask("leaf", "other", wheels=wheel.parent, find_links=(str(extra),)) == first
    make_wheel(extra, "other", "2.0")
    with pytest.raises(RequirementsInvalid, match="pip was asked"):
        ask("leaf", "other", wheels=wheel.parent, find_links=(str(extra),))


def test_complete_pins_with_hashes_are_not_asked_again(ask: Resolve, wheel: Path, no_pip: Callable[[], None]) -> None:
    with IndexServer(
        {
            "/simple/leaf/": page(f'<a href="x/{wheel.name}#{hash_of(wheel)}">l</a>'),
            f"/simple/leaf/x/{wheel.name}": file_of(wheel),
        }
    ) as index:
        lines = (f"--index-url {index.url}", f"leaf==1 --hash={hash_of(wheel).replace('=', ':')} \\", "")
        first = ask(*lines)
        asked = len(index.asked)
        no_pip()
        assert ask(*lines) == first
        assert len(index.asked) == asked


def test_a_constraint_that_changed_is_another_question(
    ask: Resolve, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(wheel.parent, "leaf", "2.0")
    limits = tmp_path / "limits.txt"
    monkeypatch.setenv("PIP_CONSTRAINT", str(limits))
    limits.write_text("leaf<3\n")
    assert ask("leaf", wheels=wheel.parent)[0].locked.version == "2.0"
    limits.write_text("leaf<2\n")
    assert ask("leaf", wheels=wheel.parent)[0].locked.version == "1.0"


def test_a_local_wheel_written_anew_in_place_is_taken_anew(ask: Resolve, wheel: Path, tmp_path: Path) -> None:
    [before] = ask("leaf", wheels=wheel.parent)
    other = make_wheel(tmp_path / "other", "leaf", "1.0", files={"leaf.py": b"NEW = 1\n"})
    with wheel.open("r+b") as file:
        file.truncate()
        file.write(other.read_bytes())
    [after] = ask("leaf", wheels=wheel.parent)
    assert after.locked.sha256 == hash_of(other).partition("=")[2] != before.locked.sha256
    assert WheelStore(after.path.parent.parent).find(before.locked.sha256, wheel.name) is None


def test_a_folder_that_is_not_there_is_named(ask: Resolve, tmp_path: Path) -> None:
    with pytest.raises(RequirementsInvalid, match="cannot be read") as caught:
        ask("leaf", wheels=tmp_path / "gone")
    assert "gone" in str(caught.value)


def test_relative_paths_start_at_the_folder_told(ask: Resolve, wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("leaf\n")
    wheels = ask("-r list.txt", folder=tmp_path, find_links=("served",), wheels=wheel.parent)
    assert [stored.locked.name for stored in wheels] == ["leaf"]
    assert ask("./served/leaf-1.0-py3-none-any.whl", folder=tmp_path, wheels=wheel.parent) == wheels


# Indexes


@pytest.mark.parametrize("form", ["html", "json", "redirected", "find-links", "metadata"])
def test_forms_of_an_index(form: str, ask: Resolve, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "served", "leaf", "1.0+cu124")
    escaped = wheel.name.replace("+", "%2B")
    link = f"../../files/{escaped}"
    metadata = b"Metadata-Version: 2.1\nName: leaf\nVersion: 1.0+cu124\n"
    told = f' data-core-metadata="sha256={hashlib.sha256(metadata).hexdigest()}"' if form == "metadata" else ""
    anchor = page(f'<a href="{link}#{hash_of(wheel)}"{told}>{wheel.name}</a>')
    document = {
        "meta": {"api-version": "1.1"},
        "name": "leaf",
        "files": [{"filename": wheel.name, "url": link, "hashes": {"sha256": hash_of(wheel).partition("=")[2]}}],
    }
    listed = (json.dumps(document).encode(), "application/vnd.pypi.simple.v1+json") if form == "json" else anchor
    pages = {
        "/simple/leaf/": listed,
        "/elsewhere/leaf/": anchor,
        "/page/here/": anchor,
        f"/files/{escaped}": file_of(wheel),
        f"/files/{escaped}.metadata": (metadata, "text/plain"),
    }
    moved = {"/simple/leaf/": "/elsewhere/leaf/"} if form == "redirected" else {}
    with IndexServer(pages, redirects=moved) as index:
        source = f"--no-index -f http://{index.address}/page/here/" if form == "find-links" else f"-i {index.url}"
        [stored] = ask(*source.replace(" -f", "\n-f").split("\n"), "leaf")
    assert (stored.locked.version, stored.notes) == ("1.0+cu124", ())
    assert hash_of(stored.path) == hash_of(wheel)


@pytest.mark.parametrize(("kind", "said"), [("", ""), ("md5", "gives no hash"), ("sha512", ""), ("sha384", "")])
def test_an_index_without_sha256_is_used_and_what_is_not_checked_is_said(
    kind: str, said: str, ask: Resolve, wheel: Path
) -> None:
    fragment = f"#{hash_of(wheel, kind)}" if kind else ""
    pages = {"/simple/leaf/": page(f'<a href="/f/{wheel.name}{fragment}">l</a>'), f"/f/{wheel.name}": file_of(wheel)}
    with IndexServer(pages) as index:
        [stored] = ask(f"-i {index.url}", "leaf")
    assert hash_of(stored.path) == f"sha256={stored.locked.sha256}" == hash_of(wheel)
    assert [said in note for note in stored.notes] == ([True] if said else [])


def test_a_cut_download_goes_on_and_its_bytes_are_told(ask: Resolve, tmp_path: Path) -> None:
    """What came before the cut is not fetched again. Bytes are told while pip works, in the end all of them."""
    wheel = make_wheel(tmp_path / "served", "leaf", "1.0", files={"leaf/data.bin": os.urandom(200_000)})
    path = f"/f/{wheel.name}"
    pages = {"/simple/leaf/": page(f'<a href="{path}#{hash_of(wheel)}">l</a>'), path: file_of(wheel)}
    told: list[int] = []
    with IndexServer(pages, cut=[path]) as index:
        [stored] = ask(f"-i {index.url}", "leaf", fetched=told.append)
        statuses = [status for asked, status in index.asked if asked == path]
    assert hash_of(stored.path) == f"sha256={stored.locked.sha256}" == hash_of(wheel)
    assert 206 in statuses, statuses
    assert sum(told) == wheel.stat().st_size


def test_an_option_on_two_lines_and_a_password(ask: Resolve, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {
        "/simple/leaf/": page(f'<a href="/f/{wheel.name}#{hash_of(wheel)}">l</a>'),
        f"/f/{wheel.name}": file_of(wheel),
    }
    with IndexServer(pages, user="robot:hunter2") as index:
        monkeypatch.setenv("INDEX_PASSWORD", "hunter2")
        lines = ("--index-url \\", f"  http://robot:${{INDEX_PASSWORD}}@{index.address}/simple/ # ours", "leaf")
        [stored] = ask(*lines)
        assert stored.locked.name == "leaf"
        with pytest.raises(RequirementsInvalid) as caught:
            ask(*lines, "absent")
    assert "hunter2" not in str(caught.value)


def test_an_index_that_says_what_did_not_change_is_asked_only_that(
    ask: Resolve, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = make_certificates(tmp_path / "tls")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip"))
    pages = {
        "/simple/leaf/": page(f'<a href="/f/{wheel.name}#{hash_of(wheel)}">l</a>'),
        f"/f/{wheel.name}": file_of(wheel),
    }
    with IndexServer(pages, certificates=certificates) as index:
        first = ask(f"-i {index.url}", "leaf")
        index.asked.clear()
        assert ask(f"-i {index.url}", "leaf") == first
        assert index.asked == [("/simple/leaf/", 304)]
        other = make_wheel(tmp_path / "new", "leaf", "2.0")
        pages["/simple/leaf/"] = page(f'<a href="/f/{other.name}#{hash_of(other)}">l</a>')
        pages[f"/f/{other.name}"] = file_of(other)
        assert ask(f"-i {index.url}", "leaf")[0].locked.version == "2.0"


def test_a_yanked_wheel_is_taken_when_pinned_and_said(ask: Resolve, wheel: Path) -> None:
    pages = {
        "/simple/leaf/": page(f'<a href="/f/{wheel.name}#{hash_of(wheel)}" data-yanked="broken">l</a>'),
        f"/f/{wheel.name}": file_of(wheel),
    }
    with IndexServer(pages) as index:
        [stored] = ask(f"-i {index.url}", "leaf==1.0")
    assert stored.notes == ("leaf 1.0 was yanked from its index",)


def test_a_folder_beside_an_index(ask: Resolve, wheel: Path, tmp_path: Path) -> None:
    folder = make_wheel(tmp_path / "ours", "own", "1.0").parent
    make_wheel(folder, "leaf", "1.0", files={"leaf.py": b"OTHER = 1\n"})
    pages = {
        "/simple/leaf/": page(f'<a href="/f/{wheel.name}#{hash_of(wheel)}">l</a>'),
        f"/f/{wheel.name}": file_of(wheel),
    }
    with IndexServer(pages) as index:
        leaf, own = ask(f"-i {index.url}", "leaf", "own", find_links=(str(folder),))
    assert (own.locked.name, own.notes) == ("own", ())
    assert hash_of(leaf.path) == hash_of(wheel)
    assert "has another content than the one taken" in leaf.notes[0]


@pytest.mark.parametrize("form", ["html", "json"])
@pytest.mark.parametrize("status", ["active", "archived", "quarantined"])
def test_what_an_index_says_of_a_project_is_said(form: str, status: str, ask: Resolve, wheel: Path) -> None:
    link, sha256 = f"/f/{wheel.name}", hash_of(wheel).partition("=")[2]
    document = {
        "meta": {"api-version": "1.4"},
        "project-status": {"status": status, "reason": "moved on"},
        "name": "leaf",
        "files": [{"filename": wheel.name, "url": link, "hashes": {"sha256": sha256}}],
    }
    meta = f'<meta name="pypi:project-status" content="{status}">'
    meta += '<meta name="pypi:project-status-reason" content="moved on">'
    html = f'<!DOCTYPE html><html><head>{meta}</head><body><a href="{link}#sha256={sha256}">l</a></body></html>'
    listed = (
        (json.dumps(document).encode(), "application/vnd.pypi.simple.v1+json")
        if form == "json"
        else (html.encode(), "text/html")
    )
    with IndexServer({"/simple/leaf/": listed, link: file_of(wheel)}) as index:
        if status == "quarantined":
            with pytest.raises(RequirementsInvalid, match="quarantine"):
                ask(f"-i {index.url}", "leaf")
            return
        [stored] = ask(f"-i {index.url}", "leaf")
    assert stored.notes == (() if status == "active" else ("leaf is archived: moved on at its index",))


def test_a_wheel_of_ones_own_is_taken_whatever_the_index_says_of_the_project(
    ask: Resolve, wheel: Path, tmp_path: Path
) -> None:
    own = make_wheel(tmp_path / "own", "leaf", "2.0")
    meta = '<meta name="pypi:project-status" content="quarantined">'
    html = (
        f'<!DOCTYPE html><html><head>{meta}</head><body><a href="/f/{wheel.name}#{hash_of(wheel)}">l</a></body></html>'
    )
    with IndexServer({"/simple/leaf/": (html.encode(), "text/html"), f"/f/{wheel.name}": file_of(wheel)}) as index:
        [stored] = ask(f"-i {index.url}", "leaf", find_links=(str(own.parent),))
    assert (stored.locked.version, stored.notes) == ("2.0", ())
