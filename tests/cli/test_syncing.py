"""``sync`` of the configuration, ``verify-copy`` of repositories, and what goes wrong on the way, as people meet it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, chdir
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from registry_pipelines.cli import main
from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.evidence.keys import generate_key
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.answers import answered
from tests.chain.fleet import Fleet, check_receipt, push, start
from tests.chain.killing import address
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status
from tests.ports import free_ports

SYNCS = """\
syncs:
  bases: {source: us, repositories: [bases/python, bases/cuda], targets: [eu, gcp]}
  pinned: {source: us, repositories: [bases/python], tags: ["1.0"], move_tags: false, targets: [gcp]}
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        found = start(tmp_path, stack)
        found.path.write_text(found.path.read_text() + SYNCS)
        for name in ("python", "cuda"):
            for tag in ("1.0", "1.1"):
                push(Place(found.chain.registry("us"), f"bases/{name}"), tag, package=name, version=tag)
        yield found


def run(fleet: Fleet, *arguments: str, code: int = 0) -> Result:
    found = CliRunner().invoke(main, [*arguments, "--config", str(fleet.path)], env={"COLUMNS": "220"})
    assert found.exit_code == code, found.output
    assert "Traceback" not in found.output
    return found


def answer(fleet: Fleet, *arguments: str, code: int = 0) -> Any:
    return answered(run(fleet, *arguments, "--json", code=code).stdout)


def place(fleet: Fleet, registry: str, repository: str) -> Place:
    return Place(fleet.chain.registry(registry), repository)


def test_the_dry_run_is_the_plan_that_is_applied(fleet: Fleet) -> None:
    [planned] = answer(fleet, "sync", "bases", "--dry-run")
    assert planned["sync"] == "bases" and not planned["changed"]
    assert not list(fleet.chain.registry("eu").repositories())
    assert "plan; nothing was changed" in run(fleet, "sync", "bases", "--dry-run").stdout
    [done] = answer(fleet, "sync", "bases")
    plan = planned["plan"]
    assert done["ok"] and done["changed"] and done["bytes_moved"] == plan["upload_bytes"]
    assert done["facts"]["copies"] == len(plan["deliveries"]) == len(planned["rows"]) == 8
    steps = [step for delivery in plan["deliveries"] for step in delivery["manifests"]]
    assert done["facts"]["manifests_put"] == sum(step["action"] == "put" for step in steps)
    for delivery in plan["deliveries"]:
        registry = "eu" if delivery["target"].split("/")[1] == "bases" else "gcp"
        repository = delivery["target"].partition("/")[2]
        for step in delivery["tags"]:
            assert fleet.chain.registry(registry).resolve(repository, step["tag"]).digest == step["digest"]
    [again] = answer(fleet, "sync", "bases")
    assert (again["changed"], again["bytes_moved"]) == (False, 0)
    assert "unchanged" in run(fleet, "sync", "bases").stdout
    [settled] = answer(fleet, "sync", "bases", "--dry-run")
    assert settled["plan"]["upload_bytes"] == settled["plan"]["mounts"] == 0


def test_without_names_every_sync_runs(fleet: Fleet) -> None:
    assert [each["subject"] for each in answer(fleet, "sync")] == ["bases", "pinned"]
    assert [each["subject"] for each in answer(fleet, "sync", "pinned", "bases")] == ["pinned", "bases"]


def test_what_cannot_be_meant(fleet: Fleet) -> None:
    assert "unknown sync `base`" in answer(fleet, "sync", "base", code=8)["error"]["what"]
    assert "says itself what is taken" in answer(fleet, "sync", "bases", "--newest", "1", code=8)["error"]["what"]
    fleet.path.write_text(fleet.path.read_text().replace(SYNCS, ""))
    assert "no `syncs`" in answer(fleet, "sync", code=8)["error"]["what"]


