"""A package index on loopback: pages made by the test, requests kept."""

from __future__ import annotations

import base64
import ssl
import threading
from collections.abc import Collection, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.doubles.certificates import Certificates


class IndexServer:
    """pages: path to content and type. Redirects: path to where. Every answer has an ETag and is asked for with it.
    user: ``name:password`` that has to be given. cut: paths whose first answer ends in the middle; the rest of them is
    given to who asks for it."""

    def __init__(
        self,
        pages: Mapping[str, tuple[bytes, str]],
        *,
        redirects: Mapping[str, str] | None = None,
        user: str = "",
        cut: Collection[str] = (),
        certificates: Certificates | None = None,
    ) -> None:
        self.asked: list[tuple[str, int]] = []
        """Path and status of every request."""
        server, uncut = self, set(cut)
        wanted = f"Basic {base64.b64encode(user.encode()).decode()}" if user else ""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                if wanted and self.headers.get("Authorization") != wanted:
                    self.answer(401, {"WWW-Authenticate": 'Basic realm="index"'})
                elif path in (redirects or {}):
                    self.answer(302, {"Location": (redirects or {})[path]})
                elif path not in pages:
                    self.answer(404, {})
                else:
                    content, kind = pages[path]
                    tag = f'"{hash(content)}"'
                    same = self.headers.get("If-None-Match") == tag
                    head = {"Content-Type": kind, "ETag": tag, "Cache-Control": "max-age=600"}
                    if path in cut and "Range" in self.headers:
                        start = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0])
                        rest = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
                        self.answer(206, head | rest, content[start:])
                    elif path in uncut:
                        uncut.remove(path)
                        self.answer(200, head | {"Accept-Ranges": "bytes"}, content, sent=len(content) // 2)
                    else:
                        self.answer(304 if same else 200, head, b"" if same else content)

            def answer(
                self, status: int, head: Mapping[str, str], body: bytes = b"", *, sent: int | None = None
            ) -> None:
                server.asked.append((urlsplit(self.path).path, status))
                self.send_response(status)
                for name, value in head.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[:sent])
                self.close_connection = self.close_connection or sent is not None

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificates:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates.certificate, certificates.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self.url = f"{'https' if certificates else 'http'}://{self.address}/simple/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> IndexServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
