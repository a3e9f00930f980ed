"""Two installations of the same wheels, pip's and ours, in one form that can be compared.

pip installs into a virtual environment of the running Python. Ours is what the layers of an image hold above its base,
read with nothing of ours. The interpreter's path, who installed, and the wording of console scripts may differ;
everything else is expected to be the same.
"""

from __future__ import annotations

import ast
import csv
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from registry_pipelines.build.target import RUNNING_PYTHON

SITE = f"lib/python{RUNNING_PYTHON}/site-packages"
INTERPRETER = b"#!<python>"


@dataclass(frozen=True)
class Installed:
    """A file below the prefix: its permission bits, and what of its content can be compared."""

    mode: int
    content: object


class Installation(dict[str, Installed]):
    """Files by path below the prefix; byte code apart, since two compilers never write the same."""

    def __init__(self, files: Iterator[tuple[str, int, bytes]], interpreter: str) -> None:
        super().__init__()
        self.compiled: set[str] = set()
        for path, mode, content in files:
            if "/__pycache__/" in path:
                # pip compiles programs in bin/ too, which nothing ever imports.
                self.compiled |= {path} if path.startswith(SITE) else set()
            elif not path.endswith(".dist-info/REQUESTED"):
                file = Installed(mode, _comparable(path, content, interpreter))
                assert self.setdefault(path, file) == file, f"two different files are called {path}"


def _comparable(path: str, content: bytes, interpreter: str) -> object:
    if path.endswith(".dist-info/RECORD"):
        return _rows(content)
    if path.endswith(".dist-info/INSTALLER"):
        return "who installed"
    shebang = f"#!{interpreter}\n".encode()
    if path.startswith("bin/") and content.startswith(shebang):
        return _script(INTERPRETER + b"\n" + content.removeprefix(shebang))
    return hashlib.sha256(content).hexdigest()


def _script(content: bytes) -> object:
    """A console script by what it imports, whether it calls that, and how its result ends the process."""
    try:
        tree = ast.parse(content)
    except SyntaxError:
        return content
    imports = [ast.dump(node) for node in tree.body if isinstance(node, ast.ImportFrom)]
    ends = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    ends = [call for call in ends if call.startswith("sys.exit(")]
    main = any(isinstance(node, ast.If) for node in tree.body)
    generated = len(imports) == 1 and len(ends) == 1 and main and len(content) < 400
    return (INTERPRETER, imports, ends) if generated else content


def _rows(record: bytes) -> dict[str, tuple[str, str]]:
    """RECORD by path; only the paths of what may differ, and nothing of byte code and REQUESTED."""
    rows: dict[str, tuple[str, str]] = {}
    for path, recorded, size in csv.reader(io.StringIO(record.decode(), newline="")):
        if "__pycache__" in path or path.endswith("/REQUESTED"):
            continue
        assert path not in rows, f"RECORD names {path} twice"
        differs = path.endswith(".dist-info/INSTALLER") or path.startswith("../../../bin/")
        rows[path.replace("include/site/", "include/", 1)] = ("", "") if differs else (recorded, size)
    return rows


def by_pip(folder: Path, wheels: Path, requirements: list[str]) -> Installation:
    """Installed by pip into a new virtual environment, byte code included; no index is asked."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    there = {path for path in folder.rglob("*") if not path.is_dir()}
    python = folder / "bin" / "python"
    lines = folder.with_name(folder.name + ".txt")
    lines.write_text("\n".join(requirements) + "\n")
    install = ("install", "--quiet", "--no-index", "--find-links", str(wheels), "--only-binary", ":all:")
    environment = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "pip", "--python", str(python), *install, "-r", str(lines)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, umask=0o022)
    assert done.returncode == 0, done.stderr

    def files() -> Iterator[tuple[str, int, bytes]]:
        for path in sorted(folder.rglob("*")):
            if not path.is_dir() and path not in there:
                assert not path.is_symlink(), path
                # Virtual environments have a folder for headers; /usr/local has that of the headers of Python.
                name = str(path.relative_to(folder)).replace("include/site/", "include/", 1)
                yield name, path.stat().st_mode & 0o7777, path.read_bytes()

    return Installation(files(), str(python))


def by_layers(layout: Path, digest: str, *, base_layers: int, prefix: str, interpreter: str) -> Installation:
    """What the layers above the base hold below ``prefix``, from the blobs of a layout folder.

    Fails on anything but files and folders, on a file outside of the prefix, on different ones of one name, and on an
    owner other than root.
    """

    def blob(name: str) -> Path:
        return layout / "blobs" / Path(*name.split(":"))

    manifest = json.loads(blob(digest).read_bytes())

    def files() -> Iterator[tuple[str, int, bytes]]:
        for layer in manifest["layers"][base_layers:]:
            with gzip.open(blob(layer["digest"])) as raw, tarfile.open(fileobj=raw, mode="r|") as tar:
                for entry in tar:
                    assert (entry.uid, entry.gid) == (0, 0), entry.name
                    assert entry.isfile() or entry.isdir(), entry.name
                    if entry.isfile():
                        assert entry.name.startswith(prefix + "/"), entry.name
                        content = tar.extractfile(entry)
                        assert content is not None
                        yield entry.name.removeprefix(prefix + "/"), entry.mode, content.read()
                    else:
                        assert entry.mode == 0o755, entry.name

    return Installation(files(), interpreter)


def differences(ours: Installation, theirs: Installation) -> list[str]:
    """What is not the same, in words. That we compile more is none: pip leaves out a source in Big5."""
    lines = [f"only pip has {path}" for path in sorted(theirs.keys() - ours.keys())]
    lines += [f"only ours has {path}" for path in sorted(ours.keys() - theirs.keys())]
    lines += [f"only pip compiled {path}" for path in sorted(theirs.compiled - ours.compiled)]
    for path in sorted(ours.keys() & theirs.keys()):
        mine, other = ours[path], theirs[path]
        if mine.mode != other.mode:
            lines.append(f"{path} has mode {mine.mode:o}, with pip {other.mode:o}")
        if isinstance(mine.content, dict) and isinstance(other.content, dict):
            rows = sorted(mine.content.items() ^ other.content.items())
            lines += [f"{path} has a different row {row}" for row in rows]
        elif mine.content != other.content:
            lines.append(f"{path} has other content: {mine.content!r:.300}, with pip {other.content!r:.300}")
    return lines
