"""The real notation, and a timestamp authority that it and we can ask."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from tests.doubles.authorities import Issued, OpensslTimestamps, serving
from tests.patience import patient


class Notation:
    """The program with a configuration of its own."""

    def __init__(self, program: str, home: Path) -> None:
        self.program, self.home = program, home
        self.folder = home / ".config" / "notation"
        self.folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HOME": str(self.home)}
        command = [self.program, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=patient(60))

    def trust(self, *anchors: Issued, stamps: Sequence[Issued] = (), **statement: Any) -> Path:
        """Trust these, for every repository unless told otherwise; the folder with the policy and the stores."""
        stores = {"ca": anchors, "tsa": stamps}
        for kind, issued in stores.items():
            store = self.folder / "truststore" / "x509" / kind / "plat"
            store.mkdir(parents=True, exist_ok=True)
            for number, one in enumerate(issued):
                (store / f"{number}.pem").write_bytes(one.certificate.public_bytes(Encoding.PEM))
        usual = {
            "name": "p",
            "registryScopes": ["*"],
            "signatureVerification": {"level": "strict"},
            "trustStores": ["ca:plat", *(["tsa:plat"] if stamps else [])],
            "trustedIdentities": ["*"],
        }
        document = {"version": "1.0", "trustPolicies": [{**usual, **statement}]}
        (self.folder / "trustpolicy.json").write_text(json.dumps(document))
        return self.folder

    def sign(self, key: Issued, image: str, *flags: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "own.key").write_bytes(key.key_pem)
        (self.folder / "own.crt").write_bytes(key.pem)
        keys = [{"name": "own", "keyPath": str(self.folder / "own.key"), "certPath": str(self.folder / "own.crt")}]
        (self.folder / "signingkeys.json").write_text(json.dumps({"default": "own", "keys": keys}))
        return self("sign", "--insecure-registry", *flags, image)

    def verify(self, image: str) -> subprocess.CompletedProcess[str]:
        return self("verify", "--insecure-registry", image)


@contextmanager
def serve_timestamps(authority: OpensslTimestamps) -> Iterator[str]:
    """The authority behind HTTP (RFC 3161 section 3.4); its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = self.rfile.read(int(self.headers["Content-Length"]))
            right = self.headers["Content-Type"] == "application/timestamp-query"
            answer = authority.answer(request) if right else b""
            self.send_response(200 if right else 415)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as address:
        yield f"{address}tsa"
