"""A mirror of Debian's security archive: an index of packages by suite, and packages made by the test."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DATE = "Tue, 03 Feb 2026 10:00:00 +0100"


def changelog(source: str, *entries: tuple[str, str]) -> str:
    """entries: version and text, the newest first."""
    return "".join(
        f"{source} ({version}) bookworm-security; urgency=high\n\n  * {text}\n\n -- A B <a@b.example>  {DATE}\n\n"
        for version, text in entries
    )


def make_deb(files: Mapping[str, bytes], *, suffix: str = ".xz") -> bytes:
    """A package with these files. suffix: how its data is compressed."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    pack = {".xz": lzma.compress, ".gz": gzip.compress, "": bytes}[suffix]
    members = [("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), (f"data.tar{suffix}", pack(raw.getvalue()))]
    return b"!<arch>\n" + b"".join(
        f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        + content
        + b"\n" * (len(content) % 2)
        for name, content in members
    )


def documented(package: str, text: str) -> dict[str, bytes]:
    """Files of a package with its changelog."""
    return {"usr/bin/x": b"#!", f"usr/share/doc/{package}/changelog.Debian.gz": gzip.compress(text.encode())}


class DebianArchive:
    """A running mirror. files: what it has, by path; packages are added by :meth:`add`."""

    def __init__(self, codename: str = "bookworm") -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self._folder = f"dists/{codename}-security/main/binary-amd64"
        self._stanzas: list[str] = []
        archive = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                archive.asked.append(self.path)
                content = archive.files.get(self.path.lstrip("/"))
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.send_header("ETag", f'"{hashlib.md5(content or b"", usedforsecurity=False).hexdigest()}"')
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, package: str, version: str, content: bytes, *, source: str = "", sha256: str = "") -> None:
        """A package of the suite. source: as its stanza has it. sha256: in the index, the content's unless told."""
        path = f"pool/{package}_{version.replace(':', '%3a')}.deb"
        self.files[path] = content
        fields = {
            "Package": package,
            "Source": source,
            "Version": version,
            "Filename": path,
            "Size": str(len(content)),
            "SHA256": sha256 or hashlib.sha256(content).hexdigest(),
        }
        self._stanzas.append("".join(f"{name}: {value}\n" for name, value in fields.items() if value))
        self.files[f"{self._folder}/Packages.xz"] = lzma.compress("\n".join(self._stanzas).encode())

    def __enter__(self) -> DebianArchive:
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01])
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
