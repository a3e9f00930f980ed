"""Wheels to an index: our uploads and twine's to the same index, and ours to an index that is not ours."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from registry_pipelines.build.packages.making import make_wheel as build_wheel
from registry_pipelines.build.packages.model import SimpleIndex
from registry_pipelines.build.packages.publishing import publish, read_wheel, wheels_of
from registry_pipelines.errors import InputError, Refused, RequirementsInvalid, Unauthorized, WheelInvalid
from registry_pipelines.settings import Secret
from tests.build.packages.sources import Asking, folder, simple, versions
from tests.build.wheels import make_wheel
from tests.doubles.package_index import PackageIndex
from tests.needs import missing, needed_module
from tests.patience import patient
from tests.ports import free_ports

METADATA = b"""Metadata-Version: 2.4
Name: Acme.Core
Version: 1.0
Summary: \xc3\x9cberall
Keywords: one,two
Classifier: Programming Language :: Python :: 3
Classifier: Topic :: Utilities
Project-URL: Home, https://acme.example
License-Expression: MIT
License-File: LICENSE
Requires-Dist: leaf>=1
Requires-Dist: numpy; extra == "fast"
Requires-Python: >=3.11
Provides-Extra: fast
Description-Content-Type: text/markdown

A *description* --with-dashes
"""


def put(ask: Asking, wheel: Path, index: SimpleIndex) -> bool:
    sources = ask.sources(index)
    try:
        return publish(sources.indexes[0], read_wheel(wheel), ask.store, ask.state / "scratch")
    finally:
        sources.close()


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path / "w", "acme_core", "1.0", metadata=METADATA)


def test_what_twine_sends_is_what_we_send(ask: Asking, wheel: Path) -> None:
    """Field for field, apart from hashes of other kinds and fields that say nothing."""
    needed_module("twine", "dev")
    with PackageIndex(user="robot:hunter2") as theirs, PackageIndex(user="robot:hunter2") as own:
        command = [sys.executable, "-m", "twine", "upload", "--non-interactive", "--disable-progress-bar"]
        command += ["--repository-url", theirs.upload, "-u", "robot", str(wheel)]
        environment = {**os.environ, "TWINE_PASSWORD": "hunter2"}
        subprocess.run(command, check=True, env=environment, capture_output=True)
        assert put(ask, wheel, simple(own))
        [sent], [ours] = theirs.projects["acme-core"].values(), own.projects["acme-core"].values()
    assert ours.content == sent.content == wheel.read_bytes()
    told = {name: values for name, values in sent.form.items() if any(values)}
    for name in ("md5_digest", "blake2_256_digest", "comment"):
        told.pop(name, None)
    assert {name: ours.form[name] for name in told} == told
    assert set(ours.form) == set(told)


def test_publishing_again_changes_nothing_and_never_replaces(ask: Asking, wheel: Path, tmp_path: Path) -> None:
    with PackageIndex(user="robot:hunter2") as index:
        assert [put(ask, wheel, simple(index)) for _ in range(2)] == [True, False]
        assert [one.method for one in index.asked].count("POST") == 1
        other = make_wheel(tmp_path / "o", "acme_core", "1.0", metadata=METADATA, files={"a.py": b"A = 2\n"})
        with pytest.raises(Refused, match="another content"):
            put(ask, other, simple(index))
        [offered] = index.projects["acme-core"].values()
        assert offered.content == wheel.read_bytes()
        offered.hashes = {}  # an index that tells none: the file itself is looked at
        assert put(ask, wheel, simple(index)) is False
        with pytest.raises(Refused):
            put(ask, other, simple(index))
        with pytest.raises(Unauthorized):
            put(ask, wheel, simple(index, username="robot"))


def test_uploads_go_to_a_host_of_their_own(ask: Asking, wheel: Path) -> None:
    """With the log-in, which the host of the pages gets, too."""
    with PackageIndex(user="robot:hunter2") as pages, PackageIndex(user="robot:hunter2") as uploads:
        index = SimpleIndex(
            name="ours",
            kind="simple",
            url=pages.url,
            upload=uploads.upload,
            username="robot",
            password=Secret("hunter2"),
        )
        assert put(ask, wheel, index)
        assert list(uploads.projects["acme-core"]) == [wheel.name] and not pages.projects


@contextmanager
def pypiserver(packages: Path, *options: str) -> Iterator[str]:
    """A real index, open to everybody on loopback; its address with a slash."""
    if (
        importlib.util.find_spec("pypiserver") is None
    ):  # not imported: its web framework warns of the standard library's
        missing("pypiserver is not installed (extra `dev`)")
    [port] = free_ports(1)
    command = [sys.executable, "-m", "pypiserver", "run", "-i", "127.0.0.1", "-p", str(port), "-P", ".", "-a", "."]
    with subprocess.Popen(
        [*command, *options, str(packages)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            until = time.monotonic() + patient(30)
            while time.monotonic() < until:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/").close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.kill()


def test_an_index_that_is_not_ours_takes_and_gives(ask: Asking, wheel: Path, tmp_path: Path) -> None:
    """pypiserver: publish, publish again, read through pip; a project that it lacks is lacking."""
    (tmp_path / "packages").mkdir()
    make_wheel(tmp_path / "packages", "leaf", "1.0+local.1")
    with pypiserver(tmp_path / "packages", "--disable-fallback") as url:
        index = SimpleIndex(name="ours", kind="simple", url=f"{url}simple/", upload=url)
        assert [put(ask, wheel, index) for _ in range(2)] == [True, False]
        assert (tmp_path / "packages" / wheel.name).read_bytes() == wheel.read_bytes()
        other = make_wheel(tmp_path / "o", "acme_core", "1.0", metadata=METADATA, files={"a.py": b"A = 2\n"})
        with pytest.raises(Refused):
            put(ask, other, index)
        assert versions(ask("acme-core", index)) == {"acme-core": "1.0", "leaf": "1.0+local.1"}
        sources = ask.sources(index)
        assert sources.project("absent") is None
        sources.close()


def test_a_folder_is_published_to(ask: Asking, wheel: Path, tmp_path: Path) -> None:
    index = ask.sources(folder(tmp_path / "shelf")).indexes[0]
    (tmp_path / "shelf").mkdir()
    assert publish(index, read_wheel(wheel), ask.store, ask.state)
    assert not publish(index, read_wheel(wheel), ask.store, ask.state)
    assert (tmp_path / "shelf" / wheel.name).read_bytes() == wheel.read_bytes()


def test_what_is_no_wheel_is_not_published(tmp_path: Path) -> None:
    (tmp_path / "a-1.tar.gz").touch()
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"no zip")
    lying = make_wheel(tmp_path / "l", "a", "1", metadata=b"Metadata-Version: 2.1\nName: b\nVersion: 1\n")
    for path, error in (("a-1.tar.gz", InputError), ("a-1-py3-none-any.whl", WheelInvalid), (lying, WheelInvalid)):
        with pytest.raises(error):
            read_wheel(tmp_path / path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no wheel"):
        wheels_of([tmp_path / "empty"])


def project(root: Path, version: str = "1.0", backend: str = "setuptools.build_meta") -> Path:
    (root / "acme_tool").mkdir(parents=True)
    (root / "acme_tool/__init__.py").write_text("VALUE = 1\n")
    (root / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["setuptools"]\nbuild-backend = "{backend}"\n'
        f'[project]\nname = "acme-tool"\nversion = "{version}"\n'
    )
    return root


@pytest.mark.long
def test_a_source_folder_becomes_the_same_wheel_each_time(ask: Asking, tmp_path: Path) -> None:
    """And nothing is written beside the source."""
    source = project(tmp_path / "src")
    before = sorted(tmp_path.rglob("src/**/*"))
    hashes = []
    for changed in (1_600_000_000, 1_700_000_000):
        (into := tmp_path / str(changed)).mkdir()
        os.utime(source / "acme_tool/__init__.py", (changed, changed))
        hashes.append(read_wheel(build_wheel(source, into, sources=None, store=ask.store)))
    assert hashes[0].sha256 == hashes[1].sha256 and hashes[0].path.name == "acme_tool-1.0-py3-none-any.whl"
    assert sorted(tmp_path.rglob("src/**/*")) == before


@pytest.mark.long
def test_a_backend_that_fails_and_one_that_no_index_has(ask: Asking, tmp_path: Path, ours: PackageIndex) -> None:
    broken = project(tmp_path / "broken", backend="nothing.at_all")
    (tmp_path / "1").mkdir()
    with pytest.raises(RequirementsInvalid, match="no wheel was built"):
        build_wheel(broken, tmp_path / "1", sources=None, store=ask.store)
    sources = ask.sources(simple(ours))
    (tmp_path / "2").mkdir()
    with pytest.raises(RequirementsInvalid, match="setuptools") as caught:
        build_wheel(project(tmp_path / "src"), tmp_path / "2", sources=sources, store=ask.store)
    assert "127.0.0.1" not in str(caught.value)
    sources.close()
    with pytest.raises(InputError, match=r"no pyproject\.toml"):
        build_wheel(tmp_path / "1", tmp_path / "2", sources=None, store=ask.store)
