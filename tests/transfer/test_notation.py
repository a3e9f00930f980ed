"""Signatures of another family: what notation signed at the source, notation verifies wherever we copied it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.verify import compare
from tests.patience import patient

if TYPE_CHECKING:
    from tests.transfer.conftest import Graphs

SIGNATURE = "application/vnd.cncf.notary.signature"
POLICY = {
    "version": "1.0",
    "trustPolicies": [
        {
            "name": "ours",
            "registryScopes": ["*"],
            "signatureVerification": {"level": "strict"},
            "trustStores": ["ca:tests"],
            "trustedIdentities": ["*"],
        }
    ],
}
pytestmark = pytest.mark.peer("notation", "docker-registry")


class Notation:
    """The real program with a home, a test certificate and a policy of its own."""

    def __init__(self, program: str, home: Path) -> None:
        self._program, self._home = program, home
        home.mkdir()
        self("cert", "generate-test", "--default", "tests")
        (home / "policy.json").write_text(json.dumps(POLICY))
        self("policy", "import", str(home / "policy.json"))

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("NOTATION", "XDG"))}
        command, home = [self._program, *arguments], {"HOME": str(self._home)}
        return subprocess.run(command, env={**environment, **home}, capture_output=True, text=True, timeout=patient(60))

    def __call__(self, *arguments: str) -> str:
        done = self.ask(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def notation(peer: Callable[[str], str], tmp_path: Path) -> Notation:
    return Notation(peer("notation"), tmp_path / "notation-home")


@pytest.fixture
def place_of(
    start_embedded: Callable[..., object],
    start_docker_registry: Callable[[], str],
    connect: Callable[..., DistributionRegistry],
) -> Callable[[str, str], Place]:
    """A repository of a new registry of a kind: one with the referrers API, or one that knows fallback tags only."""

    def make(kind: str, repository: str) -> Place:
        if kind == "docker-registry":
            return Place(connect(start_docker_registry()), repository)
        return start_embedded().place(repository)  # type: ignore[attr-defined,no-any-return]

    return make


@pytest.mark.parametrize("target_kind", ["embedded", "docker-registry"])
@pytest.mark.parametrize("source_kind", ["embedded", "docker-registry"])
def test_a_copy_carries_the_signature_and_notation_verifies_it(
    source_kind: str, target_kind: str, place_of: Callable[[str, str], Place], notation: Notation, graphs: Graphs
) -> None:
    source, target = place_of(source_kind, "team/app"), place_of(target_kind, "far/app")
    image = graphs.image(source, b"a layer" * 1000, tag="v1")
    unsigned = graphs.image(source, b"another layer", tag="v2")
    tag = "true" if source_kind == "docker-registry" else "false"
    notation("sign", "--insecure-registry", f"--force-referrers-tag={tag}", f"{source}@{image.digest}")

    for version in ("v1", "v2"):
        assert copy_closure(source, version, [target]).per_target[0].changed
        assert compare(source, target, version) == []
    [signature] = target.registry.referrers(target.repository, image.digest)
    assert signature.artifact_type == SIGNATURE
    assert "Successfully verified" in notation("verify", "--insecure-registry", f"{target}@{image.digest}")
    refused = notation.ask("verify", "--insecure-registry", f"{target}@{unsigned.digest}")
    assert refused.returncode != 0 and "no signature is associated" in refused.stderr


def test_a_signature_that_comes_later_is_carried_by_the_next_copy(
    place_of: Callable[[str, str], Place], notation: Notation, graphs: Graphs
) -> None:
    """Of its own accord notation writes the fallback tag too, where the API is; both mean one artifact."""
    source, target = place_of("embedded", "team/app"), place_of("embedded", "far/app")
    image = graphs.image(source, b"a layer", tag="v1")
    assert copy_closure(source, "v1", [target]).per_target[0].changed
    assert notation.ask("verify", "--insecure-registry", f"{target}@{image.digest}").returncode != 0
    notation("sign", "--insecure-registry", f"{source}@{image.digest}")
    assert image.digest.fallback_tag in set(source.registry.tags(source.repository))
    assert copy_closure(source, "v1", [target]).per_target[0].changed
    assert "Successfully verified" in notation("verify", "--insecure-registry", f"{target}@{image.digest}")
    assert not copy_closure(source, "v1", [target]).per_target[0].changed
