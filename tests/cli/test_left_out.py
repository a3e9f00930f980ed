"""What copies leave out, and what comparisons do not look at, as people and programs read it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from registry_pipelines.cli import main
from registry_pipelines.registry.protocol import Place
from tests.answers import answered
from tests.chain.fleet import Fleet, push, start
from tests.scan.images import keep_elsewhere, push_image

SYNC = "syncs:\n  bases: {source: us, repositories: ['*/*'], targets: [eu]}\n"
NOTE = "stays with its publisher"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """With an image whose layer its publisher keeps elsewhere; the source holds it all the same."""
    with ExitStack() as stack:
        found = start(tmp_path, stack)
        base = Place(found.chain.registry("us"), "bases/win")
        push_image(base, [{"etc/os": "windows"}], tag="1.0")
        keep_elsewhere(base, "1.0")
        yield found


def run(fleet: Fleet, *arguments: str, code: int = 0) -> Result:
    found = CliRunner().invoke(main, [*arguments, "--config", str(fleet.path)], env={"COLUMNS": "220"})
    assert found.exit_code == code, found.output
    return found


def answer(fleet: Fleet, *arguments: str, code: int = 0) -> Any:
    return answered(run(fleet, *arguments, "--json", code=code).stdout)


def kinds(rows: list[dict[str, Any]]) -> list[str]:
    return [row["kind"] for row in rows]


def test_copy_says_what_it_leaves_out_and_brings_it_when_asked(fleet: Fleet) -> None:
    words = ("copy", "us/bases/win:1.0", "eu/bases/win")
    [planned] = answer(fleet, *words, "--dry-run")["plans"]
    assert [kinds(each["left_out"]) for each in planned["deliveries"]] == [["foreign-layer"]]
    assert NOTE in run(fleet, *words, "--dry-run").stdout
    done = answer(fleet, *words)
    assert done["ok"] and kinds(done["left_out"]) == ["foreign-layer"] and NOTE in done["targets"][0]["note"]
    assert NOTE in run(fleet, *words).stdout
    [told] = answer(fleet, "inspect", "us/bases/win:1.0")["left_out"]
    # The reason stands before the digest, which pushes it out of sight in Dagster's tables.
    assert list(told) == ["kind", "why", "what", "size_bytes"] and told["kind"] == "foreign-layer"
    brought = answer(fleet, *words, "--foreign-layers")
    assert brought["left_out"] == [] and brought["targets"][0]["blobs"] == 1


def test_verify_copy_says_exactly_only_of_what_it_compared(fleet: Fleet) -> None:
    """Equal is 0 all the same: the words, and ``not_compared``, say of what."""
    pair = ("us/bases/win:1.0", "eu/bases/win")
    run(fleet, "copy", *pair)
    told = run(fleet, "verify-copy", *pair, "--content").stdout
    assert "exactly" not in told and "holds all that was compared" in told and "not compared: 1 layer" in told
    found = answer(fleet, "verify-copy", *pair)
    assert found["ok"] and not found["differences"] and kinds(found["not_compared"]) == ["foreign-layer"]
    assert found["not_compared"][0]["why"].endswith("bases/win holds it, the other does not")
    assert [
        each["kind"] for each in answer(fleet, "verify-copy", *pair, "--foreign-layers", code=6)["differences"]
    ] == ["blob"]
    run(fleet, "copy", *pair, "--foreign-layers")
    assert "holds exactly" in run(fleet, "verify-copy", *pair, "--foreign-layers").stdout


def test_verify_copy_of_repositories_names_the_tags_that_it_passed_over(fleet: Fleet) -> None:
    here, there = (Place(fleet.chain.registry(name), "bases/tool") for name in ("us", "eu"))
    push(here, "1.0")
    run(fleet, "copy", "us/bases/tool:1.0", "eu/bases/tool")
    orphans = [f"sha256-{digit * 64}.sig" for digit in "01"]
    for place, orphan in zip((here, there), orphans, strict=True):
        push_image(place, [{"etc/orphan": ""}], tag=orphan)
    found = answer(fleet, "verify-copy", "us/bases/tool", "eu/bases/tool")
    assert found["ok"]
    passed_over = [row["what"] for row in found["not_compared"]]
    assert passed_over == sorted(f"{place}:{tag}" for place, tag in zip((here, there), orphans, strict=True))
    told = run(fleet, "verify-copy", "us/bases/tool", "eu/bases/tool").stdout
    assert "exactly" not in told and "2 tags stay behind" in told


def test_a_sync_counts_and_names_what_it_leaves_out(fleet: Fleet) -> None:
    fleet.release("v1.0.0")
    path = fleet.path.read_text()
    fleet.path.write_text(path + SYNC)
    [planned] = answer(fleet, "sync", "bases", "--dry-run")
    assert sorted(kinds(planned["left_out"])) == ["foreign-layer", "repository"]
    told = "releases of app travel when they are promoted"
    assert told in run(fleet, "sync", "bases", "--dry-run").stdout
    [done] = answer(fleet, "sync", "bases")
    assert done["facts"]["left_out_count"] == len(done["tables"]["left_out"]) == 2
    assert {row["image"] for row in done["tables"]["left_out"]} == {"", "bases/win:1.0"}
    shown = run(fleet, "sync", "bases").stdout
    assert told in shown and NOTE in shown and "2 left out" in shown
    fleet.path.write_text(path + SYNC.replace("targets:", "foreign_layers: true, targets:"))
    assert kinds(answer(fleet, "sync", "bases")[0]["tables"]["left_out"]) == ["repository"]
    ad_hoc = answer(fleet, "sync", "us", "gcp", "--repository", "bases/win")
    assert kinds(ad_hoc["left_out"]) == ["foreign-layer"] and ad_hoc["totals"]["left_out_count"] == 1
    assert answer(fleet, "sync", "us", "gcp", "--repository", "bases/win", "--foreign-layers")["left_out"] == []


def test_a_mirror_names_what_stays_with_the_publisher(fleet: Fleet) -> None:
    upstream = Place(fleet.chain.registry("us"), "up/stream")
    push_image(upstream, [{"etc/os": "windows"}], tag="1.0")
    keep_elsewhere(upstream, "1.0")
    [done] = answer(fleet, "mirror", "airgap")
    assert done["ok"] and kinds(done["tables"]["left_out"]) == ["foreign-layer"]
    assert [row["left_out"] for row in done["rows"]] == [1] and done["facts"]["left_out_count"] == 1
    assert NOTE in run(fleet, "mirror", "airgap").stdout
    signed = f"sha256-{upstream.registry.resolve('up/stream', '1.0').digest.hex}.sig"
    orphan = f"sha256-{'0' * 64}.sig"
    for tag in (signed, orphan):
        push_image(upstream, [{"etc/signature": tag}], tag=tag)
    [done] = answer(fleet, "mirror", "airgap")
    assert [row["what"] for row in done["tables"]["left_out"] if row["kind"] == "tag"] == [f"{upstream}:{orphan}"]
    assert "1 tag stays behind" in run(fleet, "mirror", "airgap").stdout
    upstream.registry.delete_tag("up/stream", orphan)
    fleet.reload(('tags: ["1.*"]', 'foreign_layers: true, tags: ["1.*"]'))
    [done] = answer(fleet, "mirror", "airgap")
    assert done["tables"]["left_out"] == [] and done["bytes_moved"] > 0


def test_replicas_of_a_release_name_it_too(fleet: Fleet) -> None:
    unproven = "policies:\n  default: {required: [sbom, vulnerabilities, signature]}\nsigning:"
    fleet.chain = fleet.reload(("signing:", unproven))
    place = fleet.chain.place("app")
    fleet.release("v1.0.0")
    release = fleet.chain.find_release(f"app@{keep_elsewhere(place, 'v1.0.0').digest}")
    assert fleet.judged(release)
    fleet.chain.promote(release)
    name = "app:v1.0.0"
    [done] = answer(fleet, "replicate", name, "--target", "eu")
    assert done["ok"] and kinds(done["tables"]["left_out"]) == ["foreign-layer"]
    [checked] = answer(fleet, "replicate", name, "--target", "eu", "--check")
    assert checked["ok"] and checked["action"] == "equal in all that was compared"
    assert kinds(checked["tables"]["not_compared"]) == ["foreign-layer"]
    assert "not compared: 1 layer" in run(fleet, "replicate", name, "--check", "--target", "eu").stdout
    [across] = answer(fleet, "mirror", "airgap", "--release", name)
    assert across["ok"] and kinds(across["tables"]["left_out"]) == ["foreign-layer"]
    fleet.reload(("eu: {registry: eu}", "eu: {registry: eu, foreign_layers: true}"))
    assert answer(fleet, "replicate", name, "--target", "eu")[0]["tables"]["left_out"] == []
    assert answer(fleet, "replicate", name, "--target", "eu", "--check")[0]["action"] == "equal"
    fleet.reload(("    images: [app]", "    images: [app]\n    foreign_layers: true"))
    assert answer(fleet, "mirror", "airgap", "--release", name)[0]["tables"]["left_out"] == []
