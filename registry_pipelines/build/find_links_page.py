"""A page of links to the wheels of a folder, with their metadata beside them, for pip's ``--find-links``.

Given a folder, pip hashes and opens every wheel that it considers, gigabytes for a CUDA set. From a page whose links
say ``data-core-metadata`` (PEP 658, PEP 714) it reads the metadata alone; pips that do not know it open the wheels as
before.
"""

from __future__ import annotations

import html
import zipfile
from pathlib import Path

from registry_pipelines.build.archive import ZIP_ERRORS
from registry_pipelines.errors import RequirementsInvalid

MAX_METADATA_BYTES = 16 * 1024**2
"""METADATA with a long description; the largest public ones have about 1 MB."""


def offer(folder: Path, scratch: Path) -> Path:
    """Write links, metadata and page below ``scratch``; returns the page.

    A wheel whose metadata cannot be read has none: pip says what is wrong with it, should it want it. Raises
    RequirementsInvalid when the folder cannot be read.
    """
    scratch.mkdir(parents=True)
    rows = []
    for path in archives(folder):
        link = scratch / path.name
        link.symlink_to(path.resolve())
        known = _put_metadata(link)
        rows.append(f'<a href="{link.as_uri()}"{known}>{html.escape(path.name)}</a>')
    page = scratch / "index.html"
    page.write_text("\n".join(["<!DOCTYPE html>", "<html><body>", *rows, "</body></html>", ""]))
    return page


def archives(folder: Path) -> list[Path]:
    """What pip would look at in a folder, sorted. Raises RequirementsInvalid when it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if path.name.endswith((".whl", ".tar.gz", ".zip")))
    except OSError as error:
        raise RequirementsInvalid(
            f"the folder of wheels cannot be read: {error.strerror or error}",
            where=str(folder),
            do="Correct `wheels` or `find_links`",
        ) from error


def read_metadata(path: Path) -> bytes | None:
    """The METADATA of a wheel, at most MAX_METADATA_BYTES; None where it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            [name] = [name for name in archive.namelist() if _is_metadata(name)]
            if archive.getinfo(name).file_size > MAX_METADATA_BYTES:
                return None
            with archive.open(name) as member:
                # With a limit: without, a stream that unpacks to more than it says is unpacked whole.
                return member.read(MAX_METADATA_BYTES)
    except (*ZIP_ERRORS, OSError, ValueError):
        return None


def _put_metadata(link: Path) -> str:
    """Write the wheel's metadata beside its link; the attribute that says so, empty without."""
    content = read_metadata(link) if link.suffix == ".whl" else None
    if content is None:
        return ""
    link.with_name(f"{link.name}.metadata").write_bytes(content)
    return ' data-core-metadata="true"'


def _is_metadata(name: str) -> bool:
    folder, _, file = name.partition("/")
    return folder.endswith(".dist-info") and file == "METADATA"
