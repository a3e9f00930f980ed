"""A policy in front of the private registry: what it denies is held, with the reason, and what is there stays."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.errors import NotFound
from registry_pipelines.evidence.keys import generate_key, load_signer, load_verifier
from registry_pipelines.promote import verdicts
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.publish import read_report
from registry_pipelines.sign.cosign import sign_image
from registry_pipelines.transfer.verify import compare
from tests.chain.conftest import fleet
from tests.chain.fleet import Fleet, push, write_advisory
from tests.cli.on_fleet import answer
from tests.doubles.docker_registry import DockerRegistry
from tests.doubles.fault_registry import FaultRegistry
from tests.evidence.parts import NO_LOG, Cosign
from tests.mirror.registries import named
from tests.scan.images import push_platforms

__all__ = ["fleet"]
POLICY = """
trust:
  attestors:
    publisher: {attests: [signature], keys: [publisher.pub]}
policies:
  foreign: {required: [sbom, vulnerabilities], attestors: publisher}
  scanned: {required: [sbom, vulnerabilities]}
signing:"""


def with_policy(fleet: Fleet, name: str, *more: tuple[str, str]) -> Place:
    generate_key(fleet.folder / "publisher.key")
    fleet.chain = fleet.reload(
        ("\nsigning:", POLICY), ("    prefix: in\n", f"    prefix: in\n    policy: {name}\n"), *more
    )
    return Place(fleet.chain.registry("us"), "up/stream")


def at(fleet: Fleet, name: str) -> Place:
    return Place(fleet.chain.registry(name), "in/up/stream")


def versions(place: Place) -> list[str]:
    return sorted(tag for tag in place.registry.tags(place.repository) if "sha256" not in tag)


def test_unsigned_and_vulnerable_images_are_held_and_the_others_go_on(fleet: Fleet) -> None:
    upstream = with_policy(fleet, "foreign", ("newest: 2", "newest: 9"))
    publisher = load_signer(fleet.folder / "publisher.key")
    for tag, package in (("1.0", "goodwheel"), ("1.1", "badwheel"), ("1.2", "goodwheel")):
        made = push(upstream, tag, package=package, provenance=False)
        if tag != "1.2":
            sign_image(upstream, made, publisher, identity=f"{upstream}")
    planned = answer(fleet, "mirror", "airgap", "--dry-run")
    assert "policy foreign is asked when it is copied: what it denies is held" in planned[0]["notes"]
    [done] = answer(fleet, "mirror", "airgap", code=6)
    states = {row["tag"]: row["state"] for row in done["rows"]}
    assert states["1.0"] == "copied" and done["facts"]["tags_held"] == 2 and done["facts"]["problems"] == 0
    assert states["1.1"].startswith("held: ") and "TEST-2026-1" in states["1.1"]
    assert states["1.2"] == "held: attestor publisher: no signature of the image is by its keys"
    dmz, private = at(fleet, "dmz"), at(fleet, "private")
    assert versions(dmz) == ["1.0", "1.1", "1.2"] and versions(private) == ["1.0"]
    assert compare(dmz, private, "1.0") == []
    read = verdicts.read(private, named(private, "1.0"), load_verifier(fleet.chain.config.trusted_keys))
    latest = read.latest("us/up/stream", "foreign")
    assert latest is not None and latest.verdict.allow, "the verdict crossed with the image"
    [again] = answer(fleet, "mirror", "airgap", code=6)
    assert not again["changed"] and again["bytes_moved"] == 0


def test_newer_advisories_hold_without_a_pull_and_what_is_there_stays(fleet: Fleet) -> None:
    port = str(Place(fleet.chain.registry("dmz"), "x").registry.name)
    with FaultRegistry(port) as faults:
        dmz = f"dmz: {{kind: distribution, host: '{faults.address}'}}"
        upstream = with_policy(fleet, "scanned", (f"dmz: {{kind: embedded, port: {port.rpartition(':')[2]}}}", dmz))
        made = push(upstream, "1.0", package="laterwheel", provenance=False)
        assert fleet.chain.mirror("airgap").ok
        content = upstream.registry.get_manifest("up/stream", made.digest).content()
        layers = "|".join(layer.digest.hex for layer in content.layers)  # type: ignore[union-attr]
        first = len(faults.requests("GET", f".*/blobs/sha256:({layers})"))
        write_advisory(fleet.folder / "advisories", package="laterwheel")
        shutil.rmtree(fleet.config.state / "scan")  # another machine
        done = fleet.reload(("us/up/stream", "us/up/stream")).mirror("airgap")
        assert [row["state"].partition(":")[0] for row in done.rows] == ["held"] and done.exit_code == 3
        assert first and len(faults.requests("GET", f".*/blobs/sha256:({layers})")) == first
        _, report = read_report(at(fleet, "dmz"), made.digest)
    assert named(at(fleet, "private"), "1.0") == made.digest
    assert [finding.ids for finding in report.findings] == [("TEST-2026-1",)]


def test_without_a_dmz_the_source_is_read_and_the_evidence_crosses(fleet: Fleet) -> None:
    upstream = with_policy(fleet, "scanned", ("    via: dmz\n", ""), ("newest: 2", "newest: 9"))
    good, bad = push(upstream, "1.0", provenance=False), push(upstream, "1.1", package="badwheel", provenance=False)
    done = fleet.chain.mirror("airgap")
    assert {row["tag"]: row["state"].partition(":")[0] for row in done.rows} == {"1.0": "copied", "1.1": "held"}
    private = at(fleet, "private")
    read = verdicts.read(private, good.digest, load_verifier(fleet.chain.config.trusted_keys))
    assert read.latest() is not None and read_report(private, good.digest)[1].subject == good.digest
    assert upstream.registry.referrers("up/stream", good.digest) == [], "nothing is written to a source"
    with pytest.raises(NotFound):
        private.registry.resolve(private.repository, bad.digest)
    assert not fleet.chain.mirror("airgap").changed


def test_what_is_judged_are_the_platforms_that_come(fleet: Fleet) -> None:
    upstream = with_policy(fleet, "scanned", ("newest: 2}", "platforms: [linux/amd64]}"))
    index, _ = push_platforms(upstream, "amd64", "arm64", tag="1.0")
    done = fleet.chain.mirror("airgap")
    assert done.ok, done.reasons
    private = at(fleet, "private")
    assert named(private, "1.0") == index.digest
    [latest] = verdicts.read(private, index.digest, load_verifier(fleet.chain.config.trusted_keys)).published
    assert latest.verdict.allow and set(latest.verdict.platforms.values()) == {"linux/amd64"}


def test_an_upstream_has_its_own_policy_or_none_is_asked(fleet: Fleet) -> None:
    fleet.chain = fleet.reload(
        ("\nsigning:", POLICY), ('tags: ["1.*"], newest: 2', 'tags: ["1.*"], policy: foreign'),
        ("    upstreams:\n", "    upstreams:\n      - {image: us/up/free}\n"),
    )  # fmt: skip
    for name in ("up/stream", "up/free"):
        push(Place(fleet.chain.registry("us"), name), "1.0", package="badwheel", provenance=False)
    generate_key(fleet.folder / "publisher.key")
    states = {row["upstream"].partition("/")[2]: row["state"] for row in fleet.chain.mirror("airgap").rows}
    assert states["up/free"] == "copied" and states["up/stream"].startswith("held: ")


def test_a_tag_that_is_written_twice_must_satisfy_both_policies(fleet: Fleet) -> None:
    fleet.chain = fleet.reload(
        ("\nsigning:", POLICY), ('tags: ["1.*"], newest: 2', 'tags: ["1.*"], policy: scanned'),
        ("    upstreams:\n", "    upstreams:\n      - {image: us/up/stream, tags: ['1.0', '2.0']}\n"),
    )  # fmt: skip
    generate_key(fleet.folder / "publisher.key")
    upstream = Place(fleet.chain.registry("us"), "up/stream")
    for tag in ("1.0", "2.0"):
        push(upstream, tag, package="badwheel", provenance=False)
    states = [(row["tag"], row["state"].partition(":")[0]) for row in fleet.chain.mirror("airgap").rows]
    assert sorted(states) == [("1.0", "held"), ("1.0", "held"), ("2.0", "copied")]
    assert versions(at(fleet, "private")) == ["2.0"]


@pytest.mark.peer("cosign", "cosign2", "docker-registry")
@pytest.mark.parametrize("version", [pytest.param("cosign2", marks=pytest.mark.long), "cosign"])
def test_what_a_publisher_signed_with_cosign_is_let_in(
    fleet: Fleet, peer: Callable[[str], str], tmp_path: Path, version: str
) -> None:
    """By cosign's own keys, in the forms of both its versions (a tag; a bundle), to a registry that is not ours."""
    program = Cosign(peer(version), tmp_path / "home")
    assert program("generate-key-pair").returncode == 0
    with DockerRegistry(peer("docker-registry"), tmp_path / "docker-registry") as server:
        private = f"private: {{kind: distribution, host: '{server.address}'}}"
        port = fleet.chain.registry("private").name.rpartition(":")[2]
        upstream = with_policy(fleet, "foreign", (f"private: {{kind: embedded, port: {port}}}", private))
        (fleet.folder / "publisher.pub").write_bytes((tmp_path / "home" / "cosign.pub").read_bytes())
        signed = push(upstream, "1.0", provenance=False)
        push(upstream, "1.1", provenance=False)
        said = program.sign(tmp_path / "home" / "cosign.key", f"{upstream}@{signed.digest}", *NO_LOG[version])
        assert said.returncode == 0, said.stderr
        done = fleet.reload(("us/up/stream", "us/up/stream")).mirror("airgap")
        assert {row["tag"]: row["state"].partition(":")[0] for row in done.rows} == {"1.0": "copied", "1.1": "held"}
        assert "no signature of the image is by its keys" in done.reasons[0]
        there = f"{server.address}/in/up/stream@{signed.digest}"
        assert program.verify(tmp_path / "home" / "cosign.pub", there).returncode == 0, "and cosign finds it behind"


