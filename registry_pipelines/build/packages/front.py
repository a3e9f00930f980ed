"""The one index that pip sees: on this machine, for one question, behind an address that nobody can guess.

It speaks the simple API in JSON (PEP 691) and offers every wheel's METADATA, so pip downloads nothing to resolve. It is
also pip's proxy, which refuses: pip reaches no other place, whatever a requirement or a package names.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from registry_pipelines.build.packages.pages import JSON_TYPE, WheelFile
from registry_pipelines.build.packages.sources import Found, Sources
from registry_pipelines.build.wheel_store import WheelStore
from registry_pipelines.errors import LocalError, RegistryPipelinesError, RequirementsInvalid
from registry_pipelines.registry.protocol import BUFFER_BYTES

MAX_NAME_CHARACTERS = 255
"""Of a project's or a file's name."""

PIP_WAITS_S = "3600"
"""pip waits for the front, which has limits of its own for every index."""


class Front:
    """See the module. A context manager; it ends with the block."""

    def __init__(self, sources: Sources, store: WheelStore) -> None:
        self.failures: list[RegistryPipelinesError] = []
        """What went wrong while pip asked. pip itself takes any failure for "there is no such project"."""
        self._sources, self._store = sources, store
        self._secret = secrets.token_urlsafe(24)
        front = self

        class Handler(_Handler):
            def do_GET(self) -> None:
                front._answer(self)

            def do_CONNECT(self) -> None:
                front._refuse(self)

            do_POST = do_HEAD = do_PUT = do_CONNECT

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._own = f"127.0.0.1:{self._server.server_port}"
        self.origin = f"http://{self._own}"
        self._by_pip = f"Basic {base64.b64encode(f'pip:{self._secret}'.encode()).decode()}".encode()
        self._files = f"{self.origin}/{self._secret}/files/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="packages", daemon=True)

    def __enter__(self) -> Front:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def settings(self) -> Mapping[str, str]:
        """Variables of pip's process: the index, and no way around it. The address is a secret of this user's, and
        stands in the process's environment alone."""
        proxies = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        return {
            **dict.fromkeys(proxies, f"http://pip:{self._secret}@{self._own}"),
            # No exception: what pip asks of this machine itself comes here, too, and the front knows its own name.
            "no_proxy": "",
            "NO_PROXY": "",
            "NETRC": "/dev/null",
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_INDEX_URL": f"{self.origin}/{self._secret}/simple/",
            "PIP_KEYRING_PROVIDER": "disabled",
            "PIP_NO_CACHE_DIR": "1",
            "PIP_RETRIES": "0",
            "PIP_TIMEOUT": PIP_WAITS_S,
        }

    def named(self, url: str) -> tuple[str, str] | None:
        """Project and file name of an address of the front; None for another address."""
        if not url.startswith(self._files):
            return None
        project, _, filename = urlsplit(url).path.rpartition("/files/")[2].partition("/")
        return project, unquote(filename)

    def redacted(self, text: str) -> str:
        """pip's words without the front's address, which would tell nobody anything."""
        return text.replace(f"{self.origin}/{self._secret}/simple", "the indexes").replace(self._secret, "...")

    def raise_failure(self) -> None:
        """Raise the first failure, if there was one: an answer of pip is worth nothing then."""
        if self.failures:
            raise self.failures[0]

    def _answer(self, handler: _Handler) -> None:
        parts = urlsplit(handler.path)
        if parts.netloc not in ("", self._own):  # to the proxy; also what pip asks of the front comes as to a proxy
            return self._refuse(handler)
        steps = [unquote(step) for step in parts.path.split("/")[1:]]
        if not steps or not secrets.compare_digest(steps[0].encode(), self._secret.encode()):
            return handler.reply(404)
        try:
            match steps[1:]:
                case ["simple", name, ""] if 0 < len(name) <= MAX_NAME_CHARACTERS:
                    self._page(handler, name)
                case ["files", name, filename] if filename.endswith(".metadata"):
                    raw = self._sources.metadata(name, filename.removesuffix(".metadata"), self._store)
                    handler.reply(200, raw, "text/plain; charset=utf-8")
                case ["files", name, filename]:
                    self._file(handler, self._sources.take(name, filename, self._store)[1])
                case _:
                    handler.reply(404)
        except (ConnectionError, TimeoutError):
            raise  # pip went away
        except (RegistryPipelinesError, OSError) as error:
            said = f"this machine cannot keep what an index gives: {error}"
            self.failures.append(error if isinstance(error, RegistryPipelinesError) else LocalError(said))
            handler.reply(403, f"{type(error).__name__}".encode())
        return None

    def _page(self, handler: _Handler, name: str) -> None:
        found = self._sources.project(name)
        if found is None:
            return handler.reply(404)
        return handler.reply(200, json.dumps(self._listed(found)).encode(), JSON_TYPE)

    def _listed(self, found: Found) -> dict[str, Any]:
        project = found.project
        status = {"project-status": {"status": project.status, "reason": project.reason}} if project.status else {}
        return {
            "meta": {"api-version": "1.1"},
            "name": project.name,
            "versions": [],
            "files": [self._offered(project.name, file) for file in project.files],
            **status,
        }

    def _offered(self, project: str, file: WheelFile) -> dict[str, Any]:
        return {
            "filename": file.filename,
            "url": f"{self._files}{project}/{quote(file.filename)}",
            "hashes": file.hashes,
            "core-metadata": True,
            "dist-info-metadata": True,
            **({"size": file.size} if file.size is not None else {}),
            **({"requires-python": file.requires_python} if file.requires_python else {}),
            **({"upload-time": file.uploaded} if file.uploaded else {}),
            "yanked": False if file.yanked is None else file.yanked or True,
        }

    def _file(self, handler: _Handler, path: Path) -> None:
        with path.open("rb") as content:
            handler.head(200, path.stat().st_size, "application/octet-stream")
            while piece := content.read(BUFFER_BYTES):
                handler.wfile.write(piece)

    def _refuse(self, handler: _Handler) -> None:
        """What pip asks of another place than the front. Others on this machine know no secret, and change nothing."""
        if not secrets.compare_digest(handler.headers.get("Proxy-Authorization", "").encode(), self._by_pip):
            return handler.reply(407)
        asked = handler.path if handler.command == "CONNECT" else urlsplit(handler.path).netloc
        self.failures.append(
            RequirementsInvalid(
                f"a requirement leads to {asked.rpartition('@')[2][:200]!r}, and wheels come from the indexes of "
                "`index` alone",
                do="Publish what is there as a wheel to one of them, and name the project alone",
            )
        )
        return handler.reply(403)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """pip went away in the middle."""


class _Handler(BaseHTTPRequestHandler):
    """Answers short and quietly."""

    protocol_version = "HTTP/1.1"
    timeout = 60

    def head(self, status: int, length: int, kind: str) -> None:
        """Status and headers."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def reply(self, status: int, body: bytes = b"", kind: str = "text/plain") -> None:
        """A whole answer; who asked may be gone."""
        with contextlib.suppress(OSError):
            self.head(status, len(body), kind)
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: paths are secret."""


__all__ = ["Front"]
