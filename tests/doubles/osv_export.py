"""OSV's export: a public bucket with a folder for each ecosystem, records made by the test, dates of today.

What lies there (google/osv.dev, ``go/cmd/exporter``, 2026): ``ecosystems.txt``; and for each ecosystem, by its name up
to the colon (``Debian`` for ``Debian:12``), ``all.zip`` with ``ID.json`` inside, each record alone as ``ID.json``, and
``modified_id.csv``: a line ``modified,ID`` for each record, the newest first. A record lies in the folder of every
ecosystem it speaks of. The bucket answers as Google Cloud Storage does: ETag, ``x-goog-hash``, ranges, ``If-Match``,
``If-None-Match``, XML for what is not there.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import threading
import zipfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

Record = dict[str, Any]
BLOCK_BYTES = 64 * 1024


def _time(moment: datetime | None) -> str:
    return (moment or datetime.now(UTC) - timedelta(hours=3)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def debian(
    cve: str, source: str, fixed: Mapping[str, str], *, urgency: str = "not yet assigned", when: datetime | None = None
) -> Record:
    """One of Debian's security tracker. fixed: release (``12``) to the source version with the fix, empty: none yet."""
    affected = [
        {
            "package": {
                "ecosystem": f"Debian:{release}",
                "name": source,
                "purl": f"pkg:deb/debian/{source}?arch=source",
            },
            "ranges": [
                {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, *([{"fixed": version}] if version else [])]}
            ],
            "ecosystem_specific": {"urgency": urgency},
        }
        for release, version in fixed.items()
    ]
    return {
        "id": f"DEBIAN-{cve}",
        "modified": _time(when),
        "published": "2024-02-01T10:00:00Z",
        "schema_version": "1.7.3",
        "upstream": [cve],
        "details": f"A fault of {source}.",
        "affected": affected,
    }


def pypi(
    name: str, number: str, *, fixed: str, introduced: str = "0", vector: str = "", when: datetime | None = None
) -> list[Record]:
    """GitHub's record and that of PyPA about one fault of a package, aliases of each other. number: ``2024-1234``."""
    cve, ghsa, pysec = f"CVE-{number}", f"GHSA-{_letters(number)}", f"PYSEC-{number}"
    events = [{"introduced": introduced}, {"fixed": fixed}]
    affected = [
        {
            "package": {"ecosystem": "PyPI", "name": name, "purl": f"pkg:pypi/{name}"},
            "ranges": [{"type": "ECOSYSTEM", "events": events}],
        }
    ]
    common: Record = {"modified": _time(when), "schema_version": "1.7.3", "details": f"A fault of {name}."}
    rated: Record = {"severity": [{"type": "CVSS_V3", "score": vector}]} if vector else {}
    stated = {"database_specific": {"severity": "HIGH", "cwe_ids": ["CWE-20"], "github_reviewed": True}}
    return [
        {"id": ghsa, "aliases": [cve, pysec], "summary": f"{name} is wrong", **common, **rated, **stated}
        | {"affected": affected},
        {"id": pysec, "aliases": [cve, ghsa], **common, "affected": affected},
    ]


