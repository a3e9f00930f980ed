"""Kill -9 in the middle of pushes, restarts, a full disk: what was confirmed stays, what was not is never served."""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.layout import LayoutRegistry
from tests.doubles.small_disk import small_disk as mounted_disk
from tests.patience import patient
from tests.registry.wire import Answer, ask, begin, connect, manifest_for, push_blob, put_manifest, receive_all

PROGRAM = """
import sys
from pathlib import Path
from registry_pipelines.registry.embedded import EmbeddedServer, serve
serve([EmbeddedServer(Path(sys.argv[1]))], ready=lambda servers: print(servers[0].port, flush=True))
"""


class Process:
    """A server in a process of its own; looks like an EmbeddedServer to the helpers."""

    def __init__(self, root: Path, file_limit: int | None = None) -> None:
        def limit() -> None:
            if file_limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

        self.root = root
        self.child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(root)],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=limit,
        )
        assert self.child.stdout is not None
        self.port = int(self.child.stdout.readline())

    def kill(self) -> None:
        self.child.kill()
        self.child.wait()
        assert self.child.stdout is not None
        self.child.stdout.close()


@contextmanager
def running(root: Path, file_limit: int | None = None) -> Iterator[EmbeddedServer]:
    process = Process(root, file_limit)
    try:
        yield process  # type: ignore[misc]
    finally:
        process.kill()


def blobs_on_disk(root: Path) -> list[Path]:
    return [path for path in root.rglob("blobs/*/*") if path.is_file()]


def assert_all_blobs_are_whole(root: Path) -> None:
    for path in blobs_on_disk(root):
        assert Digest.of(path.read_bytes(), path.parent.name).hex == path.name


