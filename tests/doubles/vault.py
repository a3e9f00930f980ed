"""Vault's transit engine, as far as a key that signs needs it: POST ``/v1/transit/sign/NAME``.

``with VaultDouble(private_key) as vault:`` ``vault.address`` is VAULT_ADDR, ``TOKEN`` its VAULT_TOKEN. The rules are
Vault's documented ones (developer.hashicorp.com/vault/api-docs/secret/transit, "Sign data"): it hashes what it gets
with SHA-256, signs as DER unless told, and answers ``vault:vN:<base64>``; a wrong token is 403, an unknown key 400.
"""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

TOKEN = "vault-token"


class VaultDouble:
    """One key ``release`` in version 1."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self.key = key
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, path: str, token: str | None, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if token != TOKEN:
            return 403, {"errors": ["permission denied"]}
        if path.removeprefix("/v1/transit/sign/") not in ("release", "release/sha2-256"):
            return 400, {"errors": ["signing key not found"]}
        if asked.get("key_version", 0) > 1 or asked.get("prehashed"):
            return 400, {"errors": ["requested version for signing is higher than the latest key version"]}
        made = self.key.sign(base64.b64decode(asked["input"]), ec.ECDSA(hashes.SHA256()))
        return 200, {"data": {"key_version": 1, "signature": f"vault:v1:{base64.b64encode(made).decode()}"}}

    def _handler(double) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
                status, document = double.answer(self.path, self.headers.get("X-Vault-Token"), asked)
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_PUT = do_POST

            def log_message(self, *_arguments: object) -> None:
                pass

        return Handler

    def __enter__(self) -> VaultDouble:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
