"""Our reading of ignore files against Docker's: its matcher's stored answers, real builds, a second reading."""

from __future__ import annotations

import fnmatch
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.build.application import application_entries
from registry_pipelines.build.ignorefile import MAX_LINE_BYTES, Matches, read_patterns
from registry_pipelines.errors import InputError
from tests.build.ignore_cases import ignore_files, make_tree
from tests.doubles.docker_daemon import own_docker

VECTORS = json.loads((Path(__file__).parent.parent / "data" / "dockerignore-vectors.json").read_text(encoding="utf-8"))


def ignored(raw: bytes, paths: list[str]) -> list[bool]:
    """The answer for every path; folders stand before their content."""
    patterns = read_patterns(raw, "file")
    known: dict[str, Matches] = {}
    answers = []
    for path in paths:
        answer, known[path] = patterns.ignores(path, known.get(path.rpartition("/")[0], ()))
        answers.append(answer)
    return answers


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: ascii(case[0]))
def test_the_answers_are_those_of_docker_s_own_matcher(case: tuple[str, str | None]) -> None:
    text, expected = case
    if expected is None:
        with pytest.raises(InputError, match="is not understood"):
            read_patterns(text.encode(), "file")
    else:
        assert "".join("01"[answer] for answer in ignored(text.encode(), VECTORS["paths"])) == expected


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("!", 'nothing stands behind "!"'),
        ("id_[rd", 'a "[" that does not begin a class'),
        ("secrets\\", "ends with a backslash"),
        ("conf\\secrets.env", 'Write "/" between folders'),
        ("[z-a]", "the range z-a is empty"),
        ("a[*]", "inside brackets is read differently"),
        ("[[:alpha:]]", "inside brackets is read differently"),
        ("^key*", "beside a wildcard has no meaning"),
        ("a" * (MAX_LINE_BYTES + 1), "longer than"),
    ],
)
def test_a_line_that_is_not_understood_is_named_with_its_number(line: str, said: str) -> None:
    with pytest.raises(InputError, match="line 3 is not understood") as raised:
        read_patterns(f"# keys\n\n{line}\n".encode(), "/src/.dockerignore")
    assert said in str(raised.value)
    assert "/src/.dockerignore" in str(raised.value)
    assert len(str(raised.value)) < 1000


def test_bytes_that_are_not_utf8_are_refused_in_a_pattern_and_passed_over_in_a_comment() -> None:
    assert ignored(b"# caf\xe9\na\n", ["a"]) == [True]
    with pytest.raises(InputError, match=r"line 1 is not understood.*not UTF-8"):
        read_patterns(b"caf\xe9\n", "file")


@pytest.mark.parametrize("kind", ["folder", "link to nowhere", "too large"])
def test_an_ignore_file_that_cannot_be_read_is_an_error(tmp_path: Path, kind: str) -> None:
    file = tmp_path / ".dockerignore"
    if kind == "folder":
        file.mkdir()
    elif kind == "too large":
        file.write_bytes(b"a\n" * 1_000_000)
    else:
        file.symlink_to("nowhere")
    with pytest.raises(InputError, match=r"\.dockerignore"):
        application_entries(tmp_path, "/app")


@given(st.binary(max_size=60))
def test_any_bytes_are_patterns_or_an_error_of_ours(raw: bytes) -> None:
    try:
        patterns = read_patterns(raw, "file")
    except InputError:
        return
    for path in ("a", "a/b", "\n", raw.decode(errors="replace").replace("\0", "")):
        patterns.ignores(path)


SEGMENT = st.text("ab*?", min_size=1, max_size=3).filter(lambda text: "**" not in text)
PATTERN = st.lists(st.one_of(SEGMENT, st.just("**")), min_size=1, max_size=4)


@given(
    st.lists(st.tuples(st.booleans(), PATTERN), min_size=1, max_size=3), st.lists(st.text("ab", min_size=1), max_size=4)
)
def test_wildcards_mean_what_a_second_reading_says(lines: list[tuple[bool, list[str]]], path: list[str]) -> None:
    raw = "\n".join(("!" if back else "") + "/".join(segments) for back, segments in lines)
    expected = False
    for back, segments in lines:
        if fits(segments, path):
            expected = not back
    if path:
        assert ignored(raw.encode(), ["/".join(path)]) == [expected]


def fits(pattern: list[str], path: list[str]) -> bool:
    """Whether the pattern matches the path itself, segment by segment."""
    if not pattern or not path:
        return not pattern and not path
    if pattern[0] != "**":
        return fnmatch.fnmatchcase(path[0], pattern[0]) and fits(pattern[1:], path[1:])
    if not pattern[1:]:
        return True
    return fits(pattern[1:], path) or fits(pattern, path[1:])


TOGETHER = 15
"""Builds of one command; the engine loses sight of some when there are hundreds at a time."""


def docker_differs(count: int, seed: int, folder: Path, peer: Callable[[str], str]) -> list[str]:
    """Build `FROM scratch`, `COPY . /` with each ignore file; the contexts where Docker's image is not ours."""
    targets = {}
    files = ignore_files(count, seed)
    for number, raw in enumerate(files):
        context = folder / f"context{number}"
        make_tree(context)
        (context / ".dockerignore").write_bytes(raw)
        targets[f"t{number}"] = {
            "context": str(context),
            "dockerfile-inline": "FROM scratch\nCOPY . /\n",
            "output": [f"type=local,dest={folder / f'image{number}'}"],
        }
    bake = folder / "bake.json"
    bake.write_text(json.dumps({"target": targets}))
    names = list(targets)
    with own_docker(peer) as docker:
        for first in range(0, count, TOGETHER):
            command = [peer("docker-buildx"), "bake", "--file", str(bake), "--progress", "quiet"]
            command += names[first : first + TOGETHER]
            done = subprocess.run(command, env=docker.environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    different = []
    for number, raw in enumerate(files):
        image = folder / f"image{number}"
        theirs = {str(path.relative_to(image)) for path in image.rglob("*")}
        ours = {item.path for item in application_entries(folder / f"context{number}", "/")}
        # Docker packs the ignore file itself, we do not.
        if different_paths := (ours ^ theirs) - {".dockerignore"}:
            different.append(f"{raw!r}: {sorted(different_paths)}")
    return different


@pytest.mark.peer("dockerd", "docker", "docker-buildx")
def test_docker_packs_the_same_files(tmp_path: Path, peer: Callable[[str], str]) -> None:
    assert docker_differs(12, 1, tmp_path, peer) == []


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.peer("dockerd", "docker", "docker-buildx")
def test_docker_packs_the_same_files_for_200_ignore_files(tmp_path: Path, peer: Callable[[str], str]) -> None:
    assert docker_differs(200, 2, tmp_path, peer) == []
