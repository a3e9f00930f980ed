"""A link as clouds have them, between two ports of this machine: latency, and a rate for each connection.

    python benchmarks/link_proxy.py UPSTREAM [--latency-ms 40] [--mb-per-s 40]

Prints its address; on SIGTERM prints ``{"requests": ..., "blob_gets": ..., "duplicate_blob_gets": ..., "kinds": ...}``
of what passed (a request is a line that ends in ``HTTP/1.1``; its kind is method and endpoint) and ends.
"""

from __future__ import annotations

import argparse
import json
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

BLOCK = 128 * 1024
BLOB_GET = re.compile(rb"GET (\S+/blobs/sha256:[0-9a-f]{64}) HTTP/1\.1\r\n(?:[^\r\n]+\r\n)*\r\n")

LINE = re.compile(rb"(?:^|\n)([A-Z]+) /v2/(\S*) HTTP/1\.1\r\n")
ENDPOINTS = (b"/blobs/uploads/?mount", b"/blobs/uploads/", b"/blobs/", b"/manifests/", b"/referrers/", b"/tags/list")

kinds: Counter[str] = Counter()
requests = 0
reads: Counter[bytes] = Counter()
guard = threading.Lock()


def pump(reading: socket.socket, writing: socket.socket, delay_s: float, rate: float, counts: bool) -> None:
    """Read, keep each block for the delay, write; one thread reads, this one writes."""
    line: queue.Queue[tuple[float, bytes]] = queue.Queue(
        max(2, int(rate * (delay_s + 0.05) / BLOCK) + 2) if rate else 64
    )
    threading.Thread(target=fill, args=(reading, line, rate, counts), daemon=True).start()
    try:
        while True:
            arrived, block = line.get()
            wait = arrived + delay_s - time.monotonic()
            if wait > 0.0005:
                time.sleep(wait)
            if not block:
                break
            writing.sendall(block)
    except OSError:
        pass
    for end in (reading, writing):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue


def fill(reading: socket.socket, line: queue.Queue[tuple[float, bytes]], rate: float, counts: bool) -> None:
    free_at = 0.0
    try:
        while block := reading.recv(BLOCK):
            if counts:
                count(block)
            if rate:
                free_at = max(free_at, time.monotonic() - 0.01) + len(block) / rate
                wait = free_at - time.monotonic()
                if wait > 0.002:
                    time.sleep(wait)
            line.put((time.monotonic(), block))
    except OSError:
        pass
    line.put((time.monotonic(), b""))


def count(block: bytes) -> None:
    global requests
    found = block.count(b" HTTP/1.1\r\n")
    if found:
        with guard:
            requests += found
            for method, path in LINE.findall(block):
                endpoint = next((item for item in ENDPOINTS if item in path), b"other")
                kinds[f"{method.decode()} {endpoint.decode()}"] += 1
            for match in BLOB_GET.finditer(block):
                if b"\r\nRange:" not in match[0]:
                    reads[match[1].rpartition(b"/")[2]] += 1


class Link:
    """A proxy process before a registry; see link_proxy."""

    def __init__(self, upstream: str, *, latency_ms: float = 0, mb_per_s: float = 0) -> None:
        script = str(Path(__file__))
        options = ["--latency-ms", str(latency_ms), "--mb-per-s", str(mb_per_s)]
        self._process = subprocess.Popen(
            [sys.executable, script, upstream, *options], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        self.address = self._process.stdout.readline().strip()
        self.counts: dict[str, Any] = {}

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        assert self._process.stdout
        self.counts = json.loads(self._process.stdout.read())
        self._process.stdout.close()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("upstream")
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--mb-per-s", type=float, default=0)
    options = parser.parse_args()
    host, _, port = options.upstream.rpartition(":")
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    print(f"127.0.0.1:{listener.getsockname()[1]}", flush=True)

    def report(_number: int, _frame: object) -> None:
        twice = sum(times - 1 for times in reads.values())
        print(json.dumps({"requests": requests, "blob_gets": len(reads), "duplicate_blob_gets": twice, "kinds": kinds}))
        sys.stdout.flush()
        sys.exit(0)

    signal.signal(signal.SIGTERM, report)
    one_way, rate = options.latency_ms / 2000, options.mb_per_s * 1e6
    while True:
        down, _ = listener.accept()
        up = socket.create_connection((host, int(port)))
        for sock in (down, up):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=pump, args=(down, up, one_way, rate, True), daemon=True).start()
        threading.Thread(target=pump, args=(up, down, one_way, rate, False), daemon=True).start()


if __name__ == "__main__":
    main()
