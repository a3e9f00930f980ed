"""Where a bundle crosses: the DMZ alone is filled and judged, and the bundle takes what the lock and the policy let
in."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry_pipelines.config import load
from registry_pipelines.errors import ConfigInvalid, InputError, NotFound
from registry_pipelines.mirror.bundle.format import read_bundle
from registry_pipelines.registry.protocol import Place
from tests.chain.conftest import fleet
from tests.chain.fleet import Fleet, push

__all__ = ["fleet"]
POLICY = "\npolicies:\n  scanned: {required: [sbom, vulnerabilities]}\nsigning:"


def test_what_is_held_is_left_out_of_the_bundle_and_named(fleet: Fleet, tmp_path: Path) -> None:
    upstream = Place(fleet.chain.registry("us"), "up/stream")
    good = push(upstream, "1.0", provenance=False)
    push(upstream, "1.1", package="badwheel", provenance=False)
    chain = fleet.reload(
        ("\nsigning:", POLICY),
        ("    prefix: in\n", "    prefix: in\n    policy: scanned\n    lock: a.lock\n    across: bundle\n"),
        ("    images: [app]\n", ""),
    )
    assert chain.lock_mirror("airgap").facts["tags"] == 2
    with pytest.raises(InputError, match=r"dmz does not have it: .*Run `registry-pipelines mirror airgap` first"):
        chain.create_bundle("airgap", [tmp_path / "early"])
    push(upstream, "1.0", version="moved", provenance=False)
    done = chain.mirror("airgap")
    assert {row["tag"]: row["state"].partition(":")[0] for row in done.rows} == {"1.0": "copied", "1.1": "held"}
    with pytest.raises(NotFound):
        fleet.chain.registry("private").resolve("in/up/stream", good.digest)
    assert chain.compare_mirror("airgap").action == "nothing to compare: a bundle crosses"
    disk = tmp_path / "disk"
    disk.mkdir()
    chain.create_bundle("airgap", [disk])
    [file] = disk.glob("*.bundle.json")
    bundle = read_bundle(file.read_bytes()).bundle
    assert {(image.digest, tag) for image in bundle.images for tag in image.tags} == {(good.digest, "1.0")}
    assert [(each.image, each.kind, "TEST-2026-1" in each.why) for each in bundle.left_out] == [
        ("us/up/stream:1.1", "held", True)
    ]


def test_a_policy_in_front_of_a_bundle_needs_a_dmz(fleet: Fleet) -> None:
    with pytest.raises(ConfigInvalid, match=r"mirrors.airgap.policy: needs `via`"):
        fleet.reload(
            ("\nsigning:", POLICY), ("    via: dmz\n", ""), ("    images: [app]\n", ""),
            ("    prefix: in\n", "    prefix: in\n    policy: scanned\n    across: bundle\n"),
        )  # fmt: skip


def test_a_bundle_from_the_sources_fills_nothing_here(fleet: Fleet) -> None:
    upstream = Place(fleet.chain.registry("us"), "up/stream")
    push(upstream, "1.0", provenance=False)
    chain = fleet.reload(
        ("    via: dmz\n", ""),
        ("    prefix: in\n", "    prefix: in\n    across: bundle\n"),
        ("    images: [app]\n", ""),
    )
    done = chain.mirror("airgap")
    assert done.ok and not done.changed and "`bundle create` takes it from the sources" in done.notes[0]
    assert load(fleet.path, {}).mirrors["airgap"].stops == ("private",)
    assert list(chain.registry("private").repositories()) == []
