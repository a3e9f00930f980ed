"""A registry and what it sends us to, in networks of their own: run by ``unshare --net``. Prints the outcomes as JSON.

The documentation networks (RFC 5737) stand for public addresses. The servers note every connection, not only requests.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.client import DistributionRegistry, Retries
from registry_pipelines.registry.protocol import Parcel, UploadSession

PUBLIC, STORE, OFFICE, DEPOT = "192.0.2.10", "198.51.100.7", "10.9.9.9", "192.168.7.7"
METADATA, CARRIER_NAT, LOCAL = "169.254.169.254", "100.64.0.5", "127.0.0.1"
PORT = 5000
CONTENT = b"content"
DIGEST = Digest.of(CONTENT)
ONCE = Retries(attempts=1)


class Server(http.server.ThreadingHTTPServer):
    """Sends every blob to ``where``, as long as there is one, else gives it."""

    daemon_threads = True

    def __init__(self, address: str) -> None:
        self.where = ""
        self.connections = 0
        self.seen: list[str] = []
        super().__init__((address, PORT), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None: ...

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.server.seen.append(f"{self.command} {self.path} {self.headers.get('Authorization', '')}".strip())
        if self.path.startswith("http://"):  # a proxy
            self.answer(200, CONTENT)
        elif self.path == "/v2/" and self.server.where:
            challenge = f'Bearer realm="{self.server.where}/token",service="r"'
            self.answer(401, WWW_Authenticate=challenge)
        elif self.path.startswith("/v2/a/tags/list") and self.server.where:
            self.answer(200, b'{"tags": ["v1"]}', Link=f'<{self.server.where}/next>; rel="next"')
        elif self.server.where:
            self.answer(307, Location=f"{self.server.where}/store/blob")
        else:
            self.answer(200, CONTENT)

    def do_POST(self) -> None:
        self.answer(202, Location=f"{self.server.where}/upload")


class Never:
    sent_bytes = 0

    def carry(self, parcel: Parcel) -> bytes:
        raise AssertionError(f"carried to {parcel.addresses}")


def main() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in (PUBLIC, STORE, OFFICE, DEPOT, METADATA, CARRIER_NAT):
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    servers = {one: Server(one) for one in (PUBLIC, STORE, OFFICE, DEPOT, METADATA, CARRIER_NAT, LOCAL)}
    outcomes: dict[str, Any] = {}

    def ask(
        name: str,
        start: str,
        target: str,
        what: Callable[[DistributionRegistry], object] = lambda one: bytes(_read(one)),
        *,
        host: str = "",
        **options: Any,
    ) -> None:
        servers[start].where = f"http://{target}"
        end = servers[target.rpartition(":")[0].strip("[]").removeprefix("::ffff:")] if not host else servers[OFFICE]
        before = end.connections
        client = DistributionRegistry(f"{start}:{PORT}", plain_http=True, retries=ONCE, **options)
        try:
            said = f"{what(client)!r}"
        except RegistryPipelinesError as error:
            said = f"{type(error).__name__}: {error}"
        client.close()
        servers[start].where = ""
        outcomes[name] = {"said": said, "connections": end.connections - before}

    def upload(client: DistributionRegistry) -> object:
        session = client.begin_upload("a")
        client.append_upload(session, memoryview(b"x"))
        return session.offset

    def carry(client: DistributionRegistry) -> object:
        client.append_carried(UploadSession("a", f"http://{OFFICE}:{PORT}/upload", 0), Never())
        return "carried"

    for place, address in (("inner", OFFICE), ("metadata", METADATA), ("carrier", CARRIER_NAT), ("loopback", LOCAL)):
        ask(f"public to {place}", PUBLIC, f"{address}:{PORT}")
    ask("public to mapped", PUBLIC, f"[::ffff:{OFFICE}]:{PORT}")
    ask("public to public", PUBLIC, f"{STORE}:{PORT}")
    ask("inner to inner", OFFICE, f"{DEPOT}:{PORT}")
    ask("inner to metadata", OFFICE, f"{METADATA}:{PORT}")
    for allow in (OFFICE, f"{OFFICE}:{PORT}", "10.0.0.0/8"):
        ask(f"allowed as {allow}", PUBLIC, f"{OFFICE}:{PORT}", redirects=[allow])
    ask("another port is allowed", PUBLIC, f"{OFFICE}:{PORT}", redirects=[f"{OFFICE}:443"])
    ask("metadata allowed", PUBLIC, f"{METADATA}:{PORT}", redirects=[METADATA])
    ask("token service inside", PUBLIC, f"{OFFICE}:{PORT}", lambda client: client.ping())
    ask("upload inside", PUBLIC, f"{OFFICE}:{PORT}", upload)
    ask("carried inside", PUBLIC, f"{OFFICE}:{PORT}", carry)
    ask("next page inside", PUBLIC, f"{OFFICE}:{PORT}", lambda client: list(client.tags("a")))
    proxy = {"HTTP_PROXY": f"http://{LOCAL}:{PORT}"}
    ask("through a proxy", PUBLIC, f"{OFFICE}:{PORT}", environ=proxy)
    with _names({"turning.example": [STORE, OFFICE], "both.example": [OFFICE]}):
        ask("a name inside", PUBLIC, f"both.example:{PORT}", host="both.example")
        ask("a name allowed", PUBLIC, f"both.example:{PORT}", host="both.example", redirects=["*.example"])

        def twice(client: DistributionRegistry) -> object:
            first = bytes(_read(client))
            servers[STORE].connections = 0
            client.close()
            return first, bytes(_read(client))

        ask("a name that turns", PUBLIC, f"turning.example:{PORT}", twice, host="turning.example")
    json.dump(outcomes, sys.stdout)


def _read(client: DistributionRegistry) -> memoryview:
    with client.open_blob("a", DIGEST) as reader:
        buffer = memoryview(bytearray(100))
        return buffer[: reader.readinto(buffer)]


@contextlib.contextmanager
def _names(known: dict[str, list[str]]) -> Any:
    """A resolver that gives the next address of a name each time it is asked."""
    real = socket.getaddrinfo

    def answer(host: str, port: int, *more: Any) -> Any:
        if host in known:
            here = known[host]
            host = here.pop(0) if len(here) > 1 else here[0]
        return real(host, port, *more)

    socket.getaddrinfo = answer  # type: ignore[assignment]
    try:
        yield
    finally:
        socket.getaddrinfo = real


if __name__ == "__main__":
    main()
