"""The tool itself, as a bundle brings it: wheels beside the parts, and its image among the others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from registry_pipelines.chain.session import Session
from registry_pipelines.config import Mirror
from registry_pipelines.errors import InputError
from registry_pipelines.mirror.bundle.format import ToolFile
from registry_pipelines.oci.files import local_errors, write_file

SUMS = "SHA256SUMS"
"""As ``sha256sum --check`` reads it."""


@dataclass(frozen=True)
class Tool:
    """What is brought. listed: as the bundle's document has it. files: where each is now. image: its reference."""

    listed: tuple[ToolFile, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    image: str = ""


def tool_of(session: Session, mirror: Mirror, folder: Path) -> Tool:
    """What the configuration says that the tool is. folder: for the list of sums. Raises InputError where it says
    nothing, LocalError."""
    told = mirror.bundle
    if told.tool_wheels is None and not told.tool_image:
        raise InputError(
            "the configuration does not say what the tool is",
            where=f"mirrors.{mirror.name}.bundle",
            do="Name a folder of wheels in `tool_wheels` (`pip wheel registry-pipelines --wheel-dir` fills one), or an "
            "image in `tool_image`",
        )
    if told.tool_wheels is None:
        return Tool(image=told.tool_image or "")
    with local_errors(told.tool_wheels):
        wheels = sorted(told.tool_wheels.glob("*.whl"))
        sums = {path.name: (path.stat().st_size, _sha256(path)) for path in wheels}
    if not any(name.startswith("registry_pipelines-") for name in sums):
        raise InputError(
            "there is no wheel of registry-pipelines",
            where=str(told.tool_wheels),
            do="Fill the folder: pip wheel registry-pipelines --wheel-dir",
        )
    content = "".join(f"{sha256}  {name}\n" for name, (_, sha256) in sums.items()).encode()
    with local_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / SUMS, content)
    sums[SUMS] = (len(content), hashlib.sha256(content).hexdigest())
    listed = tuple(ToolFile(name=name, size=size, sha256=sha256) for name, (size, sha256) in sums.items())
    return Tool(listed, {path.name: path for path in (*wheels, folder / SUMS)}, told.tool_image or "")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
