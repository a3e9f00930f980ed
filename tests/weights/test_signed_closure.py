"""Signed weights of a release go where it goes: through copies, a backup and an air gap, and are believed there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from tests.answers import answered
from tests.chain.fleet import start
from tests.cli.test_bundle_near import Gap
from tests.evidence.conftest import make_key
from tests.evidence.parts import Key
from tests.weights.conftest import call, done

__all__ = ["make_key"]

VAULT = "registries:\n  vault: {{kind: store, address: '{folder}/vault'}}\n"


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def ran(*words: str) -> dict[str, object]:
    made = CliRunner().invoke(main, [*words, "--quiet", "--json"])
    assert made.exit_code == 0, (made.output, made.stderr)
    return dict(answered(made.stdout))


def test_copies_and_backups_take_the_signature(model: Callable[..., Path], tmp_path: Path) -> None:
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        text = fleet.path.read_text().replace("registries:\n", VAULT.format(folder=tmp_path), 1)
        fleet.path.write_text(text + "backups:\n  nightly: {registries: [us], to: vault}\n")
        config = ("--config", str(fleet.path))
        fleet.release("v1.0.0")
        done("push", model("m"), "us/models/m:1", *config)
        done("sign", "us/models/m:1", *config)
        attached = done("attach", "app:v1.0.0", "us/models/m:1", *config)
        ran("copy", "us/team/app:v1.0.0", "eu/copied/app", *config)
        ran("recover", "backup", *config)
        ran("recover", "restore", "--prefix", "back", "--repository", "team/*", *config)
        for place in ("eu/copied/app:v1.0.0", "us/back/team/app:v1.0.0"):
            verified = done("verify", place, "--signed", *config)
            assert verified["digest"] == attached["digest"], place
            assert verified["notes"][0].startswith("signed by sha256:")


def test_a_bundle_takes_the_signature_across_the_gap(
    model: Callable[..., Path], tmp_path: Path, make_key: Callable[[str], Key]
) -> None:
    gap, key = Gap(tmp_path, make_key), make_key("person")
    near, believed = ("--config", str(gap.here / "near.yaml")), ("--signed", "--key", str(key.public))
    done("push", model("m"), "internet/models/m:1", *near)
    done("sign", "internet/models/m:1", "--key", str(key.path), *near)
    attached = done("attach", "internet/library/tool:1", "internet/models/m:1", *near)
    gap.near("mirror", "upstreams")
    gap.near("bundle", "create", "upstreams", "--to", gap.here / "disk")
    gap.far("bundle", "load", "upstreams", gap.here / "disk")
    far = ("--config", str(gap.here / "far.yaml"))
    assert done("verify", "private/mirrored/library/tool:1", *believed, *far)["digest"] == attached["digest"]
    other = call("verify", "private/mirrored/library/tool:1", "--signed", "--key", make_key("far").public, *far)
    assert other.exit_code == 3


def test_a_release_is_promoted_with_its_weights_or_not_at_all(model: Callable[..., Path], tmp_path: Path) -> None:
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        rules = "{required: true, signed: true, deny: [pickle]}"
        fleet.path.write_text(f"{fleet.path.read_text()}policies: {{default: {{weights: {rules}}}}}\n")
        config = ("--config", str(fleet.path))
        fleet.release("v1.0.0")

        def ship(*words: str) -> tuple[int, str]:
            made = CliRunner().invoke(main, [*words, *config, "--quiet"], env={"COLUMNS": "300"})
            return made.exit_code, made.output + made.stderr

        code, said = ship("ship", "app:v1.0.0", "--until", "judge")
        assert code == 3 and "weights: none are attached to this release" in said
        assert "weights attach app:v1.0.0 WEIGHTS" in said
        done("push", model("m"), "us/models/m:1", *config)
        digest = done("attach", "app:v1.0.0", "us/models/m:1", *config)["digest"]
        code, said = ship("judge", "app:v1.0.0")
        assert code == 3 and f"weights: {digest}: no signature is attached" in said
        assert "weights sign app:v1.0.0" in said
        done("sign", "app:v1.0.0", *config)
        assert ship("judge", "app:v1.0.0")[0] == 0
        code, said = ship("promote", "app:v1.0.0")
        assert code == 0, said
        done("push", model("n", seed=2), "us/models/n:1", *config)
        later = done("attach", "app:v1.0.0", "us/models/n:1", *config)["digest"]
        code, said = ship("replicate", "app:v1.0.0")
        assert code == 3 and f"weights: {later} was attached after the verdict" in said
