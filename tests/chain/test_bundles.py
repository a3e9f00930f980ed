"""Releases across an air gap by bundle: those that may leave now, with all their evidence; the others are held."""

from __future__ import annotations

from pathlib import Path

from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.mirror.bundle.format import read_bundle
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.verify import compare
from tests.chain.fleet import Fleet, push, write_advisory
from tests.scan.images import push_platforms

ACROSS = ("    prefix: in\n", "    prefix: in\n    across: bundle\n")


def shipped(chain: Chain, fleet: Fleet, tag: str, *, package: str = "goodwheel") -> str:
    release = fleet.release(tag, package=package)
    for stage in (chain.provenance, chain.sbom, chain.vulnerabilities, chain.sign, chain.judge, chain.promote):
        assert stage(release).ok
    result = chain.mirror_release(release, "airgap")
    assert result.ok and "dmz" not in result.facts["place"] and result.facts["stops"] == 1
    return release.digest


def far_side(fleet: Fleet, near: Chain) -> Chain:
    """A configuration that believes the near side's key, with a folder as its registry."""
    folder = fleet.folder / "far"
    folder.mkdir(exist_ok=True)
    key = near.config.signing_key.with_suffix(".pub")
    text = f"""
state: {folder}/state
registries: {{private: {{kind: layout, root: {folder}/private}}}}
mirrors: {{airgap: {{to: private, across: bundle, prefix: in, bundle: {{signers: [{key}]}}}}}}
signing: {{generate: true}}
"""
    (folder / "far.yaml").write_text(text)
    return Chain(load(folder / "far.yaml", {}))


def test_a_release_crosses_with_its_evidence_and_one_that_turned_out_bad_is_held(fleet: Fleet, tmp_path: Path) -> None:
    chain = fleet.chain = fleet.reload(ACROSS)
    first, second = shipped(chain, fleet, "v1.0.0"), shipped(chain, fleet, "v1.1.0", package="otherwheel")
    push(Place(chain.registry("dmz"), "in/up/stream"), "1.0")
    made = chain.create_bundle("airgap", [tmp_path / "disk"])
    assert made.ok and {row["tags"] for row in made.rows} == {"1.0", "v1.0.0", "v1.1.0, prod"}
    far = far_side(fleet, chain)
    assert far.load_bundles("airgap", [tmp_path / "disk"]).ok
    dmz, private = (Place(registry, "in/team/app") for registry in (chain.registry("dmz"), far.registry("private")))
    for digest in (first, second):
        assert compare(dmz, private, digest) == []
    assert private.registry.resolve(private.repository, "prod").digest == second
    assert not list(chain.registry("private").repositories())  # nothing went there by wire

    write_advisory(fleet.folder / "advisories", package="goodwheel")
    [release] = [each for each in chain.releases(["app"]) if each.digest == first]
    assert not chain.vulnerabilities(release).ok
    again = chain.create_bundle("airgap", [tmp_path / "second"])
    assert again.ok and {row["tags"] for row in again.rows} == {"1.0", "v1.1.0, prod"}
    assert [(row["image"], row["kind"]) for row in again.tables["left_out"]] == [("app:v1.0.0", "held")]
    assert any("app:v1.0.0 is held" in note for note in again.notes)


def test_without_a_dmz_the_sources_are_taken_and_chosen_platforms_alone(fleet: Fleet, tmp_path: Path) -> None:
    chain = fleet.chain = fleet.reload(
        ACROSS,
        ("    via: dmz\n", ""),
        ('tags: ["1.*"], newest: 2}', 'tags: ["1.*"], newest: 2, platforms: [linux/arm64]}'),
    )
    up = Place(chain.registry("us"), "up/stream")
    index, children = push_platforms(up, "amd64", "arm64", tag="1.0")
    made = chain.create_bundle("airgap", [tmp_path / "disk"])
    bundle = read_bundle((tmp_path / "disk" / "airgap-0001.bundle.json").read_bytes()).bundle
    assert made.ok and [image.platforms for image in bundle.images] == [("linux/arm64",)]
    assert {index.digest, children[1].digest} <= {blob.digest for blob in bundle.manifests}
    assert children[0].digest not in {blob.digest for blob in bundle.blobs}
    assert [(each.kind, each.what) for each in bundle.left_out] == [("platform", children[0].digest)]
    far = far_side(fleet, chain)
    assert far.load_bundles("airgap", [tmp_path / "disk"]).ok
    private = LayoutRegistry(fleet.folder / "far" / "private")
    assert private.resolve("in/up/stream", "1.0").digest == index.digest
