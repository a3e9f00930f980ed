"""One large blob in and out: our embedded server against docker-registry, side by side on loopback.

    python benchmarks/embedded_server.py [--gib 2] [--rounds 5] [--write docs/benchmarks/embedded-registry.md]

Both keep their content in the same folder's file system. The client is one small loop over a socket, so that it costs
little beside the servers. Rounds alternate between the servers; the ratios are of medians. CPU seconds and peak memory
are the server process's own. On a machine that does other work too, start it with ``chrt -f 1``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from measure import machine

BLOCK = 1024 * 1024
TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Server:
    name: str
    port: int
    process: subprocess.Popen[bytes]
    root: Path
    put_s: list[float] = field(default_factory=list)
    get_s: list[float] = field(default_factory=list)
    put_cpu_s: list[float] = field(default_factory=list)
    get_cpu_s: list[float] = field(default_factory=list)

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def peak_mb(self) -> float:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("the kernel tells no VmHWM")


OURS = """
import sys
from pathlib import Path
from registry_pipelines.registry.embedded import EmbeddedServer, serve
serve([EmbeddedServer(Path(sys.argv[1]), port=int(sys.argv[2]))])
"""

THEIRS = """version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}", secret: benchmark}}
"""


def start(name: str, folder: Path) -> Server:
    port, root = free_port(), folder / name
    root.mkdir()
    if name == "embedded":
        command = [sys.executable, "-c", OURS, str(root), str(port)]
    else:
        config = folder / "docker-registry.yml"
        config.write_text(THEIRS.format(root=root, port=port))
        program = shutil.which("docker-registry") or "docker-registry"
        command = [program, "serve", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return Server(name, port, process, root)
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.05)


def read_head(sock: socket.socket) -> tuple[int, dict[str, str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            raise RuntimeError(f"the server hung up: {data!r}")
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, rest


def request(port: int, method: str, target: str) -> tuple[int, dict[str, str]]:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(
            f"{method} {target} HTTP/1.1\r\nHost: b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        status, headers, _ = read_head(sock)
        return status, headers


def put(server: Server, source: Path, digest: str) -> None:
    """Open an upload, send the whole content in one PUT by sendfile, wait for 201."""
    status, headers = request(server.port, "POST", "/v2/bench/blobs/uploads/")
    assert status == 202, status
    location = urlsplit(headers["location"])
    target = f"{location.path}?{location.query + '&' if location.query else ''}digest={digest}"
    size = source.stat().st_size
    with socket.create_connection(("127.0.0.1", server.port)) as sock, source.open("rb") as stream:
        head = f"PUT {target} HTTP/1.1\r\nHost: b\r\nContent-Length: {size}\r\n\r\n"
        sock.sendall(head.encode())
        position = 0
        while position < size:
            position += os.sendfile(sock.fileno(), stream.fileno(), position, size - position)
        status, _, rest = read_head(sock)
        assert status == 201, (status, rest)


def get(server: Server, digest: str, size: int) -> None:
    """Read the whole blob and throw it away."""
    buffer = bytearray(BLOCK)
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(f"GET /v2/bench/blobs/{digest} HTTP/1.1\r\nHost: b\r\n\r\n".encode())
        status, _, rest = read_head(sock)
        assert status == 200, status
        received = len(rest)
        while received < size:
            count = sock.recv_into(buffer)
            assert count, "the body ended early"
            received += count


def measured(server: Server, times: list[float], cpu: list[float], work: object, *arguments: object) -> None:
    before, began = server.cpu_s(), time.monotonic()
    work(server, *arguments)  # type: ignore[operator]
    times.append(time.monotonic() - began)
    cpu.append(server.cpu_s() - before)


def round_of(server: Server, source: Path, digest: str) -> None:
    request(server.port, "DELETE", f"/v2/bench/blobs/{digest}")
    for stored in server.root.rglob("data" if server.name == "docker-registry" else digest.partition(":")[2]):
        stored.unlink(missing_ok=True)
    size = source.stat().st_size
    measured(server, server.put_s, server.put_cpu_s, put, source, digest)
    measured(server, server.get_s, server.get_cpu_s, get, digest, size)


def make_blob(path: Path, gib: float) -> str:
    hasher = hashlib.sha256()
    block = os.urandom(64 * BLOCK)
    with path.open("wb") as stream:
        for _ in range(int(gib * 16)):
            stream.write(block)
            hasher.update(block)
    return f"sha256:{hasher.hexdigest()}"


def table(ours: Server, theirs: Server, gib: float, rounds: int, where: str) -> str:
    size = gib * 1024**3 / 1e6
    rows = []
    for name, kind in (("PUT, sha256 checked", "put"), ("GET", "get")):
        mine, other = (statistics.median(getattr(server, f"{kind}_s")) for server in (ours, theirs))
        my_cpu, other_cpu = (statistics.median(getattr(server, f"{kind}_cpu_s")) for server in (ours, theirs))
        speeds = f"{size / mine:,.0f} | {size / other:,.0f} | **{other / mine:.2f}**"
        rows.append(f"| {name} | {speeds} | {my_cpu:.1f} | {other_cpu:.1f} |")
    return "\n".join(
        [
            "# Embedded registry against docker-registry",
            "",
            f"One blob of {gib:g} GiB over loopback, {rounds} rounds taken in turn, medians. {where}",
            "Made by `python benchmarks/embedded_server.py`; believe the ratios, not the absolute numbers.",
            "",
            "| | embedded MB/s | docker-registry MB/s | times as fast | embedded CPU s | docker-registry CPU s |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"This machine at that moment: {machine()}.",
            "",
            f"Peak memory of the process: embedded {ours.peak_mb():.0f} MB, docker-registry {theirs.peak_mb():.0f} MB.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--folder", type=Path, help="where content is kept; a memory file system shows the servers, not the disk"
    )
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        kind = subprocess.run(
            ["stat", "-f", "-c", "%T", name], capture_output=True, text=True, check=True
        ).stdout.strip()
        digest = make_blob(folder / "blob", options.gib)
        servers = [start("embedded", folder), start("docker-registry", folder)]
        try:
            for _ in range(options.rounds):
                for server in servers:
                    round_of(server, folder / "blob", digest)
            priority = ", at real-time priority" if os.sched_getscheduler(0) == os.SCHED_FIFO else ""
            where = f"{os.cpu_count()} cores, Python {platform.python_version()}, files on {kind}{priority}."
            text = table(servers[0], servers[1], options.gib, options.rounds, where)
        finally:
            for server in servers:
                server.process.terminate()
                server.process.wait()
    print(text)
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(text)


if __name__ == "__main__":
    main()
