"""Moments of a backup that are let go, what only they needed, and the content of the store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.registry.stored import StoredRegistry
from registry_pipelines.stores.store import ObjectStore, open_store
from tests.chain.fleet import Fleet, push, start
from tests.doubles.docker_registry import DockerRegistry
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield start(tmp_path, stack)


def keep(fleet: Fleet, vault: str, rule: str = ", keep: {last: 1}") -> None:
    text = fleet.path.read_text().replace("registries:\n", f"registries:\n  vault: {vault}\n")
    fleet.path.write_text(text + f"backups:\n  nightly: {{registries: [us], to: vault{rule}}}\n")


def run(fleet: Fleet, *words: str, code: int = 0) -> dict[str, Any]:
    ran = CliRunner().invoke(main, [*words, "--config", str(fleet.path), "--json"])
    assert ran.exit_code == code, (ran.output, ran.stderr)
    document = json.loads(ran.stdout)
    result = document["result"] or {"results": [document["error"]]}
    return dict(result["results"][0]) if "results" in result else dict(result)


def two_moments(fleet: Fleet) -> tuple[Digest, Digest, str]:
    """`latest` moved between them, and the first image is gone; what it was, what it is, and the first moment."""
    place = fleet.chain.place("app")
    first = push(place, "latest").digest
    moment = run(fleet, "recover", "backup")["facts"]["moment"]
    second = push(place, "latest", package="otherwheel").digest
    run(fleet, "recover", "backup")
    return first, second, moment


def has(registry: Registry, digest: Digest) -> bool:
    place = Place(registry, "us/team/app")
    from registry_pipelines.registry.tags import digest_at

    return digest_at(place, digest) == digest


def test_what_only_an_old_moment_needs_goes_with_it(fleet: Fleet) -> None:
    keep(fleet, "{kind: store, address: vault}")
    first, second, moment = two_moments(fleet)
    vault = StoredRegistry(open_store(str(fleet.path.parent / "vault")))
    assert has(vault, first)
    would = run(fleet, "recover", "expire", "--dry-run")
    assert would["facts"]["gone"] == 1 and not would["changed"] and has(vault, first)
    gone = run(fleet, "recover", "expire")
    assert gone["facts"] == {"kept": 1, "gone": 1, "manifests": 2, "failed": 0}
    assert not has(vault, first) and has(vault, second)
    assert len(run(fleet, "recover", "list")["rows"]) == 1
    assert "no backup is as old" in run(fleet, "recover", "restore", "--at", moment, "--prefix", "x", code=8)["what"]
    # Its layer is marked, then freed; what both images share, and all of the newest moment, is untouched.
    marked = run(fleet, "collect", "garbage", "vault")
    assert marked["facts"]["blobs"] == 0 and marked["facts"]["waiting"] >= 3
    assert run(fleet, "collect", "garbage", "vault")["facts"]["blobs"] == 0, "a day has not passed"
    freed = run(fleet, "collect", "garbage", "vault", "--unused", "0s")
    assert freed["facts"]["blobs"] == marked["facts"]["waiting"] and freed["facts"]["freed_bytes"] > 0
    drilled = run(fleet, "recover", "drill", "--no-start")
    assert drilled["ok"] and drilled["facts"]["problems"] == 0
    assert run(fleet, "recover", "expire")["action"] == "every moment stays"


def test_ended_in_the_middle_it_goes_on(fleet: Fleet) -> None:
    """As after kill -9 behind the first of three steps: the moment is marked, its content is there."""
    keep(fleet, "{kind: store, address: vault}")
    first, _, moment = two_moments(fleet)
    vault = StoredRegistry(open_store(str(fleet.path.parent / "vault")))
    vault.put_manifest("rp-backups/nightly", vault.get_manifest("rp-backups/nightly", moment), tag=f"expired-{moment}")
    assert len(run(fleet, "recover", "list")["rows"]) == 1, "nobody restores half of it"
    assert run(fleet, "recover", "expire")["facts"]["gone"] == 1
    assert not has(vault, first)
    assert [each for each in vault.tags("rp-backups/nightly") if moment in each] == []


def test_without_a_rule_nothing_goes(fleet: Fleet) -> None:
    keep(fleet, "{kind: store, address: vault}", "")
    assert "does not say which moments stay" in run(fleet, "recover", "expire", code=8)["what"]
    fleet.path.write_text(fleet.path.read_text().replace("to: vault}", "to: vault, keep: {last: 0}}"))
    ran = CliRunner().invoke(main, ["recover", "expire", "--config", str(fleet.path)])
    assert ran.exit_code == 8 and "backups.nightly.keep: say which moments stay" in ran.stderr


def test_nothing_goes_where_a_moment_cannot_be_read(fleet: Fleet) -> None:
    keep(fleet, "{kind: store, address: vault}")
    first, _, moment = two_moments(fleet)
    vault = StoredRegistry(open_store(str(fleet.path.parent / "vault")))
    document = vault.get_manifest("rp-backups/nightly", moment).content().layers[0].digest  # type: ignore[union-attr]
    (fleet.path.parent / "vault" / "blobs" / "sha256" / document.hex).write_bytes(b"x")
    run(fleet, "recover", "expire", code=6)
    assert has(vault, first)


@pytest.mark.peer("docker-registry")
def test_retention_leaves_what_moments_need_in_a_registry(
    fleet: Fleet, tmp_path: Path, peer: Callable[[str], str]
) -> None:
    """The place of the backup is a registry with rules of its own, which let go of what no tag names."""
    with DockerRegistry(peer("docker-registry"), tmp_path / "docker") as docker:
        keep(fleet, f"{{kind: distribution, host: '{docker.address}'}}")
        with fleet.path.open("a") as file:
            rule = "keep_newest: 1, keep_days: 0, untagged_days: 0, orphans_days: 0"
            file.write(f"retention:\n  - {{registry: vault, name: all, {rule}}}\n")
        first, second, _ = two_moments(fleet)
        there = DistributionRegistry(docker.address)
        refused = run(fleet, "delete", f"vault/us/team/app@{first}", "--dry-run", code=6)
        assert "the backup nightly needs it" in json.dumps(refused)
        moments = next(iter(there.tags("rp-backups/nightly")))
        refused = run(fleet, "delete", f"vault/rp-backups/nightly:{moments}", "--dry-run", code=6)
        assert "`recover expire` lets moments go" in json.dumps(refused)
        plan = run(fleet, "collect", "plan", "vault")
        assert "nothing can go" in plan["action"], plan
        assert has(there, first) and has(there, second)
        gone = run(fleet, "recover", "expire")
        assert gone["ok"] and not has(there, first) and has(there, second)
        assert run(fleet, "recover", "drill", "--no-start")["ok"]


def test_a_moment_shows_what_it_has_and_gives_its_files_back(fleet: Fleet, tmp_path: Path) -> None:
    keep(fleet, "{kind: store, address: vault}")
    two_moments(fleet)
    shown = run(fleet, "recover", "show", "--files", str(tmp_path / "was"))
    assert shown["rows"] and shown["facts"]["whole"]
    assert (tmp_path / "was" / "registry-pipelines.yaml").read_bytes() == fleet.path.read_bytes()


def test_killed_at_every_step_it_goes_on_and_takes_nothing_else(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(fleet, "{kind: store, address: vault}")
    first, second, moment = two_moments(fleet)
    vault, left = fleet.path.parent / "vault", [-1]
    shutil.copytree(vault, vault.with_name("before"))

    def ended(whole: Callable[..., Any]) -> Callable[..., Any]:
        def act(*words: Any) -> Any:
            left[0] -= 1
            if left[0] == -1:
                raise KeyboardInterrupt
            return whole(*words)

        return act

    for step in ("write", "delete"):
        monkeypatch.setattr(ObjectStore, step, ended(getattr(ObjectStore, step)))
    code, steps = 130, 0
    while code:
        shutil.rmtree(vault)
        shutil.copytree(vault.with_name("before"), vault)
        left[0] = steps
        code = CliRunner().invoke(main, ["recover", "expire", "--config", str(fleet.path)]).exit_code
        left[0], steps = -1, steps + 1
        run(fleet, "recover", "expire")
        there = StoredRegistry(open_store(str(vault)))
        assert not has(there, first) and has(there, second), steps
        assert not [tag for tag in there.tags("rp-backups/nightly") if moment in tag], steps
    assert steps > 8
    assert run(fleet, "recover", "drill", "--no-start")["ok"]


def test_what_a_backup_under_another_name_of_the_place_needs_stays(fleet: Fleet) -> None:
    keep(fleet, "{kind: store, address: vault}\n  again: {kind: store, address: vault/}")
    with fleet.path.open("a") as file:
        file.write("  weekly: {registries: [us], to: again}\n")
    first = push(fleet.chain.place("app"), "latest").digest
    for name in ("nightly", "weekly"):
        run(fleet, "recover", "backup", name)
    push(fleet.chain.place("app"), "latest", package="otherwheel")
    run(fleet, "recover", "backup", "nightly")
    gone = run(fleet, "recover", "expire", "nightly")
    assert (gone["facts"]["gone"], gone["facts"]["manifests"]) == (1, 0)
    assert has(StoredRegistry(open_store(str(fleet.path.parent / "vault"))), first)


def test_what_a_backup_needs_that_was_renamed_stays(fleet: Fleet) -> None:
    keep(fleet, "{kind: store, address: vault}")
    first = push(fleet.chain.place("app"), "latest").digest
    run(fleet, "recover", "backup")
    fleet.path.write_text(fleet.path.read_text().replace("nightly:", "daily:"))
    run(fleet, "recover", "backup")
    push(fleet.chain.place("app"), "latest", package="otherwheel")
    run(fleet, "recover", "backup")
    gone = run(fleet, "recover", "expire")
    assert (gone["facts"]["gone"], gone["facts"]["manifests"]) == (1, 0)
    assert "rp-backups/nightly" in gone["notes"][0] and "stay" in gone["notes"][0]
    assert has(StoredRegistry(open_store(str(fleet.path.parent / "vault"))), first)


def test_what_a_registry_keeps_until_its_index_is_gone_is_deleted_after_it(fleet: Fleet) -> None:
    """ECR refuses to delete what an index refers to, and several are deleted at once."""
    with FaultRegistry(fleet.config.registries["eu"].client_address) as front:  # type: ignore[union-attr]
        keep(fleet, f"{{kind: distribution, host: '{front.address}'}}")
        first, second, _ = two_moments(fleet)
        front.play("DELETE", r"/v2/us/team/app/manifests/.*", Status(403), times=1)
        gone = run(fleet, "recover", "expire")
        assert gone["ok"] and gone["facts"]["failed"] == 0
        there = DistributionRegistry(front.address)
        assert not has(there, first) and has(there, second)


def test_a_backup_killed_at_every_write_leaves_no_moment_that_nobody_vouches_for(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(fleet, "{kind: store, address: vault}")
    push(fleet.chain.place("app"), "latest")
    run(fleet, "recover", "backup")
    vault, left, whole = fleet.path.parent / "vault", [-1], ObjectStore.write
    shutil.copytree(vault, vault.with_name("before"))

    def write(self: ObjectStore, key: str, content: bytes) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise KeyboardInterrupt
        whole(self, key, content)

    monkeypatch.setattr(ObjectStore, "write", write)
    code, steps = 130, 0
    while code:
        shutil.rmtree(vault)
        shutil.copytree(vault.with_name("before"), vault)
        left[0] = steps
        code = CliRunner().invoke(main, ["recover", "backup", "--config", str(fleet.path)]).exit_code
        left[0], steps = -1, steps + 1
        run(fleet, "recover", "restore", "--dry-run", "--prefix", "x")
        run(fleet, "recover", "expire")
    assert steps > 5