def test_a_tag_that_differs_is_reported_and_never_overwritten(fleet: Fleet) -> None:
    theirs = push(place(fleet, "gcp", "replicas/bases/python"), "1.0", package="theirs")
    [planned] = answer(fleet, "sync", "pinned", "--dry-run")
    assert [row["drift"] for row in planned["rows"]] == ["1.0"]
    [done] = answer(fleet, "sync", "pinned", code=6)
    assert "tag 1.0 at the target names" in done["reasons"][0]
    told = run(fleet, "sync", "us", "gcp/replicas", "--repository", "bases/python", "--keep-tags", code=6).stdout
    assert "drift" in told
    assert fleet.chain.registry("gcp").resolve("replicas/bases/python", "1.0").digest == theirs.digest


def test_a_target_that_is_down_holds_the_other_up_in_nothing(fleet: Fleet) -> None:
    [port] = free_ports(1)
    fleet.reload(
        ("registries:\n", f'registries:\n  away: {{kind: distribution, host: "127.0.0.1:{port}"}}\n'),
        ("targets:\n", "targets:\n  away: {registry: away}\n"),
        ("targets: [eu, gcp]}\n  pinned", "targets: [eu, away]}\n  pinned"),
    )
    [done] = answer(fleet, "sync", "bases", code=6)
    assert [(row["target"], row["state"]) for row in done["tables"]["targets"]] == [
        ("eu", "copied"),
        ("away", "failed"),
    ]
    assert str(port) in " ".join(done["reasons"])
    shown = run(fleet, "sync", "bases", code=6).stdout
    # Once for each repository, though two tags of each failed.
    assert shown.count("nothing listens there") == 2 and "4 failed" in shown
    assert answer(fleet, "verify-copy", "us/bases/cuda", "eu/bases/cuda")["ok"]


def test_an_exit_code_that_all_copies_have_is_the_sync_s(fleet: Fleet) -> None:
    """As when nothing can be reached; one that differs, or is there, and the sync is just not whole."""
    [port] = free_ports(1)
    with FaultRegistry(address(fleet, "us")) as shut:
        for method in ("GET", "HEAD", "POST"):
            shut.play(method, ".*", Status(403))
        registries = f'  away: {{kind: distribution, host: "127.0.0.1:{port}"}}\n'
        registries += f'  shut: {{kind: distribution, host: "{shut.address}"}}\n'
        fleet.reload(
            ("registries:\n", f"registries:\n{registries}"),
            ("targets:\n", "targets:\n  away: {registry: away}\n  shut: {registry: shut}\n"),
            (
                "syncs:\n",
                "syncs:\n  lost: {source: us, repositories: [bases/cuda], tags: ['1.0'], targets: [away]}\n"
                "  denied: {source: us, repositories: [bases/cuda], tags: ['1.0'], targets: [shut]}\n"
                "  unread: {source: shut, repositories: [bases/other], targets: [gcp]}\n",
            ),
            ("    upstreams:\n", "    upstreams:\n      - {image: shut/up/other}\n"),
        )
        [done] = answer(fleet, "sync", "lost", code=7)
        assert (done["ok"], done["exit_code"]) == (False, 7) and "nothing listens there" in done["reasons"][0]
        run(fleet, "sync", "lost", "--dry-run", code=7)
        run(fleet, "sync", "us", "shut/x", "--repository", "bases/cuda", "--tags", "1.0", code=5)
        run(fleet, "sync", "denied", code=5)
        run(fleet, "sync", "unread", code=5)
        run(fleet, "sync", "denied", "unread", code=5)
        run(fleet, "sync", "denied", "pinned", code=6)
        run(fleet, "sync", "us", "shut/x", "eu/x", "--repository", "bases/cuda", "--tags", "1.0", code=6)
        [mirrored] = answer(fleet, "mirror", code=6)  # the other upstream has no such tag
        assert (mirrored["ok"], mirrored["exit_code"], mirrored["facts"]["problems"]) == (False, 6, 2)
        push(place(fleet, "us", "up/stream"), "1.0")
        [mirrored] = answer(fleet, "mirror", code=6)
        assert mirrored["facts"]["tags_changed"] == 1


