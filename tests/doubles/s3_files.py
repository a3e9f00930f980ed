"""A server of S3's API on loopback whose objects lie on a disk, with faults: for what is large or goes wrong.

It checks no signatures, and knows what uploads, lists and reads of objects need: what S3's API reference says of these
calls, and of Google's XML API, which has them, too. An object is a folder with its parts.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

PIECE = 1 << 20


@dataclass
class Files:
    """What the server has and does. address: ``http://127.0.0.1:PORT``.

    no_ranges: it answers a range with all of an object. busy: so many uploads of parts get 503. lose: numbers of
    parts that are taken and dropped, once each. believes: whether a request with this session token is answered;
    any is unless told. room: bytes it takes before it is full. die_after: parts it takes before it breaks every
    connection. refuse: what it answers to each upload that is begun. shut: what it answers to everything. on_put:
    is called once, before an object is taken. calls: how many requests it saw, by kind; sent: bytes of content that
    it took.
    """

    root: Path
    address: str = ""
    no_ranges: bool = False
    busy: int = 0
    lose: set[int] = field(default_factory=set)
    room: int | None = None
    die_after: int | None = None
    refuse: tuple[int, str] | None = None
    shut: tuple[int, str] | None = None
    on_put: Callable[[], object] | None = None
    believes: Callable[[str], bool] | None = None
    calls: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def objects(self, bucket: str) -> dict[str, Path]:
        """The folders of a bucket's objects, by key."""
        folder = self.root / "objects" / bucket
        return {unquote(each.name): each for each in sorted(folder.iterdir())} if folder.is_dir() else {}

    def read(self, bucket: str, key: str) -> bytes:
        """The bytes of an object."""
        return b"".join(part.read_bytes() for part in _parts(self.objects(bucket)[key]))

    def open_uploads(self) -> list[str]:
        """Ids of uploads that nobody ended."""
        folder = self.root / "uploads"
        return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: Files

    def parse_request(self) -> bool:
        """Read the head of a request; who has no valid token is answered here."""
        if not super().parse_request():
            return False
        if self.files.shut is not None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._error(*self.files.shut)
            return False
        if self.files.believes is None or self.files.believes(self.headers.get("x-amz-security-token", "")):
            return True
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._count("expired")
        self._error(400, "ExpiredToken")
        return False

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _split(self) -> tuple[str, str, dict[str, str]]:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        return bucket, key, query

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("Content-Length", headers.get("length", str(len(body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        said = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n{said}'.encode()
        self._answer(status, body if self.command != "HEAD" else b"", Content_Type="application/xml")

    def _count(self, kind: str) -> None:
        with self.files.lock:
            self.files.calls[kind] += 1

    def _folder(self, bucket: str, key: str) -> Path:
        return self.files.root / "objects" / bucket / quote(key, safe="")

    def _take(self, path: Path) -> str:
        """Write the body; its MD5, which is the ETag."""
        left, hashed = int(self.headers.get("Content-Length", 0)), hashlib.md5(usedforsecurity=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            while left:
                piece = self.rfile.read(min(PIECE, left))
                if not piece:
                    raise ConnectionError
                out.write(piece)
                hashed.update(piece)
                left -= len(piece)
        with self.files.lock:
            self.files.sent += path.stat().st_size
        return f'"{hashed.hexdigest()}"'

    def _refuses(self, number: int) -> bool:
        """Faults of uploads; the body is read first, as keep-alive wants it."""
        files = self.files
        with files.lock:
            if files.busy:
                files.busy -= 1
                status, code = 503, "SlowDown"
            elif files.room is not None and files.sent + int(self.headers.get("Content-Length", 0)) > files.room:
                status, code = 507, "XMinioStorageFull"
            elif files.die_after is not None and number and files.calls["part"] >= files.die_after:
                status, code = 0, ""
            else:
                return False
        if not status:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return True
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._error(status, code)
        return True

    def do_PUT(self) -> None:
        bucket, key, query = self._split()
        if not key:
            self._answer(200)
        elif "uploadId" in query:
            self._put_part(query)
        elif source := self.headers.get("x-amz-copy-source"):
            self._count("copy")
            from_bucket, _, from_key = unquote(source).lstrip("/").partition("/")
            shutil.copytree(self._folder(from_bucket, from_key), self._fresh(bucket, key))
            self._answer(200, b"<CopyObjectResult><ETag>&quot;x&quot;</ETag></CopyObjectResult>")
        elif not self._refuses(0):
            self._count("put")
            if act := self.files.on_put:
                self.files.on_put = None
                act()
            if self.headers.get("If-None-Match") == "*" and self._folder(bucket, key).is_dir():
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._error(412, "PreconditionFailed")
                return
            incoming = self.files.root / "incoming" / f"{threading.get_ident()}"
            etag = self._take(incoming / "00001")
            incoming.rename(self._fresh(bucket, key))
            self._answer(200, ETag=etag)

    def _fresh(self, bucket: str, key: str) -> Path:
        folder = self._folder(bucket, key)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        return folder

    def _put_part(self, query: dict[str, str]) -> None:
        number, folder = int(query["partNumber"]), self.files.root / "uploads" / query["uploadId"]
        if not folder.is_dir():
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._error(404, "NoSuchUpload")
        elif not self._refuses(number):
            path, incoming = folder / f"{number:05}", self.files.root / "incoming" / f"{threading.get_ident()}.part"
            etag = self._take(incoming)
            incoming.rename(path)
            self._count("part")
            if number in self.files.lose:
                self.files.lose.discard(number)
                path.unlink()
            self._answer(200, ETag=etag)

    def do_POST(self) -> None:
        bucket, key, query = self._split()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if "delete" in query:
            keys = [unescape(each) for each in re.findall(r"<Key>(.*?)</Key>", body)]
            for each in keys:
                shutil.rmtree(self._folder(bucket, each), ignore_errors=True)
            self._xml("DeleteResult", "".join(f"<Deleted><Key>{escape(each)}</Key></Deleted>" for each in keys))
        elif "uploads" in query and self.files.refuse:
            self._error(*self.files.refuse)
        elif "uploads" in query:
            self._count("begin")
            name = f"upload-{self.files.calls['begin']}"
            (self.files.root / "uploads" / name).mkdir(parents=True)
            inner = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{name}</UploadId>"
            self._xml("InitiateMultipartUploadResult", inner)
        else:
            self._complete(bucket, key, query["uploadId"], body)

    def _complete(self, bucket: str, key: str, upload: str, body: str) -> None:
        folder = self.files.root / "uploads" / upload
        if not folder.is_dir():
            self._error(404, "NoSuchUpload")
            return
        wanted = sorted(f"{int(number):05}" for number in re.findall(r"<PartNumber>(\d+)</PartNumber>", body))
        if wanted != [part.name for part in _parts(folder)]:
            self._error(400, "InvalidPart")
            return
        self._count("complete")
        folder.rename(self._fresh(bucket, key))
        self._xml("CompleteMultipartUploadResult", f'<Key>{escape(key)}</Key><ETag>"{upload}-1"</ETag>')

    def do_GET(self) -> None:
        bucket, key, query = self._split()
        if not key:
            self._list(bucket, query)
        elif "uploadId" in query:
            self._list_parts(query["uploadId"])
        else:
            self._get(bucket, key)

    do_HEAD = do_GET

    def _list_parts(self, upload: str) -> None:
        folder = self.files.root / "uploads" / upload
        if not folder.is_dir():
            self._error(404, "NoSuchUpload")
            return
        rows = "".join(
            f"<Part><PartNumber>{int(part.name)}</PartNumber><ETag>&quot;{part.name}&quot;</ETag>"
            f"<Size>{part.stat().st_size}</Size></Part>"
            for part in _parts(folder)
        )
        self._xml("ListPartsResult", f"<UploadId>{upload}</UploadId><IsTruncated>false</IsTruncated>{rows}")

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        rows = ""
        for key, folder in self.files.objects(bucket).items():
            if key.startswith(query.get("prefix", "")):
                size = sum(part.stat().st_size for part in _parts(folder))
                rows += (
                    f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size><ETag>&quot;x&quot;</ETag>"
                    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                )
        self._xml("ListBucketResult", f"<Name>{bucket}</Name><IsTruncated>false</IsTruncated>{rows}")

    def _get(self, bucket: str, key: str) -> None:
        folder = self._folder(bucket, key)
        if not folder.is_dir():
            self._error(404, "NoSuchKey")
            return
        parts = _parts(folder)
        size = sum(part.stat().st_size for part in parts)
        first, last, status = 0, size - 1, 200
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if found and not self.files.no_ranges:
            first, last, status = int(found[1]), min(int(found[2] or size), size - 1), 206
        self._count("range" if status == 206 else "get")
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", formatdate(0, usegmt=True))
        self.end_headers()
        if self.command == "GET":
            self._send(parts, first, last + 1)

    def _send(self, parts: list[Path], first: int, stop: int) -> None:
        at = 0
        for part in parts:
            size = part.stat().st_size
            begin, end = max(first - at, 0), min(stop - at, size)
            if begin < end:
                with part.open("rb") as source:
                    self.wfile.flush()
                    self.connection.sendfile(source, begin, end - begin)
            at += size

    def do_DELETE(self) -> None:
        bucket, key, query = self._split()
        if "uploadId" in query:
            shutil.rmtree(self.files.root / "uploads" / query["uploadId"], ignore_errors=True)
        else:
            shutil.rmtree(self._folder(bucket, key), ignore_errors=True)
        self._answer(204)

    def _xml(self, name: str, inner: str) -> None:
        self._answer(200, f"<?xml version='1.0'?><{name}>{inner}</{name}>".encode(), Content_Type="application/xml")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing: clients hang up."""


@contextmanager
def s3_files(root: Path, *, host: str = "127.0.0.1") -> Iterator[Files]:
    """A server over a folder, which may have objects of an earlier one."""
    files = Files(root)
    server = _Server((host, 0), type("Handler", (_Handler,), {"files": files}))
    files.address = f"http://{host}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


__all__ = ["Files", "s3_files"]


def main() -> None:
    """``python -m tests.doubles.s3_files FOLDER HOST``: prints its address, ends with its standard input."""
    import sys

    with s3_files(Path(sys.argv[1]), host=sys.argv[2]) as files:
        print(files.address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
