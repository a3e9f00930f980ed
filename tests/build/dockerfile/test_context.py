"""Contexts: what is sent, where its bytes are, and what a .dockerignore would save. (Which files Docker itself packs is
compared in tests/build/test_ignorefile.py.)"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from registry_pipelines.build.dockerfile.context import measure_context
from registry_pipelines.build.dockerfile.ignore_proposal import MIN_BYTES, propose_ignore
from registry_pipelines.build.dockerfile.parsing import parse_dockerfile
from registry_pipelines.errors import InputError


def fill(folder: Path, files: dict[str, int | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else b"")
        if isinstance(content, int):
            os.truncate(path, content)
    return folder


def test_files_bytes_and_the_largest_paths(tmp_path: Path) -> None:
    fill(tmp_path, {f".git/objects/{number:02}/x": 1000 for number in range(20)})
    fill(tmp_path, {"data/train/big.bin": 90_000, "data/train/small.bin": 10, "data/a": 5, "app.py": 7, "empty": 0})
    (tmp_path / "link").symlink_to("/etc/passwd")
    context = measure_context(tmp_path)
    assert (context.file_count, context.byte_count) == (26, 20_000 + 90_022)
    assert context.largest() == (
        *(("data/train/big.bin", 90_000), (".git/objects/", 20_000), ("data/train/small.bin", 10)),
        *(("app.py", 7), ("data/a", 5)),
    )
    assert len(measure_context(fill(tmp_path / "many", {str(number): number for number in range(30)})).largest()) == 10
    assert list(context.paths) == sorted(context.paths, key=lambda path: path.split("/"))


@pytest.mark.parametrize(
    ("files", "sent"),
    [
        ({".dockerignore": "a\n"}, {".dockerignore", "b", "c", "d", "d/x"}),
        (
            {".dockerignore": "a\n", "Dockerfile.dockerignore": "b\n"},
            {".dockerignore", "Dockerfile.dockerignore", "a", "c", "d", "d/x"},
        ),
        ({".dockerignore": "*\n!d/x\n"}, {"d", "d/x"}),
        (
            {".dockerignore": "a\n", "Dockerfile.dockerignore": ""},
            {".dockerignore", "Dockerfile.dockerignore", "a", "b", "c", "d", "d/x"},
        ),
    ],
    ids=["the context's", "the Dockerfile's own", "taken back", "an empty one of its own"],
)
def test_which_ignore_file_counts(tmp_path: Path, files: dict[str, int | str], sent: set[str]) -> None:
    fill(tmp_path, {"a": "1", "b": "2", "c": "3", "d/x": "4", **files})
    assert set(measure_context(tmp_path).paths) == sent


def test_the_dockerfile_may_be_elsewhere(tmp_path: Path) -> None:
    fill(tmp_path, {"context/a": "1", "context/b": "2", "elsewhere/My.dockerignore": "a", "context/.dockerignore": "b"})
    context = measure_context(tmp_path / "context", tmp_path / "elsewhere" / "My")
    assert context.paths == (".dockerignore", "b")
    assert context.ignore_file == tmp_path / "elsewhere" / "My.dockerignore"


def test_what_cannot_be_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="the context is no folder"):
        measure_context(tmp_path / "absent")
    fill(tmp_path, {"a": "1"})
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)
        listening.bind("s")
        context = measure_context(tmp_path)
        assert (context.paths, context.sockets) == (("a",), ("s",))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"pipe: only files, folders and links can be sent\. Leave it out in"):
        measure_context(tmp_path)
    (tmp_path / ".dockerignore").write_text("pipe\n")
    assert measure_context(tmp_path).paths == (".dockerignore", "a")
    (tmp_path / ".dockerignore").write_text("[\n")
    with pytest.raises(InputError, match="line 1 is not understood"):
        measure_context(tmp_path)
    (tmp_path / ".dockerignore").write_text("pipe\n")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).touch()
    with pytest.raises(InputError, match="is not UTF-8"):
        measure_context(tmp_path)


def test_proposal_saves_what_it_says(tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            "src/app.py": "x",
            "src/__pycache__/app.pyc": 3000,
            "src/odd.pyc": 10,
            ".git/HEAD": 500,
            ".dockerignore": "# mine\n*.log",
        },
    )
    fill(tmp_path, {"my [env]/pyvenv.cfg": "x", "my [env]/lib/torch.so": 9000, "a.log": 9, ".env": "TOKEN=1"})
    fill(
        tmp_path,
        {"weights/m.safetensors": MIN_BYTES, "data/d.parquet": MIN_BYTES * 2, "few.csv": 10, "other/d.zip": MIN_BYTES},
    )
    file = parse_dockerfile(
        "FROM a AS one\nCOPY . /src\nCOPY --chown=1 weights /w\nFROM one\nCOPY --from=one other /o\n"
    )
    context = measure_context(tmp_path)
    proposal = propose_ignore(context, file)
    assert [(line.pattern, line.byte_count, line.file_count) for line in proposal.lines] == [
        ("**/*.parquet", MIN_BYTES * 2, 1),
        ("**/*.zip", MIN_BYTES, 1),
        (r"/my \[env\]", 9001, 2),
        ("**/__pycache__", 3000, 1),
        ("**/.git", 500, 1),
        ("**/*.pyc", 10, 1),
        ("**/.env", 7, 1),
    ]
    assert proposal.kept == ("**/*.safetensors (10.0 MiB): line 3 of Dockerfile names it",)
    assert proposal.text.startswith("# mine\n*.log\n# data (20.0 MiB, 1 file)\n**/*.parquet\n")
    (tmp_path / ".dockerignore").write_text(proposal.text)
    after = measure_context(tmp_path)
    saved = context.byte_count - after.byte_count + len(proposal.text) - len("# mine\n*.log")
    assert saved == proposal.byte_count
    assert propose_ignore(after, file).lines == ()


def test_what_an_instruction_names_is_kept(tmp_path: Path) -> None:
    fill(tmp_path, {".env": "A=1", "certificates/ca.pem": "x", "deep/node_modules/a/x": "y", "venv/bin/x": "z"})
    text = """FROM a
ARG WHERE=deep
COPY .env certificates/*.pem /x/
ADD ["$WHERE/node_modules/a", "/y"]
COPY "$WHERE/node_modules/a" /y
RUN --mount=source=venv,target=/v true
"""
    proposal = propose_ignore(measure_context(tmp_path), parse_dockerfile(text))
    assert proposal.lines == ()
    assert [each.partition(" ")[0] for each in proposal.kept] == ["**/.env", "**/*.pem", "**/node_modules", "**/venv"]