def test_a_layer_that_goes_while_it_is_copied(fleet: Fleet, tmp_path: Path) -> None:
    """The source lists it all, and has one layer no more: the image is not tagged, the other is complete."""
    source = fleet.chain.registry("us")
    layer = source.get_manifest("bases/cuda", "1.1").content().layers[0].digest  # type: ignore[union-attr]
    source.delete_blob("bases/cuda", layer)
    [done] = answer(fleet, "sync", "bases", code=6)
    assert "gone at the source" in " ".join(done["reasons"])
    assert sorted(fleet.chain.registry("eu").tags("bases/python")) == ["1.0", "1.1"]
    assert list(fleet.chain.registry("eu").tags("bases/cuda")) == ["1.0"]


@pytest.mark.parametrize(("status", "code"), [(413, "SIZE_INVALID"), (403, "DENIED")])
def test_a_layer_that_a_quota_refuses(fleet: Fleet, tmp_path: Path, status: int, code: str) -> None:
    body = json.dumps({"errors": [{"code": code, "message": "the project's storage quota is used up"}]}).encode()
    with EmbeddedServer(tmp_path / "full") as full, FaultRegistry(full.address) as faults:
        headers = {"Content-Type": "application/json", "Retry-After": "0"}
        for method in ("PUT", "PATCH", "POST"):
            faults.play(method, r".*/blobs/uploads/.*", Status(status, headers, body))
        options = ("sync", "us", f"{faults.address}/x", "eu/x", "--repository", "bases/cuda")
        done = answer(fleet, *options, code=6)
        assert [row["state"] for row in done["targets"]] == ["failed", "copied"]
        assert {row["state"] for row in done["rows"] if faults.address in row["target"]} == {"failed"}
        assert all("quota" in row["note"] for row in done["rows"] if row["state"] == "failed")
        assert {row["state"] for row in done["rows"] if faults.address not in row["target"]} == {"copied"}
        registry = DistributionRegistry(full.address)
        assert not list(registry.repositories())
        registry.close()


def test_repositories_are_compared_digest_for_digest_with_their_evidence(fleet: Fleet) -> None:
    here, there = "us/bases/python", "eu/bases/python"
    answer(fleet, "sync", "bases")
    equal = {"ok": True, "exit_code": 0, "differences": [], "same_files": [], "not_compared": []}
    assert answer(fleet, "verify-copy", here, there, "--content") == equal
    assert answer(fleet, "verify-copy", f"{here}:1.1", f"{there}:1.1")["ok"]
    source = place(fleet, "us", "bases/python")
    subject = source.registry.resolve("bases/python", "1.1")
    late = attach(source, subject=subject, artifact_type="text/plain", content=b"late", media_type="text/plain")
    push(place(fleet, "eu", "bases/python"), "9.9")
    found = answer(fleet, "verify-copy", here, there, code=6)["differences"]
    assert {each["kind"] for each in found} == {"manifest", "referrer", "blob", "tag"}
    assert late.digest in {each["subject"] for each in found}
    assert [each["subject"] for each in found if each["kind"] == "tag"] == ["9.9"]
    wrong = answer(fleet, "verify-copy", f"{here}:1.0", f"{there}:1.1", code=6)["differences"]
    assert [each["kind"] for each in wrong] == ["root"] and wrong[0]["subject"] == "1.1"
    assert "one image" in answer(fleet, "verify-copy", here, f"{there}:1.1", code=8)["error"]["what"]
    assert run(fleet, "verify-copy", here, "eu/nothing/there", code=6).stdout.count("root") == 2


def test_copies_that_are_damaged_in_the_registry_are_found(fleet: Fleet) -> None:
    answer(fleet, "sync", "bases")
    eu = fleet.config.registries["eu"]
    manifest = fleet.chain.registry("eu").get_manifest("bases/cuda", "1.0").content()
    layer = Digest.parse(manifest.layers[0].digest)  # type: ignore[union-attr]
    [stored] = (fleet.config.root(eu) / "bases" / "cuda").rglob(layer.hex)  # type: ignore[arg-type]
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.chmod(0o600)
    stored.write_bytes(content)
    same = ("verify-copy", "us/bases/cuda:1.0", "eu/bases/cuda")
    [found] = answer(fleet, *same, "--content", code=6)["differences"]
    assert (found["kind"], found["subject"]) == ("content", str(layer))


