"""Indexes that lie, err for a day, or answer with what they were sent: nothing of it lasts, and nothing leaks."""

from __future__ import annotations

import base64
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from registry_pipelines.build.packages.index import HttpIndex
from registry_pipelines.build.packages.logins import Login, nobody
from registry_pipelines.build.packages.making import make_wheel as build_wheel
from registry_pipelines.build.packages.model import IndexRules, SimpleIndex
from registry_pipelines.build.packages.web import Site
from registry_pipelines.errors import DiskFull, RegistryError, RequirementsInvalid, Unavailable, WheelInvalid
from registry_pipelines.settings import Secret
from tests.build.packages.sources import AT_ONCE, Asking, origins, simple
from tests.build.wheels import make_wheel
from tests.doubles.package_index import PackageIndex


def test_a_wheel_of_a_day_on_which_the_private_index_denied_it_does_not_last(
    ask: Asking, ours: PackageIndex, public: PackageIndex, tmp_path: Path
) -> None:
    """Everything is pinned and in the store, so pip is not asked again; the indexes are."""
    public.add(make_wheel(tmp_path / "stranger", "acme-core", "1.0", files={"evil.py": b""}))
    indexes = simple(ours), simple(public, "public", public=True)
    ours.status_for["/simple/acme-core/"] = 404
    pins = "acme-core==1.0"
    assert origins(ask(pins, *indexes)) == {"acme-core": "public"}
    del ours.status_for["/simple/acme-core/"]
    ours.projects["acme-core"].clear()
    ours.add(make_wheel(tmp_path / "alone", "acme-core", "1.0"))
    assert origins(ask(pins, *indexes)) == {"acme-core": "ours"}
    ours.status["acme-core"] = "quarantined", "harmful"
    with pytest.raises(RequirementsInvalid, match="quarantine"):
        ask(pins, *indexes)


def test_a_page_and_metadata_that_were_wrong_once_are_asked_again(
    ask: Asking, ours: PackageIndex, tmp_path: Path
) -> None:
    """As of a proxy that answers everything with its own page."""
    wheel = make_wheel(tmp_path / "leaf", "leaf", "1.0")
    offered = ours.add(wheel, metadata=b"<html>log in first</html>")
    with pytest.raises(WheelInvalid, match="not what ours says"):
        ask.one("leaf", simple(ours))
    offered.metadata = b"Metadata-Version: 2.1\nName: leaf\nVersion: 1.0\n"
    assert ask.one("leaf", simple(ours))[0].name == wheel.name


def test_metadata_that_is_not_the_wheels_is_found(ask: Asking, ours: PackageIndex, tmp_path: Path) -> None:
    """What a wheel asks for decides what else comes; pip reads it where the index says it."""
    told = b"Metadata-Version: 2.1\nName: leaf\nVersion: 1.0\nRequires-Dist: evil\n"
    ours.add(make_wheel(tmp_path / "leaf", "leaf", "1.0"), metadata=told)
    with pytest.raises(WheelInvalid, match="has changed its metadata"):
        ask.one("leaf", simple(ours))


def test_what_one_index_says_of_a_content_counts_for_no_other(
    ask: Asking, ours: PackageIndex, public: PackageIndex, tmp_path: Path
) -> None:
    """A stranger offers the private wheel's sha256 with other metadata, and is asked first."""
    wheel = make_wheel(tmp_path / "leaf", "private", "1.0")
    true = b"Metadata-Version: 2.1\nName: private\nVersion: 1.0\n"
    public.add(wheel, metadata=true + b"Requires-Dist: evil\n")
    stranger = ask.sources(simple(public, "public", public=True))
    assert b"evil" in stranger.metadata("private", wheel.name, ask.store)
    stranger.close()
    ours.add(wheel, metadata=true)
    sources = ask.sources(simple(ours), simple(public, "public", public=True))
    assert sources.metadata("private", wheel.name, ask.store) == true
    sources.close()


@pytest.mark.parametrize("page", ["", "<html><a href='/login'>log in</a></html>"])
def test_an_empty_page_is_no_invitation(
    page: str, ask: Asking, public: PackageIndex, answering: Callable[..., str]
) -> None:
    private = SimpleIndex(name="o", kind="simple", url=answering(200, page.encode(), "text/html"))
    sources = ask.sources(private, simple(public, "p", public=True))
    found = sources.project("leaf")
    assert found is not None and found.index.name == "o" and not found.project.files
    sources.close()


@pytest.mark.parametrize("status", [400, 401, 403, 500])
def test_an_index_that_repeats_what_it_was_sent_shows_no_password(
    status: int, ask: Asking, answering: Callable[..., str]
) -> None:
    url = answering(status, b"you sent {authorization} which is {pair}, {password}", "text/plain")
    login = {"username": "robot", "password": Secret("hunter2@x")}
    sources = ask.sources(SimpleIndex(name="o", kind="simple", url=url, **login))  # type: ignore[arg-type]
    with pytest.raises(RegistryError) as caught:
        sources.project("leaf")
    sources.close()
    assert "you sent" in str(caught.value) and "hunter2" not in str(caught.value)
    assert "cm9ib3Q6aHVudGVy" not in str(caught.value)


@pytest.fixture
def answering() -> Iterator[Callable[..., str]]:
    """``answering(status, body, type)`` is the address of an index that answers so; the body may have
    ``{authorization}``, ``{pair}`` and ``{password}`` of who asks."""
    servers = []

    def start(status: int, body: bytes, kind: str, pause_s: float = 0) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                sent = self.headers.get("Authorization", "")
                pair = base64.b64decode(sent.partition(" ")[2])
                content = body
                for name, value in (("authorization", sent.encode()), ("pair", pair), ("password", pair[6:])):
                    content = content.replace(b"{%s}" % name.encode(), value)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                for piece in [content] if not pause_s else [content[i : i + 1] for i in range(len(content))]:
                    try:
                        self.wfile.write(piece)
                    except OSError:
                        return  # who asked went away
                    time.sleep(pause_s)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}/simple/"

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_page_that_comes_byte_by_byte_does_not_hold_a_build(answering: Callable[..., str]) -> None:
    url = answering(200, b"x" * 100_000, "text/html", pause_s=0.02)
    site = Site(url, "o", Login(nobody), retries=AT_ONCE)
    index = HttpIndex("o", IndexRules(), site, kept=None, retries=AT_ONCE, small_s=0.1)
    try:
        with pytest.raises(Unavailable, match="not there after"):
            index.project("leaf")
    finally:
        index.close()


def test_a_backend_without_indexes_asks_none(ask: Asking, tmp_path: Path) -> None:
    """It is code of its own, and may call pip: which then has no index at all."""
    source = tmp_path / "src"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (source / "backend.py").write_text(
        "import os\n"
        "def build_wheel(folder, *_):\n"
        "    raise SystemExit('no index: ' + os.environ.get('PIP_NO_INDEX', 'one'))\n"
    )
    (tmp_path / "made").mkdir()
    with pytest.raises(RequirementsInvalid, match="no index: 1"):
        build_wheel(source, tmp_path / "made", sources=None, store=ask.store)


def test_a_full_disk_is_said(ask: Asking, ours: PackageIndex, tmp_path: Path) -> None:
    ours.add(make_wheel(tmp_path / "big", "big", "1.0", files={"a.bin": os.urandom(300_000)}))
    sources = ask.sources(simple(ours))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        with pytest.raises(DiskFull, match="no space is left"):
            sources.take("big", "big-1.0-py3-none-any.whl", ask.store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
        sources.close()
    assert not [path for path in ask.store.root.rglob("*") if path.is_file()]
