"""Places that a person names and did not mean: refused in a word, and nothing there is lost."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from tests.weights.conftest import call, done, files_of


@pytest.fixture
def reference(address: str, model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    done("push", model("m", 1), f"{address}/m:1")
    return f"{address}/m:1"


def refused(code: int, *words: str) -> str:
    result = CliRunner().invoke(main, ["weights", *words])
    assert result.exit_code == code, result.output
    return result.stderr


def test_a_pull_takes_a_folder_that_was_pushed_to_as_a_store(reference: str, tmp_path: Path) -> None:
    """What a push keeps there lies where a pull has what has not fully come."""
    store = tmp_path / "store"
    done("push", "m", str(store))
    (store / ".registry-pipelines" / "here" / "left").mkdir(parents=True)
    (store / "config.json").write_text("damaged")
    done("pull", reference, "--to", str(store))
    assert files_of(store) == files_of(tmp_path / "m")
    assert not (store / ".registry-pipelines").exists()
    done("verify", str(store))


def test_no_file_takes_the_place_of_a_pipe_or_a_device(reference: str, tmp_path: Path) -> None:
    pipe, out = tmp_path / "pipe", tmp_path / "stdout"
    os.mkfifo(pipe)
    out.symlink_to("/proc/self/fd/1")  # as /dev/stdout is
    for target in (pipe, out):
        told = refused(9, "read", reference, "layer.10001.weight", "--to", str(target))
        assert "a device, a pipe or a socket" in told
        told = refused(9, "mount", reference, "--form", "init", "--path", "/m", "--to", str(target))
        assert "a device, a pipe or a socket" in told
    assert stat.S_ISFIFO(pipe.lstat().st_mode) and out.is_symlink()


def test_what_is_no_place_is_wrong_input(reference: str, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    assert "this is a folder" in refused(8, "read", reference, "layer.10001.weight", "--to", "here")
    assert "is no object store" in refused(8, "ls", "s3://[x")
    assert "is no image" in refused(8, "mount", reference, "--form", "init", "--path", "/m", "--tool", "")
    assert "it is empty" in refused(2, "pull", reference, "--to", "")
    assert {path.name for path in tmp_path.iterdir()} == {"here", "m", "registry", "state"}


def test_a_folder_without_a_name_is_not_the_one_that_it_runs_in(reference: str) -> None:
    for command in (("push", "", reference), ("sign", ""), ("verify", "")):
        ran = call(*command)
        assert ran.exit_code == 2 and "it is empty" in ran.stderr, command