def test_killed_in_the_middle_of_a_put(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(3_000_000)
    digest = Digest.of(content)
    process = Process(tmp_path)
    location = begin(process, "a")  # type: ignore[arg-type]
    with socket.create_connection(("127.0.0.1", process.port)) as sock:
        head = f"PUT {location}?digest={digest} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(content)}\r\n\r\n"
        sock.sendall(head.encode() + content[:2_500_000])
        while stored_bytes(tmp_path) < 1_000_000:
            assert process.child.poll() is None
        process.kill()
    assert blobs_on_disk(tmp_path) == []
    with EmbeddedServer(tmp_path) as server:
        assert ask(server, "HEAD", f"/v2/a/blobs/{digest}").status == 404
        assert ask(server, "GET", "/v2/_catalog").json == {"repositories": []}
        done = int(ask(server, "GET", location).headers["Range"].partition("-")[2]) + 1
        assert 1_000_000 <= done <= 2_500_000
        headers = {"Content-Range": f"{done}-{len(content) - 1}"}
        answer = ask(server, "PUT", f"{location}?digest={digest}", content[done:], headers)
        assert answer.status == 201, "what was on disk is right, so the client may go on from there"
        assert ask(server, "GET", f"/v2/a/blobs/{digest}").body == content


def stored_bytes(root: Path) -> int:
    total = 0
    for path in root.rglob(".uploads/*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


@pytest.mark.parametrize("round_number", range(4))
def test_killed_at_any_moment_of_many_pushes(tmp_path: Path, round_number: int) -> None:
    """Everything that was answered 201 is there after the kill; everything that is there is whole."""
    process = Process(tmp_path)
    confirmed: dict[str, Digest] = {}
    enough = threading.Event()

    def push(worker: int) -> None:
        with suppress(OSError, ConnectionError):
            for number in range(10_000):
                name = f"w{worker}-{number}"
                layer = name.encode() * 2000
                if post_blob(process, layer).status != 201:
                    return
                raw = manifest_for([layer], annotations={"name": name})
                answer = put_manifest(process, "a", raw, name)  # type: ignore[arg-type]
                if answer.status == 201:
                    confirmed[name] = Digest.of(raw)
                if len(confirmed) >= 5 + 6 * round_number:
                    enough.set()

    workers = [threading.Thread(target=quietly, args=(push, number)) for number in range(3)]
    for worker in workers:
        worker.start()
    assert enough.wait(patient(60))
    process.kill()
    for worker in workers:
        worker.join()
    assert_all_blobs_are_whole(tmp_path)
    with EmbeddedServer(tmp_path) as server:
        tags = set(ask(server, "GET", "/v2/a/tags/list").json["tags"])
        assert set(confirmed) <= tags
        for name, digest in confirmed.items():
            assert ask(server, "HEAD", f"/v2/a/manifests/{name}").headers["Docker-Content-Digest"] == digest
            assert ask(server, "HEAD", f"/v2/a/blobs/{Digest.of(name.encode() * 2000)}").status == 200
        assert put_manifest(server, "a", manifest_for([]), "after").status == 201


def quietly(work, *arguments) -> None:  # type: ignore[no-untyped-def]
    """The connection breaks when the server dies; that is the point."""
    import http.client

    with suppress(http.client.HTTPException):
        work(*arguments)


def post_blob(server: Process, content: bytes) -> Answer:
    path = f"/v2/a/blobs/uploads/?digest={Digest.of(content)}"
    return ask(server, "POST", path, content)  # type: ignore[arg-type]


def test_a_restart_keeps_everything(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as before:
        blob = push_blob(before, "a/b", b"layer")
        raw = manifest_for([b"layer"], subject={"mediaType": "x/y", "digest": Digest.of(b"s"), "size": 1})
        put_manifest(before, "a/b", raw, "v1")
        put_manifest(before, "a/b", raw, "v2")
        ask(before, "POST", f"/v2/c/blobs/uploads/?mount={blob}&from=a/b", b"")
    with EmbeddedServer(tmp_path) as after:
        assert ask(after, "GET", "/v2/_catalog").json == {"repositories": ["a/b", "c"]}
        assert ask(after, "GET", "/v2/a/b/tags/list").json["tags"] == ["v1", "v2"]
        assert ask(after, "GET", "/v2/a/b/manifests/v2").body == raw
        assert ask(after, "GET", f"/v2/c/blobs/{blob}").body == b"layer"
        referrers = ask(after, "GET", f"/v2/a/b/referrers/{Digest.of(b's')}").json["manifests"]
        assert [entry["digest"] for entry in referrers] == [Digest.of(raw)]


def test_a_folder_registry_and_the_server_see_each_other(tmp_path: Path) -> None:
    folder = LayoutRegistry(tmp_path)
    with EmbeddedServer(tmp_path) as server:
        raw = manifest_for([])
        put_manifest(server, "a", raw, "from-server")
        assert list(folder.tags("a")) == ["from-server"]
        folder.put_manifest("a", folder.get_manifest("a", "from-server"), tag="from-folder")
        assert ask(server, "GET", "/v2/a/tags/list").json["tags"] == ["from-folder", "from-server"]
        folder.delete_manifest("a", Digest.of(raw))
        assert ask(server, "GET", "/v2/a/manifests/from-server").status == 404


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB in memory."""
    with mounted_disk(tmp_path / "small", 4) as folder:
        yield folder


def fill(folder: Path, leave: int) -> None:
    facts = os.statvfs(folder)
    (folder / "filler").write_bytes(bytes(max(0, facts.f_bavail * facts.f_frsize - leave)))


@pytest.mark.parametrize("way", ["POST", "PUT", "PATCH"])
def test_a_blob_that_does_not_fit(small_disk: Path, way: str) -> None:
    content = random.Random(2).randbytes(6_000_000)
    digest = Digest.of(content)
    with EmbeddedServer(small_disk) as server:
        small = push_blob(server, "a", b"fits")
        location = "/v2/a/blobs/uploads/" if way == "POST" else begin(server, "a")
        with connect(server) as sock:
            head = f"{way} {location}?digest={digest} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(content)}\r\n\r\n"
            with suppress(OSError):
                sock.sendall(head.encode() + content)
            answer = receive_all(sock)
        assert answer.startswith(b"HTTP/1.1 507 ")
        assert b"INSUFFICIENT_STORAGE" in answer
        assert ask(server, "HEAD", f"/v2/a/blobs/{digest}").status == 404
        assert ask(server, "GET", f"/v2/a/blobs/{small}").body == b"fits"
        assert stored_bytes(small_disk) == 0, "what was half written is gone, the space free again"
        push_blob(server, "a", content[:3_000_000])


def test_a_manifest_and_a_tag_that_do_not_fit(small_disk: Path) -> None:
    with EmbeddedServer(small_disk) as server:
        first = manifest_for([])
        assert put_manifest(server, "a", first, "v1").status == 201
        fill(small_disk, leave=0)
        answer = put_manifest(server, "a", manifest_for([], annotations={"x": "y" * 100_000}), "v1")
        assert (answer.status, answer.code) == (507, "INSUFFICIENT_STORAGE")
        assert ask(server, "POST", "/v2/a/blobs/uploads/", b"").status in (202, 507)  # an empty file may still fit
        assert ask(server, "GET", "/v2/a/manifests/v1").body == first
        (small_disk / "filler").unlink()
        assert put_manifest(server, "a", manifest_for([], annotations={"x": "y" * 100_000}), "v1").status == 201


def test_a_limit_on_file_sizes_is_a_full_disk_too(tmp_path: Path) -> None:
    """Works without any right to mount."""
    content = random.Random(3).randbytes(2_000_000)
    with running(tmp_path, file_limit=1_000_000) as server:
        answer = ask(server, "POST", f"/v2/a/blobs/uploads/?digest={Digest.of(content[:999_999])}", content[:999_999])
        assert answer.status == 201
        with connect(server) as sock:
            head = f"POST /v2/a/blobs/uploads/?digest={Digest.of(content)} HTTP/1.1\r\nHost: t\r\n"
            with suppress(OSError):
                sock.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            assert receive_all(sock).startswith(b"HTTP/1.1 507 ")
        assert ask(server, "HEAD", f"/v2/a/blobs/{Digest.of(content)}").status == 404
        assert stored_bytes(tmp_path) == 0


def test_memory_stays_flat_with_large_blobs(tmp_path: Path) -> None:
    """64 MiB in and out of a process of its own moves its peak by less than a tenth of that."""
    content = bytes(64 * 1024 * 1024)
    with running(tmp_path) as server:
        process_id = server.child.pid  # type: ignore[attr-defined]
        push_blob(server, "a", b"warm up")
        before = peak_kb(process_id)
        digest = push_blob(server, "a", content)
        pieces = (content[start : start + 1_000_000] for start in range(0, len(content), 1_000_000))
        assert ask(server, "PUT", f"{begin(server, 'b')}?digest={digest}", pieces).status == 201
        assert len(ask(server, "GET", f"/v2/a/blobs/{digest}").body) == len(content)
        assert peak_kb(process_id) - before < 6 * 1024


def peak_kb(process_id: int) -> int:
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise AssertionError("no VmHWM")


def test_sigterm_ends_a_serving_process(tmp_path: Path) -> None:
    process = Process(tmp_path)
    push_blob(process, "a", b"kept")  # type: ignore[arg-type]
    process.child.send_signal(signal.SIGTERM)
    assert process.child.wait(patient(20)) == 0
    assert process.child.stdout is not None
    process.child.stdout.close()
    assert_all_blobs_are_whole(tmp_path)
