"""A package index on loopback: the simple API as HTML and JSON, attestations, twine's uploads, and faults.

Written after the specifications, with nothing of the code under test. ``index.add(wheel)`` offers a file;
``index.down`` makes every answer a 503; ``index.asked`` has method, path, status and Authorization of every request.
"""

from __future__ import annotations

import base64
import email.parser
import email.policy
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

JSON = "application/vnd.pypi.simple.v1+json"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass
class Offered:
    """A file. served: what is given in place of its content; hashes: as the page says them."""

    filename: str
    content: bytes
    hashes: dict[str, str]
    served: bytes | None = None
    yanked: str | None = None
    metadata: bytes | None = None
    provenance: bytes = b""
    form: dict[str, list[str]] = field(default_factory=dict)
    """Fields of its upload."""


@dataclass
class Asked:
    method: str
    path: str
    status: int
    authorization: str


class PackageIndex:
    """user: ``name:password`` that has to be given. json: whether pages are JSON where it is asked for. fallback: where
    it sends who asks for a project that it lacks, as pypiserver does."""

    def __init__(self, *, user: str = "", json: bool = True, fallback: str = "") -> None:
        self.projects: dict[str, dict[str, Offered]] = {}
        self.status: dict[str, tuple[str, str]] = {}
        self.asked: list[Asked] = []
        self.down = False
        self.status_for: dict[str, int] = {}
        """Path to a status that it answers in place of anything."""
        self.cut: set[str] = set()
        """File names whose first whole answer ends in the middle."""
        self.user, self.json, self.fallback = user, json, fallback
        self.moved_files = ""
        """Another host that serves the files, as ``http://127.0.0.1:1234``."""
        index = self

        class Handler(_Handler):
            def do_GET(self) -> None:
                index._get(self)

            def do_POST(self) -> None:
                index._post(self)

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.index = self  # type: ignore[attr-defined]
        self.address = f"127.0.0.1:{self._server.server_port}"
        self.origin = f"http://{self.address}"
        self.url, self.upload = f"{self.origin}/simple/", f"{self.origin}/upload/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> PackageIndex:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, wheel: Path, **about: Any) -> Offered:
        content = wheel.read_bytes()
        about.setdefault("hashes", {"sha256": hashlib.sha256(content).hexdigest()})
        offered = Offered(wheel.name, content, **about)
        self.projects.setdefault(normal(wheel.name.split("-")[0]), {})[wheel.name] = offered
        return offered

    def files_asked(self) -> list[str]:
        return [one.path.rpartition("/")[2] for one in self.asked if one.path.startswith("/files/")]

    def _refused(self, handler: _Handler) -> bool:
        path = urlsplit(handler.path).path
        if self.down or path in self.status_for:
            handler.answer(self.status_for.get(path, 503), b"out of order")
            return True
        wanted = f"Basic {base64.b64encode(self.user.encode()).decode()}"
        if self.user and handler.headers.get("Authorization") != wanted:
            handler.answer(401, b"who are you?", {"WWW-Authenticate": 'Basic realm="index"'})
            return True
        return False

    def _get(self, handler: _Handler) -> None:
        if self._refused(handler):
            return
        steps = [unquote(step) for step in urlsplit(handler.path).path.split("/")[1:]]
        match steps:
            case ["simple", name, ""]:
                self._page(handler, normal(name))
            case ["files", name, filename]:
                self._file(handler, self.projects.get(name, {}), filename)
            case _:
                handler.answer(404)

    def _page(self, handler: _Handler, name: str) -> None:
        if name not in self.projects:
            if self.fallback:
                handler.answer(303, headers={"Location": f"{self.fallback}{name}/"})
            else:
                handler.answer(404)
            return
        files = list(self.projects[name].values())
        status, reason = self.status.get(name, ("", ""))
        if self.json and "json" in handler.headers.get("Accept", ""):
            kind, body = JSON, json.dumps(self._listed(name, files, status, reason)).encode()
        else:
            kind, body = "text/html", self._html(name, files, status, reason).encode()
        tag = f'"{hashlib.sha256(body).hexdigest()}"'
        if handler.headers.get("If-None-Match") == tag:
            handler.answer(304, headers={"ETag": tag})
        else:
            handler.answer(200, body, {"Content-Type": kind, "ETag": tag})

    def _url(self, name: str, file: Offered) -> str:
        return f"{self.moved_files or '../..'}/files/{name}/{quote(file.filename)}"

    def _listed(self, name: str, files: list[Offered], status: str, reason: str) -> dict[str, Any]:
        rows = []
        for file in files:
            row: dict[str, Any] = {"filename": file.filename, "url": self._url(name, file), "hashes": file.hashes}
            row |= {"size": len(file.content), "yanked": file.yanked if file.yanked is not None else False}
            if file.metadata is not None:
                row["core-metadata"] = {"sha256": hashlib.sha256(file.metadata).hexdigest()}
            if file.provenance:
                row["provenance"] = f"{self.origin}/files/{name}/{quote(file.filename)}.provenance"
            rows.append(row)
        stated = {"project-status": {"status": status, "reason": reason}} if status else {}
        return {"meta": {"api-version": "1.4"}, "name": name, "versions": [], "files": rows, **stated}

    def _html(self, name: str, files: list[Offered], status: str, reason: str) -> str:
        head = f'<meta name="pypi:project-status" content="{status}">' if status else ""
        head += f'<meta name="pypi:project-status-reason" content="{reason}">' if reason else ""
        rows = []
        for file in files:
            kind = next(iter(file.hashes), "")
            fragment = f"#{kind}={file.hashes[kind]}" if kind else ""
            yanked = f' data-yanked="{file.yanked}"' if file.yanked is not None else ""
            metadata = ' data-core-metadata="true"' if file.metadata is not None else ""
            rows.append(f'<a href="{self._url(name, file)}{fragment}"{yanked}{metadata}>{file.filename}</a>')
        return f"<!DOCTYPE html><html><head>{head}</head><body>{''.join(rows)}</body></html>"

    def _file(self, handler: _Handler, files: dict[str, Offered], filename: str) -> None:
        for ending, attribute in ((".metadata", "metadata"), (".provenance", "provenance")):
            known = files.get(filename.removesuffix(ending)) if filename.endswith(ending) else None
            if known and getattr(known, attribute):
                return handler.answer(200, getattr(known, attribute))
        file = files.get(filename)
        if file is None:
            return handler.answer(404)
        content = file.content if file.served is None else file.served
        start = int((re.match(r"bytes=(\d+)-", handler.headers.get("Range", "")) or [0, 0])[1])
        if start:
            where = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
            return handler.answer(206, content[start:], where)
        if filename in self.cut:
            self.cut.remove(filename)
            return handler.answer(200, content, cut=len(content) // 2)
        return handler.answer(200, content)

    def _post(self, handler: _Handler) -> None:
        length = int(handler.headers["Content-Length"])
        body = handler.rfile.read(length)
        if self._refused(handler):
            return None
        kind = handler.headers["Content-Type"]
        whole = f"Content-Type: {kind}\r\n\r\n".encode() + body
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(whole)
        form: dict[str, list[str]] = {}
        file: tuple[str, bytes] = ("", b"")
        for part in message.iter_parts():
            name = part.get_param("name", header="content-disposition")
            content = part.get_payload(decode=True)
            if part.get_filename():
                file = part.get_filename(), content
            else:
                form.setdefault(name, []).append(content.decode())
        filename, content = file
        digest = hashlib.sha256(content).hexdigest()
        project = self.projects.setdefault(normal(form["name"][0]), {})
        if form[":action"] != ["file_upload"] or form.get("sha256_digest") != [digest]:
            return handler.answer(400, b"not an upload")
        if filename in project and project[filename].content != content:
            return handler.answer(400, b"File already exists")
        project[filename] = Offered(filename, content, {"sha256": digest}, form=form)
        return handler.answer(200)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Who asked went away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, *, cut: int | None = None
    ) -> None:
        self.seen.append(Asked(self.command, self.path, status, self.headers.get("Authorization", "")))
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])
        self.close_connection = self.close_connection or cut is not None

    @property
    def seen(self) -> list[Asked]:
        return self.server.index.asked  # type: ignore[attr-defined,no-any-return]

    def log_message(self, *_: object) -> None:
        """Quiet."""