def test_a_new_user_who_means_something_else_is_told_what(fleet: Fleet, tmp_path: Path) -> None:
    """Without a configuration; the embedded registries of one serve as registries of any kind."""
    hosts = {name: address(fleet, name) for name in ("us", "eu", "gcp")}
    [port] = free_ports(1)

    def told(*arguments: str, code: int) -> str:
        environment = {"COLUMNS": "200", "XDG_STATE_HOME": str(tmp_path / "state")}
        found = CliRunner().invoke(main, [*arguments], env=environment)
        assert found.exit_code == code and "Traceback" not in found.output, found.output
        return found.output

    with chdir(tmp_path / "advisories"):
        assert "no TARGET is named" in told("sync", hosts["us"], code=8)
        assert "unknown registry `eu`" in told("sync", hosts["us"], "eu", code=8)
        assert "is the place it takes from" in told("sync", hosts["us"], hosts["us"], code=8)
        assert "nothing is chosen" in told("sync", hosts["us"], hosts["eu"], "--tags", "9*", code=4)
        assert "not a range of versions" in told("sync", hosts["us"], hosts["eu"], "--semver", "new", code=8)
        assert "NAME_UNKNOWN" in told("sync", hosts["us"], hosts["eu"], "--repository", "no/thing", code=4)
        plan = told("sync", hosts["us"], f"{hosts['eu']}/a", "--repository", "bases/cuda", "--dry-run", code=0)
        assert "bases/cuda:1.1" in plan and "2 of 2 copies to be made" in plan and "Nothing was changed." in plan
        assert "2 of 2 copies made" in told(
            "sync", hosts["us"], f"{hosts['eu']}/a", "--repository", "bases/cuda", code=0
        )
        assert list((tmp_path / "state" / "registry-pipelines" / "transfer" / "limits").iterdir())
        # Within one registry the copies are not copied again.
        assert "4 of 4 copies made" in told("sync", hosts["us"], f"{hosts['us']}/a", code=0)
        assert "0 of 4 copies made" in told("sync", hosts["us"], f"{hosts['us']}/a", code=0)
        image = f"{hosts['us']}/bases/cuda:1.0"
        assert "nothing listens there" in told("copy", image, f"127.0.0.1:{port}/x", code=7)
        both = told("copy", image, f"127.0.0.1:{port}/x", f"{hosts['gcp']}/x", code=7)
        assert f"- {hosts['gcp']}/x: complete" in both
        assert "1.0" in told("copy", image, f"{hosts['gcp']}/x", "--dry-run", code=0)


def test_receipts_are_signed_by_the_key_there_is_and_else_said_to_be_unsigned(fleet: Fleet, tmp_path: Path) -> None:
    """No key; then a key that is given; then the configuration's. Receipts of unchanged copies are signed, too."""
    places = ("us", "eu/x", "--repository", "bases/cuda")
    first = answer(fleet, "sync", *places)
    told = first["totals"]
    assert (told["receipts"], told["receipts_signed"]) == (2, 0)
    assert told["requests"] == sum(first["requests"].values()) and len(first["requests"]) == 2
    assert "2 receipts, 2 not signed: there was no key" in run(fleet, "sync", *places).stdout
    assert "1 receipt is not signed" in run(fleet, "copy", "us/bases/cuda:1.0", "eu/y").stdout
    key = tmp_path / "receipts.pem"
    generate_key(key)
    told = answer(fleet, "sync", *places, "--key", str(key))["totals"]
    assert (told["receipts"], told["receipts_signed"]) == (2, 2)
    assert answer(fleet, "copy", "us/bases/cuda:1.0", "eu/z", "--key", str(key))["receipts_signed"] == 1
    assert "cannot" in answer(fleet, "sync", *places, "--key", str(tmp_path / "no.pem"), code=8)["error"]["what"]
    generate_key(fleet.config.signing_key, password=fleet.config.signing.password.reveal())
    assert answer(fleet, "sync", "us", "eu/w", "--repository", "bases/cuda")["totals"]["receipts_signed"] == 2
    check_receipt(fleet.chain, place(fleet, "eu", "w/bases/cuda"), "1.1")
