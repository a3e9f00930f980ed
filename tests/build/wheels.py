"""Small wheels made on the spot, whole ones and broken ones."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path


def record_hash(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    files: Mapping[str, bytes] | None = None,
    *,
    tag: str = "py3-none-any",
    requires: tuple[str, ...] = (),
    entry_points: str = "",
    executable: tuple[str, ...] = (),
    modes: Mapping[str, int] | None = None,
    record: Mapping[str, str] | None = None,
    extra: Mapping[str, bytes] | None = None,
    compression: int = zipfile.ZIP_DEFLATED,
    level: int = 6,
    wheel_version: str = "1.0",
    metadata: bytes = b"",
) -> Path:
    """``record``: rows that replace the right ones. ``extra``: files that RECORD does not name."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    contents = dict(files if files is not None else {f"{name.replace('-', '_')}/__init__.py": b"VALUE = 1\n"})
    headers = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    whole = (headers + "".join(f"Requires-Dist: {r}\n" for r in requires)).encode()
    contents[f"{info}/METADATA"] = metadata or whole
    contents[f"{info}/WHEEL"] = f"Wheel-Version: {wheel_version}\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()
    if entry_points:
        contents[f"{info}/entry_points.txt"] = entry_points.encode()
    rows = {path: f"{path},{record_hash(content)},{len(content)}" for path, content in contents.items()}
    rows[f"{info}/RECORD"] = f"{info}/RECORD,,"
    rows.update(record or {})
    contents.update(extra or {})
    contents[f"{info}/RECORD"] = ("\n".join(row for row in rows.values() if row) + "\n").encode(
        errors="surrogateescape"
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(path, "w", compression, compresslevel=level) as archive:
        for file, content in contents.items():
            entry = zipfile.ZipInfo(file, (2024, 1, 2, 3, 4, 6))
            entry.compress_type = compression
            mode = 0o100755 if file in executable else 0o100644
            entry.external_attr = (modes or {}).get(file, mode) << 16
            archive.writestr(entry, content)
    return path
