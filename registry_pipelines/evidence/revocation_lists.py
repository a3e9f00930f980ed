"""Lists of revoked certificates (CRL, RFC 5280 section 5) that somebody brought as files: for where no authority can be
asked, behind an air gap for instance, and for authorities that publish a list and name no address."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from registry_pipelines.errors import InputError
from registry_pipelines.evidence.x509 import Certificate, name_of
from registry_pipelines.pem import read_blocks

MAX_CRL_BYTES = 32 * 1024 * 1024
"""A list of a large public authority has some MiB."""

RevocationList = x509.CertificateRevocationList
_LABEL = "X509 CRL"


class GivenList(NamedTuple):
    """A list, and the file that it came from."""

    content: RevocationList
    path: Path


class GivenLists:
    """The lists of some files, which are read again when they change: a process may outlive them. For many threads."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._known: dict[Path, tuple[tuple[int, int, int], list[GivenList]]] = {}

    def read(self) -> list[GivenList]:
        """Raises InputError, which names the file."""
        return [each for path in self._paths for each in self._of(path)]

    def by(self, issuer: x509.Name) -> list[GivenList]:
        """Those that say they are of an issuer; nothing of them is checked yet. Raises InputError."""
        return [each for each in self.read() if each.content.issuer == issuer]

    def uncovered(self, certificate: Certificate) -> str:
        """Why no list speaks of a certificate; empty where one may, or none was given. Raises InputError."""
        if not self._paths or self.by(certificate.issuer):
            return ""
        files = ", ".join(str(path) for path in self._paths)
        return f"no list of revoked certificates is of the issuer of {name_of(certificate)} ({files})"

    def _of(self, path: Path) -> list[GivenList]:
        try:
            found = path.stat()
            state = (found.st_ino, found.st_size, found.st_mtime_ns)
            known = self._known.get(path)
            if known is None or known[0] != state:
                known = self._known[path] = (state, [GivenList(each, path) for each in _read(path)])
        except OSError as error:
            raise InputError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
        return known[1]


def _read(path: Path) -> list[RevocationList]:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        raw = file.read(MAX_CRL_BYTES + 1)
    if len(raw) > MAX_CRL_BYTES:
        raise InputError(f"the file has more than {MAX_CRL_BYTES} bytes", where=str(path))
    try:
        if raw.startswith(b"\x30"):
            return [x509.load_der_x509_crl(raw)]
        blocks = read_blocks(raw)
        if strange := next((block for block in blocks if block.label != _LABEL), None):
            raise InputError(f"the file has {strange}, expected lists of revoked certificates alone", where=str(path))
        found = [x509.load_der_x509_crl(block.content) for block in blocks]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"the list of revoked certificates cannot be read: {error}", where=str(path)) from error
    if not found:
        raise InputError("the file has no list of revoked certificates", where=str(path), do="Give one as PEM or DER")
    return found


__all__ = ["GivenList", "GivenLists", "RevocationList"]