def malicious(
    name: str, number: str, *, ecosystem: str = "PyPI", versions: Iterable[str] = (), when: datetime | None = None
) -> Record:
    """One of the OpenSSF's malicious packages (``MAL-``): without severity or fix; every version unless told."""
    package = {"ecosystem": ecosystem, "name": name, "purl": f"pkg:{ecosystem.lower()}/{name}"}
    listed = list(versions)
    what: Record = {"versions": listed} if listed else {"ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}]}
    return {
        "id": f"MAL-{number}",
        "modified": _time(when),
        "published": "2025-03-01T10:00:00Z",
        "schema_version": "1.7.3",
        "summary": f"Malicious code in {name} ({ecosystem})",
        "details": f"{name} sends what it finds away.",
        "affected": [{"package": package, **what, "database_specific": {"cwes": [{"cweId": "CWE-506"}]}}],
    }


def small_set(when: datetime | None = None) -> list[Record]:
    """Debian (11 to 13) and PyPI with a dozen records of today; what a current image holds is affected by none of
    them."""
    releases = ("11", "12", "13")
    return [
        *(
            debian(f"CVE-2021-{number}", source, dict.fromkeys(releases, version), when=when)
            for number, source, version in (
                (23840, "openssl", "1.1.1k-0"),
                (33574, "glibc", "2.31-10"),
                (22945, "curl", "7.74.0-1.2"),
                (20193, "tar", "1.34+dfsg-0"),
                (33560, "libgcrypt20", "1.8.7-4"),
            )
        ),
        *pypi("numpy", "2021-41495", fixed="1.22.0", vector="CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:N/I:N/A:H", when=when),
        *pypi("pandas", "2020-13091", fixed="1.0.4", vector="CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", when=when),
        *pypi("jinja2", "2024-22195", fixed="3.1.3", vector="CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", when=when),
        malicious("numpyy", "2025-1001", when=when),
        malicious("pandsa", "2025-1002", when=when),
    ]


def _letters(number: str) -> str:
    """GitHub's form of an identifier, made from the number."""
    text = hashlib.sha256(number.encode()).hexdigest().translate(str.maketrans("0123456789abcdef", "23456789cfghjmpq"))
    return f"{text[:4]}-{text[4:8]}-{text[8:12]}"


def files(records: Iterable[Record]) -> dict[str, bytes]:
    """The bucket: name to content."""
    folders: dict[str, dict[str, Record]] = {}
    for record in records:
        named = {entry["package"]["ecosystem"].partition(":")[0] for entry in record["affected"]} or {"[EMPTY]"}
        for ecosystem in named:
            folders.setdefault(ecosystem, {})[record["id"]] = record
    bucket = {"ecosystems.txt": "".join(f"{name}\n" for name in sorted(folders)).encode()}
    for ecosystem, held in folders.items():
        raw = {name: json.dumps(record, separators=(",", ":")).encode() for name, record in held.items()}
        newest_first = sorted(sorted(held), key=lambda name: held[name]["modified"], reverse=True)
        lines = [f"{held[name]['modified']},{name}\n" for name in newest_first]
        bucket |= {f"{ecosystem}/{name}.json": content for name, content in raw.items()}
        bucket[f"{ecosystem}/modified_id.csv"] = "".join(lines).encode()
        bucket[f"{ecosystem}/all.zip"] = _zip({f"{name}.json": raw[name] for name in sorted(raw)})
    return bucket


def _zip(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def write(folder: Path, records: Iterable[Record], *, names: str = r".*/(all\.zip|modified_id\.csv)") -> Path:
    """The bucket's files in a folder, those whose name matches. The zips alone are a source of advisories:
    ``advisories.source``."""
    for name, content in files(records).items():
        if re.fullmatch(names, name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    return folder


class OsvExport:
    """``with OsvExport(small_set()) as export: ... export.url``. ``records`` and ``missing`` may change while it runs.

    records: by id. missing: patterns of names that are not there, though they should be. cut: name to the number of
    bytes after which its body ends, once. held: the same, but nothing more comes and nobody is told. served: content in
    place of what the records give. without_ranges: whole bodies only. wrong_hash: names whose ``x-goog-hash`` is that
    of other content. asked: method, name, ``Range`` and status of every request.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.records: dict[str, Record] = {record["id"]: record for record in records}
        self.missing: set[str] = set()
        self.cut: dict[str, int] = {}
        self.held: dict[str, int] = {}
        self.served: dict[str, bytes] = {}
        self.without_ranges = False
        self.wrong_hash: set[str] = set()
        self.asked: list[tuple[str, str, str, int]] = []
        self.sent_bytes = 0
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._made: tuple[str, dict[str, bytes]] = ("", {})
        export = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                export._answer(self)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.address}/osv"
        """What ``advisories`` of a configuration names; the bucket is a path of the server, as a mirror's is."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> OsvExport:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def put(self, *records: Record) -> None:
        """Add records, or newer editions of them."""
        with self._lock:
            self.records |= {record["id"]: record for record in records}

    def names(self, ending: str = "") -> list[str]:
        """What was asked for, in order, the names that end so."""
        return [name for _, name, _, _ in self.asked if name.endswith(ending)]

    def content(self, name: str) -> bytes | None:
        """A file as it is now; None: there is none."""
        with self._lock:
            state = json.dumps(self.records, sort_keys=True)
            if self._made[0] != state:
                self._made = (state, files(self.records.values()))
            if any(re.fullmatch(each, name) for each in self.missing):
                return None
            return self.served.get(name, self._made[1].get(name))

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        name = unquote(urlsplit(request.path).path).removeprefix("/osv").removeprefix("/")
        content, wanted = self.content(name), request.headers.get("Range", "")
        if content is None:
            body = b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>NoSuchKey</Code></Error>"
            self._send(request, name, 404, {"Content-Type": "application/xml; charset=UTF-8"}, body)
            return
        md5 = hashlib.md5(content, usedforsecurity=False)
        other = bytes(16) if name in self.wrong_hash else b""
        head = {
            "ETag": f'"{md5.hexdigest()}"',
            "x-goog-hash": f"crc32c=AAAAAA==,md5={base64.b64encode(other or md5.digest()).decode()}",
            "Accept-Ranges": "bytes",
        }
        if request.headers.get("If-None-Match") == head["ETag"]:
            self._send(request, name, 304, head, b"")
        elif request.headers.get("If-Match", head["ETag"]) != head["ETag"]:
            self._send(request, name, 412, {}, b"")
        elif (found := re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)) and not self.without_ranges:
            first, last = int(found[1]), min(int(found[2] or len(content)), len(content) - 1)
            if first > last:
                self._send(request, name, 416, {"Content-Range": f"bytes */{len(content)}"}, b"")
                return
            head["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            self._send(request, name, 206, head, content[first : last + 1])
        else:
            self._send(request, name, 200, head, content)

    def _send(
        self, request: BaseHTTPRequestHandler, name: str, status: int, head: Mapping[str, str], body: bytes
    ) -> None:
        with self._lock:
            self.asked.append((request.command, name, request.headers.get("Range", ""), status))
            full = status in (200, 206)
            holds = full and name in self.held
            end = self.held.pop(name) if holds else self.cut.pop(name, len(body)) if full else len(body)
            if request.command != "HEAD":  # counted before it goes: who has it all may count at once
                self.sent_bytes += min(end, len(body))
        request.send_response(status)
        for key, value in head.items():
            request.send_header(key, value)
        if status != 304:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command == "HEAD":
            return
        for start in range(0, min(end, len(body)), BLOCK_BYTES):
            request.wfile.write(body[start : min(start + BLOCK_BYTES, end)])
        if end < len(body):
            request.wfile.flush()
            if holds:
                self._released.wait()
            request.close_connection = True
            request.connection.close()
