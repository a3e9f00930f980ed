"""Syncs of the configuration: many repositories of one registry to the targets, in one plan."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter

import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.chain.places import limits_of
from registry_pipelines.config import EmbeddedRegistry, load
from registry_pipelines.errors import ConfigInvalid, InputError
from registry_pipelines.registry.protocol import Place
from tests.chain.fleet import Fleet, check_receipt, push
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status
from tests.patience import patient

SYNCS = """\
syncs:
  bases:
    source: us
    repositories: ["bases/*"]
    repositories_regex: ["team/[a-z]+"]
    exclude_repositories: ["bases/old*"]
    tags: ["1.*", stable]
    exclude_tags: ["*-rc*"]
    targets: [eu, gcp]
  pinned: {source: us, repositories: [bases/python], tags: [stable], move_tags: false, targets: [eu]}
  newest: {source: us, repositories: [bases/python], semver: ">=1,<3", newest: 1, targets: [gcp]}
"""


def with_syncs(fleet: Fleet, text: str = SYNCS) -> Chain:
    fleet.path.write_text(fleet.path.read_text() + text)
    return Chain(load(fleet.path, {}))


def fill(fleet: Fleet) -> None:
    source = fleet.chain.registry("us")
    for repository in ("bases/python", "bases/cuda", "bases/old-python", "team/notebook"):
        for tag in ("1.0", "1.1-rc1", "2.0", "stable"):
            push(Place(source, repository), tag, package=repository.replace("/", "-"))


def test_the_first_run_copies_and_the_second_changes_nothing(fleet: Fleet) -> None:
    chain = with_syncs(fleet)
    fill(fleet)
    fleet.release("v1.0.0")
    planned = chain.sync("bases", dry_run=True)
    assert (planned.ok, planned.changed, planned.bytes_moved) == (True, False, 0)
    assert not list(chain.registry("eu").repositories())

    first = chain.sync("bases")
    assert (first.ok, first.changed, first.stage) == (True, True, "sync:bases")
    assert [(row["target"], row["state"], row["images"]) for row in first.tables["targets"]] == [
        ("eu", "copied", 6),
        ("gcp", "copied", 6),
    ]
    assert len(planned.tables["plan"]) == first.facts["copies"] == first.facts["receipts"] == 12
    assert first.bytes_moved == planned.facts["upload_bytes"] == 2 * int(planned.facts["fetch_bytes"])
    assert first.facts["blobs_moved"] and first.facts["bytes_per_second"]
    assert sorted(chain.registry("eu").repositories()) == ["bases/cuda", "bases/python", "team/notebook"]
    assert sorted(chain.registry("gcp").tags("replicas/bases/cuda")) == ["1.0", "stable"]

    second = with_syncs(fleet, "").sync("bases")
    assert (second.ok, second.changed, second.bytes_moved, second.action) == (True, False, 0, "unchanged")
    assert {row["state"] for row in second.tables["targets"]} == {"unchanged"}
    assert not second.tables["images"] and {row["action"] for row in second.tables["plan"]} == {"unchanged"}
    assert second.facts["blobs_unchanged"] == int(first.facts["blobs_moved"]) + int(first.facts["blobs_mounted"])
    assert int(first.facts["mounted_bytes"]) + first.bytes_moved == second.facts["unchanged_bytes"]


def test_the_beginning_of_names_may_be_left_away(fleet: Fleet) -> None:
    chosen = "repositories: ['bases/*', team/notebook], exclude_repositories: ['bases/*/*'], tags: ['1.0']"
    chain = with_syncs(fleet, f"syncs:\n  moved: {{source: us, {chosen}, strip: bases, targets: [gcp]}}\n")
    fill(fleet)
    assert chain.sync("moved").ok
    assert sorted(chain.registry("gcp").repositories()) == [
        "replicas/cuda",
        "replicas/old-python",
        "replicas/python",
        "replicas/team/notebook",
    ]
    assert chain.sync("moved").action == "unchanged"


def test_own_images_never_leave_unpromoted(fleet: Fleet) -> None:
    """The regular expression takes team/app, too; it is a repository of the image `app`."""
    chain = with_syncs(fleet)
    fill(fleet)
    fleet.release("1.0", package="badwheel")
    chain.sync("bases")
    assert "team/app" in list(chain.registry("us").repositories())
    assert "team/app" not in list(chain.registry("eu").repositories())
    named = with_syncs(fleet, "  app: {source: us, repositories: [team/app], targets: [eu]}\n").sync("app")
    assert (named.facts["copies"], named.changed, named.action) == (0, False, "no image is chosen")


def test_the_newest_version_and_signed_receipts(fleet: Fleet) -> None:
    chain = with_syncs(fleet)
    fill(fleet)
    chain.sign(fleet.release("v1.0.0"))  # makes the key
    assert chain.sync("newest").ok
    assert list(chain.registry("gcp").tags("replicas/bases/python")) == ["2.0"]
    place = Place(chain.registry("gcp"), "replicas/bases/python")
    check_receipt(chain, place, "2.0")


def test_a_sync_within_one_registry_does_not_copy_its_copies(fleet: Fleet) -> None:
    fleet.reload(("  eu: {registry: eu}\n", "  eu: {registry: eu}\n  backup: {registry: us, prefix: backup}\n"))
    chain = with_syncs(fleet, "syncs:\n  all: {source: us, targets: [backup]}\n")
    push(Place(chain.registry("us"), "bases/python"), "1.0")
    assert [chain.sync("all").facts["copies"] for _ in range(2)] == [1, 1]
    assert sorted(chain.registry("us").repositories()) == ["backup/bases/python", "bases/python"]


def test_a_tag_that_may_not_move_is_drift_and_stays(fleet: Fleet) -> None:
    chain = with_syncs(fleet)
    fill(fleet)
    theirs = push(Place(chain.registry("eu"), "bases/python"), "stable", package="theirs")
    [row] = chain.sync("pinned", dry_run=True).tables["plan"]
    assert row["drift"] == "stable"
    for _ in range(2):
        result = chain.sync("pinned")
        assert not result.ok and "tag stable at the target names" in " ".join(result.reasons)
        assert [row["state"] for row in (*result.tables["targets"], *result.tables["images"])] == ["drift", "drift"]
        assert chain.registry("eu").resolve("bases/python", "stable").digest == theirs.digest


def test_one_broken_image_holds_no_other_up(fleet: Fleet) -> None:
    chain = with_syncs(fleet)
    fill(fleet)
    source = chain.registry("us")
    manifest = source.get_manifest("bases/cuda", "1.0").content()
    source.delete_blob("bases/cuda", manifest.layers[0].digest)  # type: ignore[union-attr]
    result = chain.sync("bases")
    assert not result.ok and result.changed
    assert [row["target"] for row in result.tables["targets"]] == ["eu", "gcp"]
    failed = [row for row in result.tables["images"] if row["state"] == "failed"]
    assert len(failed) == 2 and all("bases/cuda" in str(row["note"]) for row in failed)
    assert "bases/cuda" in " ".join(result.reasons)
    assert sorted(chain.registry("eu").tags("bases/python")) == ["1.0", "stable"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("  us: {source: us, targets: [eu]}", "a registry has this name"),
        ("  a: {source: us, targets: []}", "at least 1"),
        ("  a: {source: us, targets: [eu], semver: newest}", "not a range of versions"),
        ("  a: {source: us, targets: [eu], repositories_regex: ['(']}", "not a regular expression"),
        ("  a: {source: eu, targets: [eu]}", "the place it takes from"),
        ("  a: {source: us, targets: [europe]}", "unknown target `europe`"),
    ],
)
def test_what_a_sync_may_not_say(fleet: Fleet, text: str, said: str) -> None:
    with pytest.raises(ConfigInvalid, match=said):
        with_syncs(fleet, SYNCS + text)


def test_a_name_that_does_not_exist(fleet: Fleet) -> None:
    with pytest.raises(InputError, match=r"unknown sync `base`.*bases"):
        with_syncs(fleet).sync("base")


def behind(fleet: Fleet, faults: FaultRegistry) -> None:
    """Target `eu` is reached through a proxy, as a registry elsewhere."""
    fleet.reload(
        ("registries:\n", f'registries:\n  near: {{kind: distribution, host: "{faults.address}"}}\n'),
        ("  eu: {registry: eu}\n", "  eu: {registry: near}\n"),
    )


def test_the_limits_that_held_are_told(fleet: Fleet) -> None:
    eu = fleet.config.registries["eu"]
    assert isinstance(eu, EmbeddedRegistry)
    with FaultRegistry(eu.address) as faults:
        behind(fleet, faults)
        chain = with_syncs(fleet)
        fill(fleet)
        faults.play("PUT", r".*/manifests/.*", Status(429, {"Retry-After": "1"}), times=1)
        told = chain.sync("pinned")
        assert told.ok
        limits = {row["action"]: row for row in told.tables["limits"]}
        assert set(limits) >= {"read-manifest", "write-manifest", "append"}
        assert limits["write-manifest"]["registry"] == faults.address
        assert int(limits["write-manifest"]["window"]) < int(limits["read-manifest"]["window"])


def test_a_registry_that_stops_one_process_stops_all(fleet: Fleet) -> None:
    eu = fleet.config.registries["eu"]
    assert isinstance(eu, EmbeddedRegistry)
    with FaultRegistry(eu.address) as faults:
        behind(fleet, faults)
        limits = limits_of(with_syncs(fleet).config)
        fill(fleet)
        faults.play("PUT", r".*/manifests/.*", Status(429, {"Retry-After": "250"}))
        program = "from registry_pipelines.cli import main; main()"
        command = [sys.executable, "-c", program, "sync", "pinned", "--config", str(fleet.path)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as other:
            until = time.monotonic() + patient(30)
            while not (stopped := limits.window(faults.address, "write-manifest").stopped_s()):
                assert other.poll() is None and time.monotonic() < until
                time.sleep(0.01)
            other.kill()
    assert 100 < stopped <= 250 and not limits.window(faults.address, "append").stopped_s()


def test_syncs_that_run_together_read_a_shared_blob_once_and_each_tells_its_own(fleet: Fleet) -> None:
    place = Place(fleet.chain.registry("us"), "bases/python")
    made = push(place, "1.0", package="python")
    push(Place(fleet.chain.registry("us"), "bases/cuda"), "1.0", package="cuda")
    port = place.registry.name.rpartition(":")[2]
    with FaultRegistry(place.registry.name) as source:
        fleet.reload((f"us: {{kind: embedded, port: {port}}}", f"us: {{kind: distribution, host: '{source.address}'}}"))
        chain = with_syncs(
            fleet,
            "syncs:\n  near: {source: us, repositories: [bases/python], targets: [eu]}\n"
            "  far: {source: us, repositories: ['bases/*'], targets: [gcp]}\n",
        )
        found = chain.syncs(["far", "near"])
        read = Counter(each.target for each in source.seen if each.method == "GET" and "/blobs/" in each.target)
    assert read and set(read.values()) == {1}
    assert list(found) == ["far", "near"] and all(each.ok and each.changed for each in found.values())
    assert [found[name].facts["copies"] for name in ("far", "near")] == [2, 1]
    assert {row["target"] for row in found["near"].tables["targets"]} == {"eu"}
    assert chain.registry("eu").resolve("bases/python", "1.0").digest == made.digest
    assert chain.registry("gcp").resolve("replicas/bases/python", "1.0").digest == made.digest


def test_a_sync_that_takes_what_another_brings_is_planned_after_it(fleet: Fleet) -> None:
    made = push(Place(fleet.chain.registry("us"), "bases/python"), "1.0", package="python")
    chain = with_syncs(
        fleet,
        "syncs:\n  on: {source: eu, repositories: [bases/python], targets: [gcp]}\n"
        "  first: {source: us, repositories: [bases/python], targets: [eu]}\n",
    )
    assert all(each.ok for each in chain.syncs(["first", "on"]).values())
    assert chain.registry("gcp").resolve("replicas/bases/python", "1.0").digest == made.digest


def test_one_registry_under_two_names_is_known_to_be_one(fleet: Fleet) -> None:
    made = push(Place(fleet.chain.registry("us"), "bases/python"), "1.0", package="python")
    again = f"  again: {{kind: distribution, host: '{fleet.chain.registry('eu').name}'}}\n"
    fleet.reload(("  gcp: {kind", f"{again}  gcp: {{kind"))
    chain = with_syncs(
        fleet,
        "syncs:\n  first: {source: us, repositories: [bases/python], targets: [eu]}\n"
        "  on: {source: again, repositories: [bases/python], targets: [gcp]}\n",
    )
    assert all(each.ok for each in chain.syncs(["first", "on"]).values())
    assert chain.registry("gcp").resolve("replicas/bases/python", "1.0").digest == made.digest


def test_one_sync_that_clashes_with_itself_holds_up_no_other(fleet: Fleet) -> None:
    """Two of its targets make one repository of two; before, no sync of the run did anything."""
    made = push(Place(fleet.chain.registry("us"), "b/c"), "1.0", package="python")
    push(Place(fleet.chain.registry("us"), "c"), "1.0", package="cuda")
    push(Place(fleet.chain.registry("us"), "fine"), "1.0", package="fine")
    fleet.reload(("targets:\n", "targets:\n  one: {registry: dmz, prefix: a}\n  two: {registry: dmz, prefix: a/b}\n"))
    chain = with_syncs(
        fleet,
        "syncs:\n  bad: {source: us, repositories: ['*c'], targets: [one, two]}\n"
        "  good: {source: us, repositories: [fine], targets: [eu]}\n",
    )
    found = chain.syncs(["bad", "good"])
    assert found["good"].ok and found["good"].changed
    assert not found["bad"].ok and "are both to be" in found["bad"].reasons[0]
    assert chain.registry("dmz").resolve("a/b/c", "1.0").digest == made.digest


def test_of_two_syncs_that_clash_the_later_fails_and_the_others_are_done(fleet: Fleet) -> None:
    """Patterns that cross are no error of the configuration; before, whichever came last had the tag, every night."""
    made = push(Place(fleet.chain.registry("us"), "team-base"), "1.0", package="python")
    push(Place(fleet.chain.registry("dmz"), "team-base"), "1.0", package="cuda")
    push(Place(fleet.chain.registry("dmz"), "other-base"), "1.0", package="cuda")
    chain = with_syncs(
        fleet,
        "syncs:\n  teams: {source: us, repositories: ['team-*'], targets: [eu]}\n"
        "  bases: {source: dmz, repositories: ['*-base'], targets: [eu]}\n",
    )
    found = chain.syncs(["teams", "bases"])
    assert found["teams"].ok
    assert not found["bases"].ok and found["bases"].facts["copies"] == 1
    assert "are both to be" in found["bases"].reasons[0]
    assert chain.registry("eu").resolve("team-base", "1.0").digest == made.digest
    assert list(chain.registry("eu").tags("other-base")) == ["1.0"]
