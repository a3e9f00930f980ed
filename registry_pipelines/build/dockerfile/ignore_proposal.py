"""Lines for ``.dockerignore`` that would keep bytes out of a context, and what each one saves.

A line is proposed only where no instruction names what it would leave out: ``COPY data/ /data`` keeps the data,
``COPY . .`` does not.
"""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from registry_pipelines.build.dockerfile.context import Context, ContextEntry, ignore_text
from registry_pipelines.build.dockerfile.instructions import Dockerfile, Instruction
from registry_pipelines.progress import count_text, size_text

MIN_BYTES = 10 * 1024 * 1024
"""Weights and data of one kind are proposed from here on; less is often a fixture."""

_NAMES = {
    "version control: the history, and whatever was taken out of it": (".git", ".hg", ".svn", ".bzr"),
    "made again by whoever needs it": (
        *("__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".tox", ".nox", ".cache"),
        *(".ipynb_checkpoints", ".DS_Store", ".terraform", ".gradle", "htmlcov", ".coverage"),
    ),
    "an environment of this machine, whose programs name its paths": (".venv", "venv", ".conda", "node_modules"),
    "records of trainings": ("wandb", "mlruns", "lightning_logs", "tb_logs"),
    "a secret: whoever has the image can read it": (
        *(".env", ".netrc", ".pypirc", ".npmrc", ".aws", ".ssh", ".kube", ".gnupg", "id_rsa", "id_ed25519"),
        *("credentials.json", ".git-credentials"),
    ),
}
_ENDINGS = {
    "made again by whoever needs it": (".pyc", ".pyo"),
    "a secret: whoever has the image can read it": (".pem", ".p12", ".pfx"),
}
_LARGE_ENDINGS = {
    "model weights, which every change sends again; the image has none then: mount them where it runs": (
        *(".safetensors", ".gguf", ".ckpt", ".pth", ".pt", ".onnx", ".h5", ".keras"),
    ),
    "data": (
        *(".parquet", ".arrow", ".feather", ".csv", ".jsonl", ".tfrecord", ".npy", ".npz", ".hdf5", ".mp4"),
        *(".tar", ".tar.gz", ".tgz", ".tar.zst", ".zip", ".whl", ".sqlite"),
    ),
}
_BY_NAME = {name: why for why, names in _NAMES.items() for name in names}
_BY_ENDING = {ending: why for why, endings in _ENDINGS.items() for ending in endings}
_BY_LARGE_ENDING = {ending: why for why, endings in _LARGE_ENDINGS.items() for ending in endings}


@dataclass
class ProposedLine:
    """One line. byte_count, file_count: what it leaves out that no line above it does."""

    pattern: str
    why: str
    byte_count: int = 0
    file_count: int = 0
    large: bool = False
    """Proposed only from MIN_BYTES on, and for nothing that lies in a folder which an instruction names."""


@dataclass(frozen=True)
class Proposal:
    """Lines, the largest first. kept: what would be proposed, did not an instruction name it; for people."""

    lines: tuple[ProposedLine, ...]
    kept: tuple[str, ...]
    text: str
    """The whole ``.dockerignore`` with them: what stands there today, then these, each with its reason."""

    @property
    def byte_count(self) -> int:
        """Bytes that would not be sent."""
        return sum(line.byte_count for line in self.lines)


def propose_ignore(context: Context, dockerfile: Dockerfile) -> Proposal:
    """What to add to the ignore file of a measured context. Raises InputError: the ignore file cannot be read."""
    found = _found(context.entries)
    named = list(dict.fromkeys(_named(dockerfile)))
    lines, kept = [], []
    for line, paths in found.values():
        who = next((line_of for source, line_of in named if any(_names(source, path, line.large) for path in paths)), 0)
        if who:
            kept.append(f"{line.pattern} ({size_text(line.byte_count)}): line {who} of {dockerfile.where} names it")
        elif not line.large or line.byte_count >= MIN_BYTES:
            lines.append(line)
    lines.sort(key=lambda line: (-line.byte_count, line.pattern))
    return Proposal(tuple(lines), tuple(kept), _text(context, lines))


def _found(entries: Sequence[ContextEntry]) -> dict[str, tuple[ProposedLine, list[str]]]:
    """By pattern, the line and the paths that it names itself."""
    found: dict[str, tuple[ProposedLine, list[str]]] = {}
    inside: dict[str, str] = {}
    environments = {entry.path.rpartition("/")[0] for entry in entries if entry.path.endswith("/pyvenv.cfg")}
    for entry in entries:
        parent, _, name = entry.path.rpartition("/")
        pattern = inside.get(parent)
        if pattern is None:
            line = _line(entry, name, environments)
            if line is None:
                continue
            pattern = line.pattern
            found.setdefault(pattern, (line, []))[1].append(entry.path)
        if entry.is_folder:
            inside[entry.path] = pattern
        else:
            found[pattern][0].byte_count += entry.byte_count
            found[pattern][0].file_count += 1
    return found


def _line(entry: ContextEntry, name: str, environments: set[str]) -> ProposedLine | None:
    if name in _BY_NAME:
        return ProposedLine(f"**/{name}", _BY_NAME[name])
    if entry.is_folder:
        if entry.path not in environments:
            return None
        literal = "".join(f"\\{letter}" if letter in "*?[]\\!#" else letter for letter in entry.path)
        return ProposedLine(f"/{literal}", _BY_NAME[".venv"])
    for ending, why in _BY_ENDING.items():
        if name.endswith(ending):
            return ProposedLine(f"**/*{ending}", why)
    for ending, why in _BY_LARGE_ENDING.items():
        if name.endswith(ending):
            return ProposedLine(f"**/*{ending}", why, large=True)
    return None


def _named(dockerfile: Dockerfile) -> Iterator[tuple[str, int]]:
    """Sources in the context that instructions name, with their lines; not the context as a whole."""
    for instruction in dockerfile.all_instructions():
        for source in _sources(instruction):
            cleaned = posixpath.normpath(source.strip("\"'")).lstrip("/")
            if cleaned not in (".", ""):
                yield cleaned, instruction.line


def _sources(instruction: Instruction) -> Iterator[str]:
    if instruction.keyword in ("COPY", "ADD") and instruction.flag("from") is None:
        words = instruction.json if instruction.json is not None else tuple(instruction.filled.split())
        yield from words[:-1]
    for flag in instruction.flags:
        if flag.name == "mount":
            options = dict(part.partition("=")[::2] for part in (flag.value or "").split(","))
            if options.get("type", "bind") == "bind" and "from" not in options:
                yield options.get("source", options.get("src", ""))


def _names(source: str, path: str, large: bool) -> bool:
    """Whether an instruction that names the source needs the path."""
    if source == path or source.startswith(path + "/") or fnmatch.fnmatchcase(path, source):
        return True
    return large and path.startswith(source + "/")


def _text(context: Context, lines: Sequence[ProposedLine]) -> str:
    today = ignore_text(context.ignore_file).decode(errors="surrogateescape")
    if today and not today.endswith("\n"):
        today += "\n"
    told = (
        f"# {line.why} ({size_text(line.byte_count)}, {count_text(line.file_count, 'file')})\n{line.pattern}\n"
        for line in lines
    )
    return today + "".join(told)
