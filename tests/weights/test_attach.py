"""Weights of an image: whatever takes the image with all that belongs to it takes them, what keeps it keeps them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.collect.apply import apply_plan
from registry_pipelines.collect.make import plan_retention
from registry_pipelines.collect.rules import RetentionRule
from registry_pipelines.errors import NotFound
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.weights.attach import attach_weights
from registry_pipelines.weights.ends import from_folder
from registry_pipelines.weights.opening import open_weights
from registry_pipelines.weights.pull import pull_weights
from registry_pipelines.weights.to_registry import register_weights
from tests.answers import answered
from tests.chain.fleet import Fleet, push, start
from tests.doubles.fault_registry import FaultRegistry
from tests.evidence.parts import Key
from tests.mirror.bundle.gap import far_layout
from tests.mirror.bundle.nearside import Near
from tests.weights.conftest import call, done, files_of


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """With a store in a folder that `us` is backed up to."""
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        vault = f"  vault: {{kind: store, address: '{tmp_path / 'vault'}'}}\n"
        fleet.path.write_text(
            fleet.path.read_text().replace("registries:\n", f"registries:\n{vault}")
            + "backups:\n  nightly: {registries: [us], to: vault}\n"
        )
        yield fleet


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def ran(*words: str) -> dict[str, object]:
    made = CliRunner().invoke(main, [*words, "--quiet", "--json"])
    assert made.exit_code == 0, (made.output, made.stderr)
    return dict(answered(made.stdout))


def test_copies_and_backups_take_the_weights_of_a_release(
    fleet: Fleet, model: Callable[..., Path], tmp_path: Path
) -> None:
    folder, config = model("m"), ("--config", str(fleet.path))
    fleet.release("v1.0.0")
    done("push", folder, "us/models/m:1", *config)
    attached = done("attach", "app:v1.0.0", "us/models/m:1", *config)
    assert attached["bytes_moved"] == 0 and attached["action"] == "attached, 7 mounted"
    assert done("attach", "app:v1.0.0", "us/models/m:1", *config)["action"] == "unchanged"
    assert done("ls", "app:v1.0.0", *config)["digest"] == attached["digest"]

    ran("copy", "us/team/app:v1.0.0", "eu/copied/app", *config)
    assert done("verify", "eu/copied/app:v1.0.0", *config)["digest"] == attached["digest"]
    done("pull", "eu/copied/app:v1.0.0", "--to", tmp_path / "from-copy", *config)
    assert files_of(tmp_path / "from-copy") == files_of(folder)

    ran("recover", "backup", *config)
    ran("recover", "restore", "--prefix", "back", "--repository", "team/*", *config)
    done("pull", "us/back/team/app:v1.0.0", "--to", tmp_path / "from-backup", *config)
    assert files_of(tmp_path / "from-backup") == files_of(folder)


def test_a_mirror_takes_them_across(fleet: Fleet, model: Callable[..., Path], tmp_path: Path) -> None:
    folder, config = model("m"), ("--config", str(fleet.path))
    push(Place(fleet.chain.place("app").registry, "up/stream"), "1.0", provenance=False)
    done("push", folder, "us/models/m:1", *config)
    done("attach", "us/up/stream:1.0", "us/models/m:1", *config)
    made = CliRunner().invoke(main, ["mirror", "run", "airgap", *config, "--quiet"])
    assert made.exit_code == 0, (made.output, made.stderr)
    done("pull", "private/in/up/stream:1.0", "--to", tmp_path / "behind", *config)
    assert files_of(tmp_path / "behind") == files_of(folder)


def test_a_bundle_has_them_once(tmp_path: Path, make_key: Callable[[str], Key], model: Callable[..., Path]) -> None:
    """The next bundle, with new code and the same weights, leaves them out."""
    registry = LayoutRegistry(tmp_path / "near")
    place, folder = Place(registry, "ml/server"), model("m")
    size = sum(map(len, files_of(folder).values()))
    register_weights(from_folder(folder)[0], Place(registry, "models/m"), "1")
    weights = open_weights(Place(registry, "models/m"), "1")
    near = Near(registry, tmp_path / "state", make_key("near").signer, [(place, "latest")])
    far = far_layout(tmp_path / "far")
    for version in ("one", "two"):
        push(place, "latest", package=version, provenance=False)
        attach_weights(place, "latest", weights)
        receipt = far.receipt(make_key("far").signer) if version == "two" else None
        made = near.make(tmp_path / version, receipt=receipt)
        assert (made.bundle.stream_size > size) is (version == "one")
        far.load(tmp_path / version)
        opened = open_weights(Place(far.registry, "ml/server"), "latest")
        pull_weights(opened, tmp_path / f"behind-{version}")
        assert files_of(tmp_path / f"behind-{version}") == files_of(folder)


def _retain(registry: DistributionRegistry, newest: int) -> None:
    rule = RetentionRule(registry="here", repositories=("*",), keep_newest=newest, keep_days=0)
    apply_plan(registry, plan_retention(registry, [rule], now=datetime.now(UTC), in_use=()))


def test_collect_keeps_weights_as_long_as_their_image(
    address: str, model: Callable[..., Path], client: Callable[[str], DistributionRegistry]
) -> None:
    registry = client(address)
    push(Place(registry, "app"), "v1", provenance=False)
    done("push", model("m"), f"{address}/app:weights")
    digest = done("attach", f"{address}/app:v1", f"{address}/app:weights")["digest"]
    registry.delete_manifest("app", registry.resolve("app", "weights").digest)
    _retain(registry, 1)
    assert done("verify", f"{address}/app:v1")["digest"] == digest
    _retain(registry, 0)
    with pytest.raises(NotFound):
        registry.get_manifest("app", digest)


@pytest.mark.peer("docker-registry")
def test_between_registries_the_files_are_copied(
    docker_address: str,
    faults: FaultRegistry,
    model: Callable[..., Path],
    client: Callable[[str], DistributionRegistry],
) -> None:
    """To one without the referrers API; two sets are told apart by digest."""
    push(Place(client(docker_address), "app"), "v1", provenance=False)
    folder = model("m")
    done("push", folder, f"{faults.address}/m:1")
    first = done("attach", f"{docker_address}/app:v1", f"{faults.address}/m:1")
    assert first["bytes_moved"] > sum(map(len, files_of(folder).values()))
    (folder / "README.md").write_text("# Another\n")
    done("push", folder, f"{faults.address}/m:2")
    second = done("attach", f"{docker_address}/app:v1", f"{faults.address}/m:2")
    assert second["action"] == "attached, 2 copied, 5 present"
    refused = call("ls", f"{docker_address}/app:v1")
    assert refused.exit_code == 8 and first["digest"] in refused.output and second["digest"] in refused.output
    assert done("verify", f"{docker_address}/app@{second['digest']}")["digest"] == second["digest"]


def test_what_is_no_image_and_what_are_no_weights(
    address: str, model: Callable[..., Path], client: Callable[[str], DistributionRegistry]
) -> None:
    push(Place(client(address), "app"), "v1", provenance=False)
    done("push", model("m"), f"{address}/m:1")
    for words, said in (
        ((f"{address}/m:1", f"{address}/m:1"), "these are weights, and an image is wanted"),
        ((f"{address}/app:v1", f"{address}/app:v1"), "these are no weights"),
    ):
        refused = call("attach", *words, "--json")
        assert refused.exit_code == 8 and said in json.loads(refused.stdout)["error"]["what"]
