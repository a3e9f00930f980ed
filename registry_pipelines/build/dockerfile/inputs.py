"""What goes into a build from this side: the files of the context, as one digest; and what they say of themselves."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from registry_pipelines.build.dockerfile.context import Context, ContextEntry, read_ignore_file
from registry_pipelines.build.dockerfile.model import DockerfileSpec
from registry_pipelines.build.dockerfile.secret_forms import secret_forms
from registry_pipelines.build.revision import Packing
from registry_pipelines.errors import InputError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.platforms import Platform

MAX_SECRET_BYTES = 500 * 1024
"""BuildKit takes a secret of up to 500 KiB."""


def packing(context: Context) -> Packing:
    """What the context sends, for a question to Git."""
    return Packing(
        lambda: {entry.path for entry in context.entries if not entry.is_folder},
        read_ignore_file(context.ignore_file).leaves_out,
    )


def check_leaves_out(context: Context, state: Path) -> None:
    """Raise InputError where the state folder would be sent along: it changes with every build, and holds what is
    nobody else's business."""
    inside = Path(os.path.relpath(state.absolute(), context.folder.absolute()))
    if inside.parts[:1] == (os.pardir,) or read_ignore_file(context.ignore_file).leaves_out(str(inside)):
        return
    raise InputError(
        f"the state folder {inside} lies in the context, and the engine would get it",
        where=str(context.folder),
        do=f"Add the line `{inside.parts[0]}` to .dockerignore",
    )


def context_digest(context: Context) -> Digest:
    """A digest of paths, kinds, permission bits, contents and link texts. Times and owners do not count: an engine
    takes neither along. Raises InputError for a file that cannot be read."""
    rows = [_row(context.folder, entry) for entry in sorted(context.entries, key=lambda entry: entry.path)]
    return Digest.of(json.dumps(rows, ensure_ascii=True).encode())


def _row(folder: Path, entry: ContextEntry) -> list[object]:
    path, mode = folder / entry.path, stat.S_IMODE(entry.mode)
    if entry.is_folder:
        return [entry.path, "folder", mode]
    try:
        if stat.S_ISLNK(entry.mode):
            return [entry.path, "link", str(path.readlink())]
        with path.open("rb") as stream:
            return [entry.path, "file", mode, hashlib.file_digest(stream, "sha256").hexdigest()]
    except OSError as error:
        raise InputError(
            f"the file cannot be read: {error.strerror}", where=str(path), do="Name it in .dockerignore"
        ) from error


def input_digest(
    spec: DockerfileSpec,
    text: str,
    context: Context,
    *,
    platforms: Sequence[Platform],
    labels: Mapping[str, str],
    source_date: int,
) -> Digest:
    """One digest of everything that decides what the image holds and that this side knows: not what the bases are, and
    not what steps fetch. Values of secrets do not count. Raises InputError."""
    facts = {
        "dockerfile": Digest.of(text.encode()),
        "context": context_digest(context),
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
    """The values of all secrets: of those with several lines each line too, since a log shows lines, and the whole in
    the forms in which programs write it (``secret_forms``). Bytes that are no text are surrogates. Raises InputError
    for one that is not there, is empty, or larger than an engine takes."""
    values: dict[str, None] = {}
    for name, secret in spec.secrets.items():
        if secret.file is not None:
            value = _read(secret.file, MAX_SECRET_BYTES).decode(errors="surrogateescape")
        else:
            value = os.environ.get(secret.env or "", "")
        if not value.strip():
            where = f"dockerfile.secrets.{name}"
            source = f"file {secret.file}" if secret.file is not None else f"variable {secret.env}"
            raise InputError(f"the {source} is empty or not there", where=where, do="Give the secret a value")
        values |= dict.fromkeys(secret_forms(value))
    _check_told_nowhere(spec, tuple(values))
    return tuple(values)


def _check_told_nowhere(spec: DockerfileSpec, values: tuple[str, ...]) -> None:
    """Arguments and labels stand in the engine's command, in the history and in the provenance."""
    told = {f"args.{name}": value for name, value in spec.args.items()}
    told |= {f"labels.{name}": value for name, value in spec.labels.items()}
    for field, text in told.items():
        if any(value in text for value in values):
            raise InputError(
                "it holds the value of a secret, and stands in the image for all to read",
                where=f"dockerfile.{field}",
                do="Have the step mount the secret: RUN --mount=type=secret,id=NAME",
            )


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as stream:
            raw = stream.read(limit + 1)
    except OSError as error:
        raise InputError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
    if len(raw) > limit:
        raise InputError(f"the file is larger than {limit} bytes", where=str(path))
    return raw
