"""A project comes from one index: what a stranger publishes under the name of a private project is never taken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from registry_pipelines.errors import RedirectRefused, RequirementsInvalid, Unauthorized, Unavailable
from tests.build.packages.sources import Asking, folder, origins, simple, versions
from tests.build.wheels import make_wheel
from tests.doubles.package_index import PackageIndex


def test_pip_itself_takes_the_strangers_and_we_do_not(
    ask: Asking, ours: PackageIndex, public: PackageIndex, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The textbook command, and ours, with the same two indexes; whatever the settings of this machine's pip are."""
    report, user = ask.state / "report.json", ours.user
    ours.user = ""
    environment = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
    command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--report", str(report)]
    command += ["-i", ours.url, "--extra-index-url", public.url, "acme-core"]
    subprocess.run(command, check=True, env=environment)
    assert '"99.0"' in report.read_text()
    ours.user = user
    (tmp_path / "pip.conf").write_text(f"[global]\nextra-index-url = {public.url}\n")
    for name, value in (("CONFIG_FILE", tmp_path / "pip.conf"), ("EXTRA_INDEX_URL", public.url)):
        monkeypatch.setenv(f"PIP_{name}", str(value))
    wheels = ask("acme-core", simple(ours), simple(public, "public", public=True))
    assert versions(wheels) == {"acme-core": "1.0", "leaf": "2.0"}
    assert origins(wheels) == {"acme-core": "ours", "leaf": "public"}


@pytest.mark.parametrize("written", ["acme-core", "Acme.Core", "ACME__core"])
def test_the_order_of_indexes_and_the_spelling_do_not_matter(
    written: str, ask: Asking, ours: PackageIndex, public: PackageIndex
) -> None:
    assert "acme_core-1.0" in ask.one(written, simple(public, "public", public=True), simple(ours))[0].name


def test_a_name_that_is_declared_comes_from_there_alone(ask: Asking, ours: PackageIndex, public: PackageIndex) -> None:
    """A name that the private index lacks, by accident or since it was deleted, is no invitation."""
    del ours.projects["acme-core"]
    sources = ask.sources(simple(ours, names=("acme-*",)), simple(public, "public", public=True))
    assert sources.project("acme-core") is None
    sources.close()
    assert not [one for one in public.asked if "acme" in one.path]


def test_a_public_index_may_be_named_for_a_project_that_both_have(
    ask: Asking, ours: PackageIndex, public: PackageIndex
) -> None:
    named = simple(public, "public", public=True, names=("Acme_Core",))
    assert "acme_core-99.0" in ask.one("acme-core", simple(ours), named)[0].name


def test_only_what_is_allowed_comes_from_a_public_index(ask: Asking, ours: PackageIndex, public: PackageIndex) -> None:
    allowed = simple(public, "public", public=True, only=("leaf",))
    assert ask.one("leaf", simple(ours), allowed)
    make_wheel(ask.state / "more", "other", "1.0")
    public.add(ask.state / "more/other-1.0-py3-none-any.whl")
    sources = ask.sources(simple(ours), allowed)
    assert sources.project("other") is None
    sources.close()
    assert not [one for one in public.asked if "other" in one.path]


@pytest.mark.parametrize(("wrong", "error"), [("down", Unavailable), ("login", Unauthorized), ("gone", Unavailable)])
def test_a_private_index_that_does_not_answer_ends_the_build(
    wrong: str, error: type[Exception], ask: Asking, ours: PackageIndex, public: PackageIndex
) -> None:
    """Also where the public one has the project, and where another answer was kept before."""
    indexes = [simple(ours), simple(public, "public", public=True)]
    assert "acme_core-1.0" in ask.one("acme-core", *indexes)[0].name
    if wrong == "down":
        ours.down = True
    elif wrong == "login":
        ours.user = "robot:other"
    else:
        ours.__exit__()
    with pytest.raises(error) as caught:
        if wrong == "down":
            ask("acme-core", *indexes)  # pip would go on without it
        ask.one("acme-core", *indexes)
    assert "ours" in str(caught.value)
    if wrong == "gone":
        ours.__init__()  # type: ignore[misc]  # the fixture ends it once more
        ours.__enter__()


def test_an_index_that_sends_on_what_it_lacks_is_not_followed(ask: Asking, public: PackageIndex) -> None:
    """pypiserver's default."""
    with PackageIndex(fallback=public.url) as private:
        with pytest.raises(RedirectRefused, match="another index") as caught:
            ask.one("leaf", simple(private))
        assert "disable-fallback" in str(caught.value)
        assert ask.one("leaf", simple(private, public=True))[1]["index"] == "ours"


def test_a_folder_is_a_private_index(ask: Asking, public: PackageIndex, tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheelhouse", "acme-core", "1.5", requires=("leaf",))
    indexes = folder(tmp_path / "wheelhouse"), simple(public, "public", public=True)
    assert "acme_core-1.5" in ask.one("acme-core", *indexes)[0].name


@pytest.mark.parametrize(
    "line",
    [
        "--extra-index-url http://127.0.0.1:9/simple/",
        "--find-links http://127.0.0.1:9/",
        "-i http://127.0.0.1:9/",
        "acme @ http://127.0.0.1:9/acme-1.0-py3-none-any.whl",
        "http://127.0.0.1:9/acme-1.0-py3-none-any.whl",
        "-r http://127.0.0.1:9/requirements.txt",
    ],
)
def test_requirements_name_no_other_source(line: str, ask: Asking, ours: PackageIndex) -> None:
    with pytest.raises(RequirementsInvalid, match="says where packages come from"):
        ask(f"{line}\nacme-core", simple(ours))


@pytest.mark.parametrize("where", ["http://{address}/evil-1.0-py3-none-any.whl", "file:///{folder}"])
def test_a_package_leads_pip_nowhere_else(
    where: str, ask: Asking, ours: PackageIndex, public: PackageIndex, tmp_path: Path
) -> None:
    """A wheel may ask for another one at an address; pip follows, builds what it finds, and asks no index."""
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil/setup.py").write_text("open('/dev/null'); raise SystemExit('ran')\n")
    url = where.format(address=public.address, folder=tmp_path / "evil")
    ours.add(make_wheel(tmp_path / "bad", "acme-bad", "1.0", requires=(f"evil @ {url}",)))
    with pytest.raises(RequirementsInvalid, match=r"address of its own|leads to"):
        (ask if where.startswith("http") else ask.one)("acme-bad", simple(ours))
    assert not public.asked
