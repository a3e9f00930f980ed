"""Dockerfiles as data: golden ones, wrong ones, and any text against BuildKit's own parser."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry_pipelines.build.dockerfile.instructions import Dockerfile, Instruction
from registry_pipelines.build.dockerfile.parsing import parse_dockerfile, read_dockerfile
from registry_pipelines.build.dockerfile.rules import arguments, pairs
from registry_pipelines.build.dockerfile.substitution import MAX_FILLED
from registry_pipelines.build.from_lines import MAX_DOCKERFILE_BYTES
from registry_pipelines.errors import InputError
from tests.build.dockerfile import buildkit_parser
from tests.needs import needed_module

WHOLE = r"""# syntax=docker/dockerfile:1.7
# escape=\

ARG BASE=debian:12
ARG UNTOLD
# what follows makes the wheels
FROM --platform=$BUILDPLATFORM ${BASE} AS Wheels
ARG UNTOLD=default
ENV HOME=/root "NAME"='a $b' PATH=$PATH:/x
RUN --mount=type=cache,target="/root/.cache" --network=none \
  # a comment within

  pip wheel \
    -r requirements.txt
COPY --chmod=644 <<-"PLAIN" <<FILLED /etc/
	one $HOME
	PLAIN
two $HOME
FILLED
FROM $MISSING
FROM wheels AS last
COPY --from=0 ["a b", "$HOME/c"]
WORKDIR ${HOME:-/x}/work
ONBUILD COPY --link <<E /there
text
E
HEALTHCHECK --interval=5s CMD ["a", "b"]
"""


def test_whole_file() -> None:
    file = parse_dockerfile(WHOLE, args={"UNTOLD": "given"})
    assert (file.syntax, file.syntax_line, file.escape) == ("docker/dockerfile:1.7", 1, "\\")
    assert [(each.line, each.value) for each in file.arguments] == [(4, "BASE=debian:12"), (5, "UNTOLD")]
    first, second, last = file.stages
    assert (first.number, first.name, first.base, first.image) == (0, "wheels", "${BASE}", "debian:12")
    assert [(flag.name, flag.value) for flag in first.begin.flags] == [("platform", "$BUILDPLATFORM")]
    assert first.begin.unknown == ("BUILDPLATFORM",)
    assert (second.image, second.begin.unknown) == ("", ("MISSING",))
    assert (last.name, last.base_stage, last.image) == ("last", 0, "")
    _, environment, run, copy = first.instructions
    assert pairs(environment, "\\") == (("HOME", "/root"), ('"NAME"', "'a $b'"), ("PATH", "$PATH:/x"))
    assert environment.unknown == ("PATH",)
    assert [flag.written for flag in run.flags] == ["--mount=type=cache,target=/root/.cache", "--network=none"]
    assert (run.line, run.end_line, run.value) == (10, 14, "pip wheel     -r requirements.txt")
    assert (run.line_of("requirements.txt"), run.line_of("nowhere")) == (14, 10)
    plain, filled = copy.heredocs
    assert (plain.name, plain.body, plain.line) == ("PLAIN", "\tone $HOME\n", 16)
    assert (plain.expands, plain.strips_tabs) == (False, True)
    assert (filled.name, filled.body, filled.line, filled.expands) == ("FILLED", "two $HOME\n", 18, True)
    assert copy.words == ('<<-"PLAIN"', "<<FILLED", "/etc/")
    later, workdir, onbuild, health = last.instructions
    assert later.json == ("a b", "$HOME/c")
    assert workdir.filled == "/root/work"
    assert onbuild.trigger is not None and onbuild.trigger.flag("link") is not None
    assert [each.body for each in onbuild.trigger.heredocs] == ["text\n"]
    assert (health.json, health.line) == (("a", "b"), 27)
    assert file.stage("") is last and file.stage("WHEELS") is first and file.stage("1") is second
    assert file.stage("no") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A", "one"),
        ("${A}/x", "one/x"),
        ("$NO", "$NO"),
        ("${NO:-else}", "else"),
        ("${NO:-${A}}", "one"),
        ("${EMPTY:-else}", "else"),
        ("${EMPTY-else}", ""),
        ("${A:+then}", "then"),
        ("${NO:+then}", ""),
        ("${A:?message}", "one"),
        (r"\$A", r"\$A"),
        ("'$A'", "'$A'"),
        ("a$", "a$"),
        ("${A#o}", "${A#o}"),
    ],
)
def test_values_of_variables(text: str, expected: str) -> None:
    file = parse_dockerfile(f"FROM a\nARG A=one\nARG EMPTY=\nWORKDIR {text}\n")
    assert file.stages[0].instructions[-1].filled == expected


def test_environment_wins_over_arguments_and_goes_on_into_the_next_stage() -> None:
    text = "ARG V=1\nFROM a AS one\nARG V\nENV W=$V\nARG W=2\nUSER $W\nFROM one\nUSER $V$W\nARG V=3\nUSER $V\n"
    users = [each.filled for each in parse_dockerfile(text).all_instructions() if each.keyword == "USER"]
    assert users == ["1", "$V1", "3"]
    told = parse_dockerfile(text, args={"V": "9"})
    assert [each.filled for each in told.all_instructions() if each.keyword == "USER"] == ["9", "$V9", "9"]


WRONG = [
    ("", "Dockerfile: there is no FROM line"),
    ("# only\n\n", "Dockerfile: there is no FROM line"),
    ("ARG a\n", "Dockerfile: there is no FROM line"),
    ("RUN x\nFROM a\n", "Dockerfile:1: RUN stands before the first FROM"),
    ("FROM a\n\nRUM x\n", "Dockerfile:3: there is no instruction RUM. Is RUN meant?"),
    ("FROM a\nRUN x\n  && y\n", "Dockerfile:3: there is no instruction &&. If it belongs to the line above, end that"),
    ("FROM a b\n", "Dockerfile:1: FROM takes an image, or an image and a name"),
    ("FROM a AS 1\n", "Dockerfile:1: '1' cannot be the name of a stage"),
    ("FROM a\nCOPY x\n", "Dockerfile:2: COPY takes at least one source and a destination"),
    ("FROM a\nCOPY --frm=x a b\n", "Dockerfile:2: COPY knows no flag --frm. It knows --chmod, --chown, --exclude"),
    ("FROM a\nCOPY --from=1 a b\n", "Dockerfile:2: --from=1 names no stage above this one"),
    ("FROM a\nCOPY --chown a b\n", "Dockerfile:2: --chown has no value"),
    ("FROM a\nCOPY --link=no a b\n", "Dockerfile:2: --link=no is neither true nor false"),
    ("FROM a\nCOPY --from=x --from=y a b\n", "Dockerfile:2: --from stands twice"),
    ("FROM a\nUSER --x y\n", "Dockerfile:2: USER knows no flag --x. It has no flags"),
    ("FROM a\n\nRUN <<EOF\nx\n", "Dockerfile:3: the heredoc <<EOF has no end"),
    ("FROM a\nCOPY x <<EOF\nEOF\n", "Dockerfile:2: COPY has a heredoc for its destination"),
    ("FROM a\nENV x\n", "Dockerfile:2: ENV has a name without value"),
    ("FROM a\nENV x=1 y\n", "Dockerfile:2: there is no = in 'y'"),
    ("FROM a\nLABEL =1\n", "Dockerfile:2: LABEL has a value without name"),
    ("FROM a\nARG\n", "Dockerfile:2: ARG names nothing"),
    ("FROM a\nCMD [1]\n", "Dockerfile:2: the JSON form takes strings alone"),
    ("FROM a\nSHELL bash\n", "Dockerfile:2: SHELL takes the JSON form alone"),
    ("FROM a\nUSER\n", "Dockerfile:2: USER says nothing"),
    ("FROM a\nONBUILD FROM x\n", "Dockerfile:2: FROM cannot stand behind ONBUILD"),
    ("FROM a\nONBUILD\n", "Dockerfile:2: ONBUILD says nothing"),
    ("FROM a\nHEALTHCHECK x\n", "Dockerfile:2: HEALTHCHECK takes CMD with a command, or NONE"),
    ("# escape=x\nFROM a\n", "Dockerfile:1: 'x' cannot be the escape character"),
    ("# escape=`\n# escape=`\nFROM a\n", "Dockerfile:2: the directive escape stands twice"),
    ("FROM a\n\\\n", "Dockerfile:2: nothing stands before the escape character"),
    ("FROM a\nRUN " + "x" * 65_535, "Dockerfile:2: the line is longer than 65535 bytes"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message[:50] for _, message in WRONG])
def test_what_is_wrong_is_told_with_its_line(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_dockerfile(text)
    assert str(caught.value).startswith(message)


HOSTILE = {
    "doubling": "FROM a\nENV A=xxxxxxxx\n" + "ENV A=$A$A\n" * 60 + "WORKDIR $A\n",
    "nested": "FROM a\nWORKDIR " + "${A:-" * 9_000 + "x" + "}" * 9_000 + "\n",
    "unclosed": "FROM a\nWORKDIR " + "${A:-" * 9_000 + "\n",
    "many variables": "FROM a\n" + "".join(f"ENV A{number}=$B\n" for number in range(10_000)),
    "many lines": "FROM a\n" + "RUN x \\\n" * 100_000,
    "quotes": "FROM a\nRUN <<E " + "'\"" * 30_000 + "\nE\n",
    "JSON": "FROM a\nRUN " + "[" * 60_000 + "\n",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_files_that_would_take_all_memory_or_time(text: str) -> None:
    file = parse_dockerfile(text)
    assert all(len(each.filled) <= 2 * MAX_FILLED for each in file.all_instructions())


def test_too_much_of_a_thing() -> None:
    with pytest.raises(InputError, match="Dockerfile:1001: there are more than 1000 stages"):
        parse_dockerfile("FROM a\n" * 2000)
    with pytest.raises(InputError, match="Dockerfile:2: it has more than 1000 flags"):
        parse_dockerfile("FROM a\nRUN " + "--mount=type=cache,target=/x " * 2000 + "x\n")
    with pytest.raises(InputError, match="ONBUILD cannot stand behind ONBUILD"):
        parse_dockerfile("FROM a\n" + "ONBUILD " * 8000 + "RUN x\n")


def test_reading(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_dockerfile(path)
    path.write_bytes(b"FROM a # caf\xe9\n")
    assert read_dockerfile(path) == "FROM a # caf\ufffd\n"
    path.write_bytes(b"#" * (MAX_DOCKERFILE_BYTES + 1))
    with pytest.raises(InputError, match="larger than"):
        read_dockerfile(path)


@pytest.fixture(scope="module")
def theirs() -> Iterator[Callable[[str], Any]]:
    """What BuildKit's parser says of a text."""
    needed_module("dockerfile", "dev")
    command = [sys.executable, buildkit_parser.__file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None and child.stdout is not None
        write, read = child.stdin, child.stdout

        def ask(text: str) -> Any:
            write.write(json.dumps(text) + "\n")
            write.flush()
            return json.loads(read.readline())

        yield ask
        write.close()


def ours(file: Dockerfile) -> list[dict[str, object]]:
    """In the other's form, less what it does not give of ONBUILD and HEALTHCHECK."""
    return [
        {
            "keyword": each.keyword,
            "trigger": each.trigger.keyword if each.trigger else None,
            "json": each.json is not None,
            "lines": [each.line, each.end_line],
            "flags": [flag.written for flag in each.flags],
            "values": values_of(each, file.escape),
            "heredocs": [[heredoc.name, heredoc.body] for heredoc in each.heredocs],
        }
        for each in file.all_instructions()
    ]


def values_of(each: Instruction, escape: str) -> list[str]:
    if each.keyword == "ONBUILD":
        return []
    if each.keyword in ("ENV", "LABEL"):
        return [text for pair in pairs(each, escape) for text in pair]
    if each.keyword == "ARG":
        return [name if value is None else f"{name}={value}" for name, value in arguments(each, escape)]
    if each.keyword in ("FROM", "EXPOSE", "COPY", "ADD", "VOLUME"):
        return list(each.words)
    return list(each.json) if each.json is not None else [each.value] * bool(each.value)


SPACE = st.sampled_from([" ", " ", "  ", "\t", " \\\n", " \\\n  ", " \\ \n# within\n\n", " \\\r\n"])
WORD = st.sampled_from(
    [
        *("a", "b=c", "$X", "${X}", "'q r'", '"d e"', r"\ ", r"x\"y", "&&", "E", "--late", "=", "x=", "#no", "`"),
        *("<<E", "<<-E", "<<'E'", '3<<"E F"', "cat<<E", "<<<E", "]"),
    ]
)
# Alone: what stands behind a JSON form, Docker 20.10 drops, and newer ones make a shell form of the whole.
JSON = st.sampled_from(['["a", "b"]', '[ "a" , "b" ] ', "[]", '["a"', "['a', 'b']", r'["\u0041\n", "<<E"]'])
FLAGS = {
    "RUN": ["--mount=type=cache,target=/x", "--mount='type=bind'", r"--network=a\ b"],
    "COPY": ["--link", '--chown="1:1"', "--"],
    "ADD": ["--chmod=1"],
}
KEYWORDS = (
    "RUN",
    "COPY",
    "ADD",
    "ENV",
    "LABEL",
    "ARG",
    "CMD",
    "ONBUILD RUN",
    "ONBUILD COPY",
    "WORKDIR",
    "VOLUME",
    "run",
)
BETWEEN = st.sampled_from(["", "", "\n", "# comment\n", "E\n", "\tE\nE\n", "E F\n", "text\nE\nE F\n", "  ", "\r\n"])


@st.composite
def dockerfiles(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(["", "# escape=`\n", "#syntax=x\n# escape=\\\n", "\ufeff", "\n# escape=`\n"]))
    text += "FROM a\n"
    for keyword in draw(st.lists(st.sampled_from(KEYWORDS), min_size=1, max_size=4)):
        flags = draw(st.lists(st.sampled_from(FLAGS.get(keyword.upper(), ["a"])), max_size=1))
        given_words = draw(st.one_of(st.lists(WORD, min_size=1, max_size=5), st.tuples(JSON)))
        words = [keyword, *flags, *given_words]
        text += "".join(word + draw(SPACE) for word in words[:-1]) + words[-1]
        text += draw(st.sampled_from(["\n", "\n", "\r\n"])) + draw(BETWEEN)
    return text


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=dockerfiles())
def test_as_buildkit_reads_it(theirs: Callable[[str], Any], text: str) -> None:
    """What both take is read equally, and what BuildKit's parser refuses, ours refuses. (Ours has the rules of each
    instruction too, which stand in another place of BuildKit.)"""
    answer = theirs(text)
    try:
        file = parse_dockerfile(text)
    except InputError:
        return
    assert isinstance(answer, list), answer
    for row, found in zip(ours(file), answer, strict=True):
        if row["keyword"] == "ONBUILD":
            found |= {"values": [], "json": False}
        assert row == found


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="FROMaRUN \\\n\r\t<-E'\"`#=${}[],:?+\x00é", max_size=80))
def test_any_text_is_a_file_or_an_input_error(text: str) -> None:
    try:
        file = parse_dockerfile("FROM a\n" + text)
    except InputError as error:
        assert error.where.startswith("Dockerfile")
        return
    for each in file.all_instructions():
        assert 1 <= each.line <= each.end_line
        assert len(each.source) == each.end_line - each.line + 1
