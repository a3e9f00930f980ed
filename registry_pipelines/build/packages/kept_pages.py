"""The last page that an index gave of each project, in the state folder: an unchanged one is not sent again, and for a
while it stands in for a public index that is down. Losing it costs time, never correctness."""

from __future__ import annotations

import contextlib
import hashlib
import time
from pathlib import Path

import msgspec

from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.files import write_file


class KeptPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page as it came. at: Unix time of the last answer that said it is so. url: where it was found in the end."""

    url: str
    content_type: str
    body: bytes
    etag: str = ""
    modified: str = ""
    at: float


class KeptPages:
    """Pages of one index. root: of all indexes; identity: what tells one from another (its address)."""

    def __init__(self, root: Path, identity: str) -> None:
        self._folder = root / hashlib.sha256(identity.encode()).hexdigest()[:16]

    def get(self, project: str) -> KeptPage | None:
        """The last page of a project; None without a whole one."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.msgpack.decode(self._file(project).read_bytes(), type=ready(KeptPage))
        return None

    def keep(self, project: str, page: KeptPage) -> None:
        """Keep a page. A folder that cannot be written is no reason to build nothing."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_file(self._file(project), msgspec.msgpack.encode(page), mode=0o600, lasting=False)

    def confirm(self, project: str, page: KeptPage) -> None:
        """It was said to be so now."""
        self.keep(project, msgspec.structs.replace(page, at=time.time()))

    def forget(self, project: str) -> None:
        """The index says that it has no such project (any more)."""
        with contextlib.suppress(OSError):
            self._file(project).unlink(missing_ok=True)

    def _file(self, project: str) -> Path:
        return self._folder / f"{project}.page"


__all__ = ["KeptPage", "KeptPages"]
