"""What goes into a build from this side: the files of the context, as one digest; and what they say of themselves."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from registry_pipelines.build.application import MAX_IGNORE_BYTES, walk
from registry_pipelines.build.dockerfile.model import DockerfileSpec
from registry_pipelines.build.ignorefile import Patterns, read_patterns
from registry_pipelines.build.revision import Packing
from registry_pipelines.errors import InputError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.platforms import Platform

MAX_SECRET_BYTES = 500 * 1024
"""BuildKit takes a secret of up to 500 KiB."""


@dataclass(frozen=True)
class ContextFiles:
    """The files that an engine may read: what the ignore file lets through."""

    folder: Path
    patterns: Patterns

    @cached_property
    def entries(self) -> dict[str, os.DirEntry[str]]:
        """Files, folders and links by their path in the context. Raises InputError."""
        return dict(walk(self.folder, "", self.patterns))

    def check_leaves_out(self, state: Path) -> None:
        """Raise InputError where the state folder would be sent along: it changes with every build, and holds what is
        nobody else's business."""
        inside = Path(os.path.relpath(state.absolute(), self.folder.absolute()))
        if inside.parts[:1] != (os.pardir,) and not self.patterns.leaves_out(str(inside)):
            raise InputError(
                f"the state folder {inside} lies in the context, and the engine would get it",
                where=str(self.folder),
                do=f"Add the line `{inside.parts[0]}` to .dockerignore",
            )

    def packing(self) -> Packing:
        """The same, for a question to Git."""
        return Packing(
            lambda: {path for path, entry in self.entries.items() if not entry.is_dir(follow_symlinks=False)},
            self.patterns.leaves_out,
        )

    def digest(self) -> Digest:
        """A digest of paths, kinds, permission bits, contents and link texts. Times and owners do not count: an engine
        takes neither along. Raises InputError for a file that cannot be read."""
        rows = [_row(path, entry) for path, entry in sorted(self.entries.items())]
        return Digest.of(json.dumps([row for row in rows if row], ensure_ascii=True).encode())


def context_files(spec: DockerfileSpec) -> ContextFiles:
    """The files of a build's context. The ignore file is ``<Dockerfile>.dockerignore`` beside the Dockerfile, else
    ``.dockerignore`` in the context, as BuildKit has it. Raises InputError."""
    if not spec.context.is_dir():
        raise InputError("the context is no folder", where=str(spec.context))
    for path in (spec.dockerfile.with_name(f"{spec.dockerfile.name}.dockerignore"), spec.context / ".dockerignore"):
        if os.path.lexists(path):
            return ContextFiles(spec.context, read_patterns(_read(path, MAX_IGNORE_BYTES), str(path)))
    return ContextFiles(spec.context, Patterns(()))


def _row(path: str, entry: os.DirEntry[str]) -> list[object]:
    mode = entry.stat(follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        return [path, "link", str(Path(entry.path).readlink())]
    if stat.S_ISDIR(mode):
        return [path, "folder", stat.S_IMODE(mode)]
    if not stat.S_ISREG(mode):
        return []  # engines leave sockets and the like out
    try:
        with Path(entry.path).open("rb") as stream:
            return [path, "file", stat.S_IMODE(mode), hashlib.file_digest(stream, "sha256").hexdigest()]
    except OSError as error:
        raise InputError(
            f"the file cannot be read: {error.strerror}", where=entry.path, do="Name it in .dockerignore"
        ) from error


def input_digest(
    spec: DockerfileSpec,
    text: str,
    files: ContextFiles,
    *,
    platforms: Sequence[Platform],
    labels: Mapping[str, str],
    source_date: int,
) -> Digest:
    """One digest of everything that decides what the image holds and that this side knows: not what the bases are, and
    not what steps fetch. Values of secrets do not count. Raises InputError."""
    facts = {
        "dockerfile": Digest.of(text.encode()),
        "context": files.digest(),
        "target": spec.target,
        "network": spec.network,
        "platforms": [str(platform) for platform in platforms],
        "args": dict(spec.args),
        "secrets": sorted(spec.secrets),
        "labels": dict(labels),
        "source_date": source_date,
    }
    return Digest.of(json.dumps(facts, sort_keys=True).encode())


def secret_values(spec: DockerfileSpec) -> tuple[str, ...]:
    """The values of all secrets, and of those with several lines each line: a log shows lines. Raises InputError for
    one that is not there, is empty, or larger than an engine takes."""
    values: dict[str, None] = {}
    for name, secret in spec.secrets.items():
        if secret.file is not None:
            value = _read(secret.file, MAX_SECRET_BYTES).decode(errors="replace")
        else:
            value = os.environ.get(secret.env or "", "")
        if not value.strip():
            where = f"dockerfile.secrets.{name}"
            source = f"file {secret.file}" if secret.file is not None else f"variable {secret.env}"
            raise InputError(f"the {source} is empty or not there", where=where, do="Give the secret a value")
        values[value.strip()] = None
        values |= dict.fromkeys(line.strip() for line in value.splitlines() if len(line.strip()) >= SHORTEST_LINE)
    return tuple(values)


SHORTEST_LINE = 6
"""Shorter lines of a secret with several are no secret, and would blot out words of every log."""


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as stream:
            raw = stream.read(limit + 1)
    except OSError as error:
        raise InputError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
    if len(raw) > limit:
        raise InputError(f"the file is larger than {limit} bytes", where=str(path))
    return raw
