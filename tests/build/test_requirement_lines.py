from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pip._internal.req.req_file import preprocess

from registry_pipelines.build.requirement_lines import absolute, local_links, read_lines, source_options
from registry_pipelines.errors import RequirementsInvalid

PIECES = st.sampled_from(["a", "b==1", " ", "\\", "#", " # c", "  ", "\\\n", "\n", "\t", "--pre", "-i", "y#z", "'"])


def texts(*lines: str, folder: Path = Path()) -> list[str]:
    return [line.text for line in read_lines(lines, None, folder=folder)]


@given(st.lists(PIECES, max_size=30).map("".join))
def test_lines_are_joined_and_cut_as_pip_does(text: str) -> None:
    wanted = [line.strip() for _, line in preprocess(text)]
    assert texts(*text.splitlines()) == [line for line in wanted if line]


def test_an_option_goes_on_in_the_next_line() -> None:
    [line] = read_lines(["--index-url \\", "  https://index.example/simple"], None, folder=Path())
    assert line.option == ("--index-url", "https://index.example/simple") and line.is_source


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("-r more.txt", ("-r", "more.txt")),
        ("--requirement=more.txt", ("--requirement", "more.txt")),
        ("-fwheels", ("-f", "wheels")),
        ("--pre", ("--pre", "")),
        ("numpy==1", ("", "")),
    ],
)
def test_options_are_told_from_requirements(text: str, option: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("")
    lines = read_lines([text], None, folder=Path("/nowhere")) if "more" not in text else None
    if lines is None:
        assert read_lines([text], None, folder=tmp_path) == []
    else:
        assert lines[0].option == option


def test_nested_files_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "top.txt").write_text("one\n-r deep/two.txt\n-c limits.txt\n")
    (tmp_path / "deep/two.txt").write_text("two # said\n-r three.txt\n")
    (tmp_path / "deep/three.txt").write_bytes("\ufeffthree".encode())
    (tmp_path / "limits.txt").write_text("four<4\n")
    lines = read_lines([], tmp_path / "top.txt", folder=Path("/nowhere"))
    assert [(line.text, line.constraint) for line in lines] == [
        ("one", False),
        ("two", False),
        ("three", False),
        ("four<4", True),
    ]
    assert lines[1].where == f"{tmp_path}/deep/two.txt, line 1"


def test_files_that_name_each_other_end(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("-r a.txt\n")
    with pytest.raises(RequirementsInvalid, match="deep"):
        read_lines([], tmp_path / "a.txt", folder=tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "-e .",
        "--editable=src",
        "git+https://git.example/x.git",
        "x @ git+ssh://git@git.example/x.git@v1",
        "x @ https://files.example/x-1.0.tar.gz",
        "./source",
        "x @ file:///tmp/x-1.0.zip",
    ],
)
def test_what_would_have_to_be_built_is_refused_by_its_line(line: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(RequirementsInvalid, match="would have to be built") as caught:
        read_lines(["fine", line], None, folder=tmp_path)
    assert "line 2" in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "x @ https://files.example/x-1.0-py3-none-any.whl#sha256=aa",
        "x[extra]>=1; python_version > '3'",
        "numpy==1.0 --hash=sha256:aa",
        "this is no requirement",
    ],
)
def test_what_pip_has_to_judge_is_left_to_pip(line: str, tmp_path: Path) -> None:
    assert texts(line, folder=tmp_path) == [line]


@pytest.mark.parametrize("line", ["requirements.txt", "Requirements-dev.TXT"])
def test_the_name_of_a_file_is_no_package(line: str, tmp_path: Path) -> None:
    with pytest.raises(RequirementsInvalid, match="is the name of a file and no package") as told:
        read_lines([line], None, folder=tmp_path)
    assert f"-r {line}" in str(told.value)


def test_passwords_in_a_refused_line_are_not_repeated() -> None:
    with pytest.raises(RequirementsInvalid) as caught:
        read_lines(["git+https://user:hunter2@git.example/x.git"], None, folder=Path())
    assert "hunter2" not in str(caught.value)


def test_sources_of_lines(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    local = read_lines(["--find-links wheels", "one"], None, folder=tmp_path)
    assert local_links(local) == [tmp_path / "wheels"]
    assert source_options(local) == [f"--find-links {tmp_path / 'wheels'}"]
    for option in ("--extra-index-url https://index.example", "-f https://index.example/page.html"):
        assert local_links(read_lines([option], None, folder=tmp_path)) is None


@pytest.mark.parametrize(
    ("line", "pin"),
    [
        ("Some.Name==1.0 --hash=sha256:aa \\", ("some-name", "1.0")),
        ("a[b]==1; python_version>'3'", ("a", "1")),
        ("a>=1", None),
        ("a==1.*", None),
        ("a @ https://x/a-1-py3-none-any.whl", None),
    ],
)
def test_pins(line: str, pin: tuple[str, str] | None) -> None:
    [parsed] = read_lines([line, ""], None, folder=Path())
    assert parsed.pin() == pin


@pytest.mark.parametrize("rest", ["", "[extra]", "[a,b] ; python_version > '3'", " --hash=sha256:aa", "  # ours"])
def test_a_wheel_by_its_path_is_found_from_elsewhere_with_what_pip_takes_behind_it(rest: str, tmp_path: Path) -> None:
    (tmp_path / "own-1.0-py3-none-any.whl").touch()
    kept = rest.partition("  #")[0]
    assert absolute([f"./own-1.0-py3-none-any.whl{rest}"], tmp_path) == [f"{tmp_path}/own-1.0-py3-none-any.whl{kept}"]
    gone = f"gone-1.0-py3-none-any.whl{rest}"
    assert absolute([gone], tmp_path) == [gone]
