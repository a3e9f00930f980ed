"""Loads into every kind of private registry, which skopeo and crane read afterwards."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from registry_pipelines.errors import Unavailable
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Registry
from tests.doubles.docker_registry import DockerRegistry
from tests.evidence.parts import Key
from tests.mirror.bundle.gap import Far, publish, whole
from tests.mirror.bundle.written import Line
from tests.patience import patient

MakeKey = Callable[[str], Key]


@pytest.fixture(params=["embedded", "docker-registry"])
def private(
    request: pytest.FixtureRequest, tmp_path: Path, peer: Callable[[str], str]
) -> Iterator[DistributionRegistry]:
    with ExitStack() as stack:
        if request.param == "embedded":
            address = stack.enter_context(EmbeddedServer(tmp_path / "private")).address
        else:
            address = stack.enter_context(DockerRegistry(peer("docker-registry"), tmp_path / "private")).address
        registry = DistributionRegistry(address)
        stack.callback(registry.close)
        yield registry


def names(registry: Registry) -> list[str]:
    return [name for name in registry.repositories() if name.startswith("library/")]


@pytest.mark.peer("docker-registry", "skopeo", "crane")
def test_a_load_and_the_next_are_read_by_skopeo_and_crane(
    private: DistributionRegistry, make_key: MakeKey, peer: Callable[[str], str], tmp_path: Path
) -> None:
    near, line = LayoutRegistry(tmp_path / "near"), Line(make_key("near").signer)
    far = Far(private, tmp_path / "far")
    line.write(tmp_path / "one", publish(near, 1))
    assert far.load(tmp_path / "one")[0].ok
    receipt = far.receipt(make_key("far").signer)
    line.write(tmp_path / "two", publish(near, 2), receipt=receipt)
    (second,) = far.load(tmp_path / "two")
    assert second.ok, [str(each.error) for each in second.images]
    assert whole(private, names(private)) == whole(near)
    digest = near.resolve("library/many", "1").digest
    crane = subprocess.run(
        [peer("crane"), "--insecure", "digest", f"{private.name}/library/many:1"],
        capture_output=True,
        check=True,
        timeout=patient(60),
    )
    assert crane.stdout.decode().strip() == digest
    validate = [peer("crane"), "--insecure", "validate", "--remote", f"{private.name}/library/app:latest"]
    subprocess.run(validate, check=True, capture_output=True, timeout=patient(60))
    copied = [
        *(peer("skopeo"), "--insecure-policy", "copy", "--all", "--preserve-digests", "--src-tls-verify=false"),
        *(f"docker://{private.name}/library/many:1", f"oci:{tmp_path / 'skopeo'}:1"),
    ]
    subprocess.run(copied, check=True, capture_output=True, timeout=patient(120))
    assert LayoutRegistry(tmp_path).resolve("skopeo", "1").digest == digest


def test_a_registry_that_is_down_keeps_nothing_from_the_next_try(make_key: MakeKey, tmp_path: Path) -> None:
    near, line = LayoutRegistry(tmp_path / "near"), Line(make_key("near").signer)
    line.write(tmp_path / "one", publish(near, 1))
    line.write(tmp_path / "two", publish(near, 2))
    with EmbeddedServer(tmp_path / "private") as server:
        address = server.address
    down = Far(DistributionRegistry(address), tmp_path / "far")
    (load,) = down.load(tmp_path / "one")
    assert not load.ok and all(isinstance(each.error, Unavailable) for each in load.images)
    assert not down.memory.read().loaded
    with EmbeddedServer(tmp_path / "private") as server:
        up = Far(DistributionRegistry(server.address), tmp_path / "far")
        assert [each.ok for each in up.load(tmp_path / "one", tmp_path / "two")] == [True, True]
        assert whole(up.registry) == whole(near)
