"""What indexes answer, and on which days: log-ins, faults, an index that is down, hashes, statuses."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from pathlib import Path

import pytest

from registry_pipelines.build.find_links_page import read_metadata
from registry_pipelines.errors import (
    InputError,
    RegistryPipelinesError,
    RequirementsInvalid,
    Unauthorized,
    Unavailable,
    WheelInvalid,
)
from registry_pipelines.settings import Duration
from tests.build.packages.sources import Asking, folder, simple, versions
from tests.build.wheels import make_wheel
from tests.doubles.package_index import PackageIndex
from tests.needs import needed_module

SECRET = "hunter2"


@pytest.fixture
def leaf(tmp_path: Path, ours: PackageIndex) -> Path:
    """A wheel of the private index."""
    wheel = make_wheel(tmp_path / "w", "leaf", "1.0", files={"leaf/data": os.urandom(200_000)})
    ours.add(wheel)
    return wheel


@pytest.mark.parametrize("form", ["json", "html", "metadata"])
def test_a_wheel_and_where_it_came_from(form: str, ask: Asking, ours: PackageIndex, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", "leaf", "1.0+cu124")
    ours.json = form != "html"
    ours.add(wheel, metadata=read_metadata(wheel) if form == "metadata" else None)
    path, about, notes = ask.one("leaf", simple(ours))
    assert path.read_bytes() == wheel.read_bytes() and not notes
    location = f"{ours.origin}/files/leaf/leaf-1.0%2Bcu124-py3-none-any.whl"
    assert about == {"index": "ours", "downloadLocation": location}
    assert len([name for name in ours.files_asked() if name.endswith(".whl")]) == 1


def test_credentials_are_in_no_file_no_process_and_no_error(ask: Asking, ours: PackageIndex, leaf: Path) -> None:
    """While pip runs, the command lines and environments of all processes below this one are looked at."""
    seen: list[bytes] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            for entry in Path("/proc").glob("[0-9]*"):
                try:
                    command = (entry / "cmdline").read_bytes()
                    if b"--dry-run" in command:
                        seen.append(command + (entry / "environ").read_bytes())
                except OSError:
                    continue

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        wheels = ask("acme-core", simple(ours))
        with pytest.raises(RequirementsInvalid) as caught:
            ask("acme-core==7", simple(ours))
    finally:
        over.set()
        watching.join()
    assert versions(wheels) == {"acme-core": "1.0", "leaf": "1.0"}
    assert wheels[1].locked.origin == (
        ("downloadLocation", f"{ours.origin}/files/leaf/{leaf.name}"),
        ("index", "ours"),
    )
    mine = [one for one in seen if os.fsencode(str(ask.state)) in one]
    assert mine and not any(SECRET.encode() in one or ours.address.encode() in one for one in mine)
    assert SECRET not in str(caught.value) and "127.0.0.1" not in str(caught.value)
    kept = [path for path in ask.state.rglob("*") if path.is_file() and path.suffix != ".whl"]
    assert kept and not any(SECRET.encode() in path.read_bytes() for path in kept)


@pytest.mark.usefixtures("leaf")
def test_a_log_in_of_netrc(ask: Asking, ours: PackageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = tmp_path / "netrc"
    words.write_text(f"machine 127.0.0.1 login robot password {SECRET}\n")
    monkeypatch.setenv("NETRC", str(words))
    assert ask.one("leaf", simple(ours, username=""))
    words.write_text(f"machine 127.0.0.1 login robot passwort {SECRET}\n")
    with pytest.raises(InputError) as caught:
        ask.one("leaf", simple(ours, username=""))
    assert "line 1" in str(caught.value) and SECRET not in str(caught.value)
    monkeypatch.setenv("NETRC", os.devnull)
    with pytest.raises(Unauthorized, match="No log-in"):
        ask.one("leaf", simple(ours, username=""))


@pytest.mark.usefixtures("leaf")
def test_a_log_in_of_the_keyring(ask: Asking, ours: PackageIndex) -> None:
    """The keyring's own protocol, with a backend of the test."""
    keyring = needed_module("keyring", "packages")
    from keyring.backend import KeyringBackend
    from keyring.credentials import SimpleCredential

    class OfTests(KeyringBackend):  # type: ignore[misc]
        priority = 1

        def get_credential(self, service: str, username: str | None) -> SimpleCredential | None:
            return SimpleCredential("robot", SECRET) if service == ours.url else None

        def get_password(self, service: str, username: str) -> None:
            """Nothing."""

        set_password = delete_password = get_password

    before = keyring.get_keyring()
    keyring.set_keyring(OfTests())
    try:
        assert ask.one("leaf", simple(ours, username="", keyring=True))
    finally:
        keyring.set_keyring(before)


def test_another_host_that_has_the_files_gets_no_log_in(ask: Asking, ours: PackageIndex, leaf: Path) -> None:
    with PackageIndex() as store:
        store.add(leaf)
        ours.moved_files = store.origin
        assert ask.one("leaf", simple(ours))
        assert [one.authorization for one in store.asked] == [""]


def test_a_cut_download_goes_on(ask: Asking, ours: PackageIndex, leaf: Path) -> None:
    ours.cut.add(leaf.name)
    assert ask.one("leaf", simple(ours))[0].read_bytes() == leaf.read_bytes()
    assert [one.status for one in ours.asked if one.path.endswith(".whl")] == [200, 206]