@pytest.mark.peer("docker-registry")
def test_a_dmz_that_knows_fallback_tags_only(fleet: Fleet, peer: Callable[[str], str], tmp_path: Path) -> None:
    """docker-registry lists no referrers and refuses sparse indexes: evidence has tags, indexes are written anew."""
    with DockerRegistry(peer("docker-registry"), tmp_path / "docker-registry") as server:
        port = fleet.chain.registry("dmz").name.rpartition(":")[2]
        dmz = f"dmz: {{kind: distribution, host: '{server.address}'}}"
        amd64 = "platforms: [linux/amd64], selection: rewritten}"
        upstream = with_policy(fleet, "scanned", (f"dmz: {{kind: embedded, port: {port}}}", dmz), ("newest: 2}", amd64))
        push(upstream, "1.0", provenance=False)
        push_platforms(upstream, "amd64", "arm64", tag="1.1")
        done = fleet.chain.mirror("airgap")
        assert done.ok and done.facts["tags_changed"] == 2, done.reasons
        assert fleet.chain.compare_mirror("airgap").ok and fleet.chain.mirror_age("airgap").ok
        assert not fleet.chain.mirror("airgap").changed
        [latest] = verdicts.read(
            at(fleet, "private"), named(at(fleet, "private"), "1.1"), load_verifier(fleet.chain.config.trusted_keys)
        ).published
        assert set(latest.verdict.platforms.values()) == {"linux/amd64"}
