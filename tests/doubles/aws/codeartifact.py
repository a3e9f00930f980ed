"""The two calls of AWS CodeArtifact that a package index needs, after botocore's model of the service (2018-09-22).

moto has no CodeArtifact. ``CodeArtifact(endpoint, token)`` answers with that address and that token; ``asked`` has path
and query of every call. A call without a signature is refused.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


class CodeArtifact:
    def __init__(self, endpoint: str, token: str) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.lives_s = 43_200.0
        self.denied = False
        double = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                double.asked.append((parts.path, dict(parse_qsl(parts.query))))
                if not self.headers.get("Authorization", "").startswith("AWS4-HMAC-SHA256") or double.denied:
                    self.answer(403, {"message": "not authorized"}, {"x-amzn-errortype": "AccessDeniedException"})
                elif (self.command, parts.path) == ("POST", "/v1/authorization-token"):
                    self.answer(200, {"authorizationToken": token, "expiration": time.time() + double.lives_s})
                elif (self.command, parts.path) == ("GET", "/v1/repository/endpoint"):
                    self.answer(200, {"repositoryEndpoint": endpoint})
                else:
                    self.answer(404, {"message": "?"}, {"x-amzn-errortype": "ResourceNotFoundException"})

            do_POST = do_GET

            def answer(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                raw = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(raw)), **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> CodeArtifact:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