@pytest.mark.parametrize("kind", ["other", "longer"])
def test_a_file_that_was_changed_under_its_name_is_refused(
    kind: str, ask: Asking, ours: PackageIndex, leaf: Path, tmp_path: Path
) -> None:
    offered = ours.projects["leaf"][leaf.name]
    offered.served = make_wheel(tmp_path / "o", "leaf", "1.0", files={"leaf.py": b"evil"}).read_bytes()
    if kind == "longer":
        offered.served = offered.content + bytes(100_000)
    with pytest.raises(WheelInvalid, match=r"sha256 is|more bytes"):
        ask.one("leaf", simple(ours))
    assert not list((ask.state / "wheels").rglob("*.whl"))


def test_metadata_that_is_not_the_one_told_is_refused(ask: Asking, ours: PackageIndex, leaf: Path) -> None:
    ours.projects["leaf"][leaf.name].metadata = read_metadata(leaf)
    ours.status_for[f"/files/leaf/{leaf.name}.metadata"] = 200
    with pytest.raises(WheelInvalid, match="metadata is not what"):
        ask.one("leaf", simple(ours))


def test_what_a_public_index_said_last_stands_in_for_it(ask: Asking, ours: PackageIndex, public: PackageIndex) -> None:
    """With the wheel and its metadata from the store. What is not known is not guessed, and an answer that is too old
    does not stand in. It is asked once whether it is back, and not for each project."""
    indexes = [simple(ours), simple(public, "public", public=True)]
    path, about, _ = ask.one("leaf", *indexes)
    assert about["index"] == "public" and not ask.said
    public.down = True
    assert ask.one("leaf", *indexes)[:2] == (path, about)
    assert any("does not answer" in said and "leaf" in said for said in ask.said)
    with pytest.raises(Unavailable):
        ask.one("never-seen", *indexes)
    strict = [indexes[0], simple(public, "public", public=True, stale=Duration(seconds=0))]
    with pytest.raises(Unavailable):
        ask.one("leaf", *strict)
    public.asked.clear()
    sources = ask.sources(*indexes)
    for name in ("leaf", "other", "third"):
        with contextlib.suppress(Unavailable):
            sources.project(name)
    sources.close()
    assert {one.path for one in public.asked} == {"/simple/leaf/"}


@pytest.mark.usefixtures("leaf")
def test_an_unchanged_page_is_not_sent_again(ask: Asking, ours: PackageIndex) -> None:
    ask.one("leaf", simple(ours))
    ours.asked.clear()
    ask.one("leaf", simple(ours))
    assert [(one.path, one.status) for one in ours.asked] == [("/simple/leaf/", 304)]


@pytest.mark.usefixtures("leaf")
def test_complete_pins_need_no_answer(ask: Asking, ours: PackageIndex) -> None:
    first = ask("leaf==1.0", simple(ours))
    ours.down = True
    assert ask("leaf==1.0", simple(ours)) == first


@pytest.mark.usefixtures("leaf")
@pytest.mark.parametrize("form", ["json", "html"])
@pytest.mark.parametrize("status", ["archived", "deprecated", "quarantined"])
def test_statuses_of_a_project(status: str, form: str, ask: Asking, ours: PackageIndex) -> None:
    ours.json = form == "json"
    ours.status["leaf"] = (status, "moved on")
    if status == "quarantined":
        with pytest.raises(RequirementsInvalid, match="quarantine"):
            ask.one("leaf", simple(ours))
        return
    _, about, notes = ask.one("leaf", simple(ours))
    assert about["status"] == f"{status}: moved on"
    assert notes == [f"leaf is {status}: moved on at its index"]
    with pytest.raises(RequirementsInvalid, match=f"`{status}` out of `refuse`"):
        ask.one("leaf", simple(ours, refuse=("archived", "deprecated")))


def test_a_yanked_and_an_unhashed_file(ask: Asking, ours: PackageIndex, leaf: Path, tmp_path: Path) -> None:
    ours.projects["leaf"][leaf.name].yanked = "broken"
    ours.projects["leaf"][leaf.name].hashes = {}
    [stored] = ask("leaf==1.0", simple(ours))
    assert dict(stored.locked.origin)["yanked"] == "broken"
    assert ["yanked" in note or "no hash" in note for note in stored.notes] == [True, True]
    for rule, said in (("yanked", "yanked"), ("unhashed", "no hash")):
        with pytest.raises(RequirementsInvalid, match=said):
            ask.one("leaf", simple(ours, refuse=(rule,)))
    wheel = make_wheel(tmp_path / "w", "strong", "1.0")
    ours.add(wheel, hashes={"sha512": hashlib.sha512(wheel.read_bytes()).hexdigest()})
    assert ask.one("strong", simple(ours))[2] == []
    ours.add(wheel, hashes={"sha512": "0" * 128})
    with pytest.raises(WheelInvalid, match="sha512"):
        ask.one("strong", simple(ours))


@pytest.mark.usefixtures("leaf")
def test_an_index_that_is_out_of_order_is_asked_again(ask: Asking, ours: PackageIndex) -> None:
    """And its own words stand in the error."""
    ours.status_for["/simple/leaf/"] = 503
    with pytest.raises(Unavailable, match="out of order"):
        ask.one("leaf", simple(ours))
    assert len(ours.asked) == 3
    ours.status_for["/simple/leaf/"] = 429
    with pytest.raises(RegistryPipelinesError, match="429"):
        ask.one("leaf", simple(ours))


def test_a_folder_whose_file_is_not_what_it_was(ask: Asking, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", "leaf", "1.0")
    path, about, _ = ask.one("leaf", folder(tmp_path / "w"))
    assert path.samefile(wheel) and about == {"index": "wheelhouse"}
    make_wheel(tmp_path / "w", "leaf", "1.0", files={"leaf.py": b"VALUE = 2\n"})
    assert ask.one("leaf", folder(tmp_path / "w"))[0].parent != path.parent
    with pytest.raises(RequirementsInvalid, match="cannot be read"):
        ask.one("leaf", folder(tmp_path / "gone"))
