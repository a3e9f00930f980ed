"""Some platforms of images, to a registry that refuses an index without the others: what it says, and what helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from registry_pipelines.chain import Chain
from registry_pipelines.cli import main
from registry_pipelines.registry.protocol import Place
from tests.answers import answered
from tests.chain.fleet import Fleet, start
from tests.doubles.docker_registry import DockerRegistry
from tests.scan.images import push_platforms

SYNCS = """\
syncs:
  bases: {source: us, repositories: [bases/python], targets: [eu, old], platforms: [linux/arm64]}
"""
ADVICE = "Set `selection: rewritten` (`--selection rewritten`)"
pytestmark = pytest.mark.peer("docker-registry")


@pytest.fixture
def fleet(tmp_path: Path, peer: Callable[[str], str]) -> Iterator[Fleet]:
    """`old` is docker-registry; the others are ours, which take any index."""
    with ExitStack() as stack:
        found = start(tmp_path, stack)
        old = stack.enter_context(DockerRegistry(peer("docker-registry"), tmp_path / "old"))
        push_platforms(Place(found.chain.registry("us"), "bases/python"), "amd64", "arm64", tag="1.0")
        found.reload(
            ("registries:\n", f"registries:\n  old: {{kind: distribution, host: '{old.address}'}}\n"),
            ("targets:\n", "targets:\n  old: {registry: old}\n"),
        )
        found.path.write_text(found.path.read_text() + SYNCS)
        yield found


def run(fleet: Fleet, *arguments: str, code: int = 0) -> Result:
    found = CliRunner().invoke(main, [*arguments, "--config", str(fleet.path)], env={"COLUMNS": "400"})
    assert found.exit_code == code, found.output
    assert "Traceback" not in found.output
    return found


def answer(fleet: Fleet, *arguments: str, code: int = 0) -> Any:
    return answered(run(fleet, *arguments, "--json", code=code).stdout)


def named(chain: Chain, registry: str) -> str:
    return str(chain.registry(registry).resolve("bases/python", "1.0").digest)


def test_a_sync_says_what_to_set_and_with_it_both_targets_are_filled(fleet: Fleet) -> None:
    [refused] = answer(fleet, "sync", "bases", code=6)
    [reason] = refused["reasons"]
    assert "an index without 1 of its manifests is not taken" in reason and ADVICE in reason
    assert [(row["target"], row["state"]) for row in refused["tables"]["targets"]] == [
        ("eu", "copied"),
        ("old", "failed"),
    ]
    assert ADVICE in run(fleet, "sync", "bases", code=6).output.replace("\n", " ")
    chain = fleet.reload(("platforms: [linux/arm64]", "platforms: [linux/arm64], selection: rewritten"))
    [done] = answer(fleet, "sync", "bases")
    assert done["ok"] and done["changed"]
    assert named(chain, "old") == named(chain, "eu") != named(chain, "us")
    [again] = answer(fleet, "sync", "bases")
    assert (again["changed"], again["bytes_moved"]) == (False, 0)
    chosen = ("--platform", "linux/arm64", "--selection", "rewritten")
    for copied in ("old/bases/python", "old/bases/python:1.0"):
        run(fleet, "verify-copy", "us/bases/python:1.0", copied, "--content", *chosen)
    run(fleet, "verify-copy", "us/bases/python", "old/bases/python", *chosen)
    assert "differs" in run(fleet, "verify-copy", "us/bases/python:1.0", "old/bases/python", code=6).output


def test_copies_and_syncs_of_the_command_line_take_the_same_choice(fleet: Fleet) -> None:
    arm = ("--platform", "linux/arm64")
    assert ADVICE in run(fleet, "copy", "us/bases/python:1.0", "old/one", *arm, code=6).output.replace("\n", " ")
    run(fleet, "copy", "us/bases/python:1.0", "old/one", *arm, "--selection", "rewritten")
    many = ("sync", "us", "old/many", "--repository", "bases/python", *arm)
    assert ADVICE in run(fleet, *many, code=6).output.replace("\n", " ")
    run(fleet, *many, "--selection", "rewritten")
    for copied in ("old/one", "old/many/bases/python"):
        run(fleet, "verify-copy", "us/bases/python:1.0", copied, *arm, "--selection", "rewritten")
    run(fleet, "copy", "us/bases/python:1.0", "eu/one", *arm)
    run(fleet, "verify-copy", "us/bases/python:1.0", "eu/one:1.0", *arm)


@pytest.mark.parametrize("command", [("copy", "us/a:1", "eu/a"), ("sync", "us", "eu"), ("verify-copy", "us/a", "eu/a")])
def test_a_choice_about_nothing_is_refused(fleet: Fleet, command: tuple[str, ...]) -> None:
    found = run(fleet, *command, "--selection", "rewritten", code=8)
    assert "--selection is about --platform, and none is named" in found.output
