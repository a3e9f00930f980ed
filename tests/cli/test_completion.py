"""Completion, as the shells themselves do it with the script that we print."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.terminal import typed

CONFIG = """
registries:
  here: {kind: distribution, host: registry.example.com}
  there: {kind: distribution, host: other.example.com}
images:
  forecaster: {registry: here, repository: ml/forecaster, targets: [away]}
  recommender: {registry: here, repository: ml/recommender}
targets:
  away: {registry: there}
"""

LINES = {
    "pro": ["provenance", "promote"],
    "promote fo": ["forecaster"],
    "promote --config other.yaml ": ["another"],
    "promote --config broken.yaml ": [],
    "ls ": ["forecaster", "here", "recommender", "there"],
    "replicate --target ": ["away"],
}
"""What is typed behind the program's name, and what is offered."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "registry-pipelines.yaml").write_text(CONFIG)
    (tmp_path / "other.yaml").write_text(CONFIG.replace("forecaster:", "another:").replace("  recommender:", "  # :"))
    (tmp_path / "broken.yaml").write_text("registries: [")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.delenv("REGISTRY_PIPELINES_CONFIG", raising=False)
    return tmp_path


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_bash_completes_commands_options_and_names(here: Path) -> None:
    asked = [
        f"COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=()\n"
        '_registry_pipelines_completion registry-pipelines; echo "${COMPREPLY[*]}"'
        for words in (shlex.join(["registry-pipelines", *line.split(" ")]) for line in LINES)
    ]
    script = "\n".join(['eval "$(registry-pipelines completion bash)"', "complete -p registry-pipelines", *asked])
    registered, *offered = run("bash", "--norc", "-c", script).splitlines()
    assert registered == "complete -o nosort -F _registry_pipelines_completion registry-pipelines"
    assert dict(zip(LINES, [line.split() for line in offered], strict=True)) == LINES


def test_fish_completes_names_and_says_what_commands_do(here: Path, peer: Callable[[str], str]) -> None:
    asked = [f"complete -C {shlex.quote('registry-pipelines ' + line)}" for line in ("judg", "promote rec")]
    script = "\n".join(["registry-pipelines completion fish | source", *asked])
    offered = run(peer("fish"), "--no-config", "-c", script).splitlines()
    assert [row.split("\t")[0] for row in offered] == ["judge", "recommender"] and "Judge a release" in offered[0]


def test_zsh_completes_at_the_tab_key(here: Path, peer: Callable[[str], str]) -> None:
    lines = ('PS1="ready> "', "autoload -Uz compinit", "compinit -D", 'eval "$(registry-pipelines completion zsh)"')
    (here / ".zshrc").write_text("\n".join(lines))
    answers = [("ready> ", "registry-pipelines promote fo\t"), ("promote forecaster", "\x15exit\n")]
    code, screen = typed([peer("zsh"), "-i"], answers, env={"ZDOTDIR": str(here), "TERM": "dumb"}, cwd=str(here))
    assert code == 0, screen
