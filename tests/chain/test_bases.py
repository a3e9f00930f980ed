"""Approved bases as a platform team has them: recognised by layers, asked for by the policy, made again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.chain import Chain, StageResult
from registry_pipelines.cli import main
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from tests.chain.fleet import Fleet, attach_provenance
from tests.scan.images import push_image

DEBIAN = {"etc/os-release": "ID=scratch\n", "lib/libc.so.6": "x" * 5000}
OTHER = {"etc/other": "y" * 3000}


def python(version: str) -> dict[str, str]:
    return {"usr/bin/python": f"#!{version}" + "z" * 2000}


def wheel(name: str) -> dict[str, str]:
    path = f"usr/lib/python3/site-packages/{name}-1.0.dist-info/METADATA"
    return {path: f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"}


BASES = """
bases: {{python: {{registry: us, repository: bases/python, tag: '3'{more}}}}}
policies: {{default: {{required: [provenance, sbom, vulnerabilities, signature, approved-base]}}}}
signing:"""


def configured(fleet: Fleet, more: str = "") -> Chain:
    return fleet.reload(("\nsigning:", BASES.format(more=more)))


def push_base(fleet: Fleet, version: str) -> Descriptor:
    place = Place(fleet.chain.place("app").registry, "bases/python")
    return push_image(place, [DEBIAN, python(version)], tag="3")


def push_app(fleet: Fleet, tag: str, *layers: dict[str, str], image: str = "app") -> Release:
    place = fleet.chain.place(image)
    made = push_image(place, [*layers, wheel("goodwheel") | {"app/version": tag}], tag=tag)
    attach_provenance(place, made)
    return Release(image, tag, made.digest)


def judged(chain: Chain, release: Release) -> StageResult:
    for stage in (chain.sbom, chain.vulnerabilities, chain.sign):
        stage(release)
    return chain.judge(release)


def test_the_policy_takes_what_stands_on_an_approved_base_by_its_layers(fleet: Fleet) -> None:
    push_base(fleet, "3.11.1")
    chain = configured(fleet)
    good = push_app(fleet, "v1", DEBIAN, python("3.11.1"))
    verdict = judged(chain, good)
    assert verdict.ok
    assert any("stands on python@sha256:" in str(row["text"]) for row in verdict.rows)
    for tag, layers in (
        ("v2", (DEBIAN, OTHER)),
        ("v3", (python("3.11.1"), DEBIAN)),
        ("v4", (DEBIAN | python("3.11.1"),)),
    ):
        denied = judged(chain, push_app(fleet, tag, *layers))
        assert not denied.ok and "stands on none that is known" in denied.reasons[0]
        assert "approved base: any of `bases`" in denied.next_steps[0]


def test_an_image_on_the_base_before_is_known_and_to_be_built_again(fleet: Fleet) -> None:
    old = push_base(fleet, "3.11.1")
    chain = configured(fleet)
    release = push_app(fleet, "v1", DEBIAN, python("3.11.1"))
    assert judged(chain, release).ok
    chain.promote(release)
    new = push_base(fleet, "3.11.2")
    chain = Chain(chain.config)
    result = chain.bases()
    [row] = [row for row in result.rows if row["image"] == "app"]
    assert (row["state"], row["base_digest"], row["channels"]) == ("older", old.digest, "prod")
    assert result.next_steps == [
        f"Build app again where it is built, and push a new release: v1 stands on python@{old.digest.short}, "
        f"{new.digest.short} is the current one"
    ]
    assert chain.judge(release).ok  # any that was ever under the tag counts, unless `keep` ends it
    chain = fleet.reload(("tag: '3'", "tag: '3', keep: 0s"))
    late = chain.judge(release)
    assert not late.ok and "which was replaced on" in late.reasons[0]


def test_the_bases_a_policy_names_and_those_named_by_digest(fleet: Fleet) -> None:
    old = push_base(fleet, "3.11.1")
    push_base(fleet, "3.11.2")
    release = push_app(fleet, "v1", DEBIAN, python("3.11.1"))
    assert not judged(configured(fleet), release).ok  # nobody here ever saw it under the tag
    pinned = fleet.reload(("tag: '3'", f"tag: '3', digests: ['{old.digest}']"))
    assert pinned.judge(release).ok
    pin = f", digests: ['{old.digest}']"
    assert not fleet.reload((pin, "")).judge(release).ok  # it counts as long as it is named
    assert fleet.reload(("tag: '3'", f"tag: '3'{pin}")).judge(release).ok
    place = Place(fleet.chain.place("app").registry, "bases/other")
    push_image(place, [OTHER], tag="1")
    both = fleet.reload(
        ("bases: {", "bases: {other: {registry: us, repository: bases/other, tag: '1'}, "),
        ("approved-base]", "approved-base], bases: [other]"),
    )
    denied = both.judge(release)
    assert not denied.ok and "and policy default takes other" in denied.reasons[0]


def test_a_base_that_cannot_be_read_counts_as_it_was_and_one_never_read_ends_the_judgement(fleet: Fleet) -> None:
    push_base(fleet, "3.11.1")
    chain = configured(fleet)
    release = push_app(fleet, "v1", DEBIAN, python("3.11.1"))
    assert judged(chain, release).ok
    gone = fleet.reload(("bases/python, tag: '3'", "bases/python, tag: '4'"))
    assert gone.judge(release).ok
    assert gone.bases().notes[0].startswith("base python cannot be read, what was seen before counts")
    for path in (fleet.config.state / "bases").iterdir():
        path.unlink()
    with pytest.raises(Exception, match="has no tag 4"):
        Chain(gone.config).judge(release)


def test_what_one_base_for_all_would_save_and_the_command(fleet: Fleet, tmp_path: Path) -> None:
    push_base(fleet, "3.11.1")
    chain = configured(fleet)
    push_app(fleet, "v1", DEBIAN, python("3.11.1"))
    chain.bases()
    push_base(fleet, "3.11.2")
    push_app(fleet, "v1", DEBIAN, python("3.11.2"), image="tool")
    result = Chain(chain.config).bases()
    rows = {str(row["base"]): row for row in result.tables["savings"]}
    assert len(rows) == 2 and result.facts["blessed"] in rows
    [older] = [row for name, row in rows.items() if name != result.facts["blessed"]]
    assert 0 < int(older["freed_bytes"]) < int(older["bytes"])  # the shared layer stays
    assert result.facts["bytes_saved_by_one"] == older["freed_bytes"]
    told = CliRunner().invoke(main, ["bases", "--config", str(fleet.path)])
    assert told.exit_code == 0 and "1 image stands on an older base" in told.stdout
    answer = json.loads(CliRunner().invoke(main, ["bases", "python", "--config", str(fleet.path), "--json"]).stdout)
    assert answer["result"]["results"][0]["facts"]["images_older"] == 1
    assert CliRunner().invoke(main, ["bases", "pyton", "--config", str(fleet.path)]).exit_code == 8


def test_what_was_converted_to_estargz_stands_on_the_base_of_its_origin(fleet: Fleet) -> None:
    """Its layers are other ones, with other diffIDs: the signed record leads to what it was made of, and that to the
    base. An origin on no base leads to none."""
    push_base(fleet, "3.11.1")
    fleet.reload(("team/app, targets", "team/app, stream: {format: estargz}, targets"))
    chain = configured(fleet)
    verdicts = {}
    for tag, layers in (("v1", (DEBIAN, python("3.11.1"))), ("v2", (DEBIAN, OTHER))):
        origin = push_app(fleet, tag, *layers)
        derived = Release("app", f"{tag}-estargz", Digest(chain.convert("app", tag).digest))
        assert derived.digest != origin.digest
        verdicts[tag] = judged(chain, derived)
    assert verdicts["v1"].ok, verdicts["v1"].reasons
    assert any("stands on python@sha256:" in str(row["text"]) for row in verdicts["v1"].rows)
    assert not verdicts["v2"].ok and "stands on none that is known" in verdicts["v2"].reasons[0]
