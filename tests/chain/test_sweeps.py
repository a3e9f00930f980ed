"""Sweeps of a fleet: what they find, keep and sign; and that a stopped one goes on with what is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from registry_pipelines.chain import Chain
from registry_pipelines.chain.buckets import bucket_of, bucket_of_repository, held
from registry_pipelines.chain.sweeps import found_in, sweep
from registry_pipelines.cli import main
from registry_pipelines.errors import SignatureInvalid, StateLocked
from registry_pipelines.oci.digest import Digest
from registry_pipelines.release import Release
from registry_pipelines.report.sweeps import read_rows
from tests.chain.fleet import Fleet
from tests.chain.test_rescan import new_advisory, shipped
from tests.chain.test_status import ports
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status as Answer


def promoted(fleet: Fleet, tag: str = "v1.0.0", *targets: str) -> Release:
    release = shipped(fleet.chain, fleet.release(tag))
    for target in targets:
        assert fleet.chain.replicate(release, target).ok
    return release


def states(chain: Chain, kind: str = "drift") -> dict[tuple[str, str], str]:
    """State by tag (or image) and target (or edge), as the files of all buckets have it."""
    found: dict[tuple[str, str], str] = {}
    for name in {bucket_of(image) for image in chain.config.images.values()}:
        if (part := found_in(chain._session, kind, name)) is not None:  # type: ignore[arg-type]
            for row in read_rows(kind, part.files["parquet"], where=name).to_pylist():  # type: ignore[arg-type]
                found[row["tag" if kind == "drift" else "image"], row["target" if kind == "drift" else "edge"]] = row[
                    "state"
                ]
    return found


def test_drift_says_what_targets_lack_and_what_somebody_moved_there(fleet: Fleet) -> None:
    chain = fleet.chain
    release = promoted(fleet, "v1.0.0", "eu", "gcp")
    fleet.release("v2.0.0")  # never promoted: no target owes it
    quiet = chain.sweep("drift")
    assert quiet.ok and quiet.facts["rows"] == 2 and quiet.facts["equal"] == 2, quiet
    new_advisory(fleet)
    chain.rescan()  # attaches a report here that no copy has yet
    assert chain.sweep("drift").facts["evidence"] == 2
    eu = chain.registry("eu")
    other = eu.get_manifest("team/app", release.digest)
    raw = other.raw.replace(b"}", b" }", 1)
    eu.put_manifest("team/app", type(other)(raw, other.media_type, Digest.of(raw)), tag="v1.0.0")
    gcp = chain.registry("gcp")
    gcp.delete_manifest("replicas/team/app", release.digest)  # type: ignore[attr-defined]
    found = chain.sweep("drift")
    assert not found.ok and states(chain) == {("v1.0.0", "eu"): "differs", ("v1.0.0", "gcp"): "missing"}
    [eu_row, gcp_row] = found.rows
    assert "tag v1.0.0" in str(eu_row["why"]) and "promoted to a channel" in str(gcp_row["why"])
    told = CliRunner().invoke(main, ["sweep", "show", "drift", "--config", str(fleet.path)])
    assert told.exit_code == 3 and "differs" in told.output and "missing" in told.output


def test_what_cannot_be_asked_is_unknown_and_what_cannot_be_listed_stays(fleet: Fleet) -> None:
    promoted(fleet, "v1.0.0", "eu", "gcp")
    assert fleet.chain.sweep("drift").ok
    with FaultRegistry(fleet.chain.registry("eu").name) as down:
        for _ in range(8):
            down.play("HEAD", ".*", Answer(403))
        there = f"eu: {{kind: distribution, host: '{down.address}'}}"
        chain = fleet.reload((ports(fleet, "eu"), there))
        found = chain.sweep("drift")
        assert not found.ok and states(chain) == {("v1.0.0", "eu"): "unknown", ("v1.0.0", "gcp"): "equal"}
    fleet.reload((there, ports(fleet, "eu")))
    with FaultRegistry(fleet.chain.registry("us").name) as down:
        for _ in range(4):
            down.play("GET", ".*/tags/list.*", Answer(403))
        chain = fleet.reload((ports(fleet, "us"), f"us: {{kind: distribution, host: '{down.address}'}}"))
        found = chain.sweep("drift")
        assert (found.ok, found.exit_code) == (False, 7) and "cannot be listed" in found.reasons[0]
        assert len(states(chain)) == 2  # what was known of it, with its time


def test_lag_has_a_row_for_each_channel_and_says_who_is_late(fleet: Fleet) -> None:
    promoted(fleet, "v1.0.0", "eu")
    chain = fleet.reload(
        ("gcp: {registry: gcp, prefix: replicas}", "gcp: {registry: gcp, prefix: replicas, max_lag: 1s}")
    )
    found = sweep(chain._session, "lag", since=None)
    assert states(chain, "lag") == {("app", "us -> eu"): "there", ("app", "us -> gcp"): "behind"}
    assert found.facts["rows"] == 2 and found.facts["behind"] == 1


def test_cost_of_buckets_together_is_the_cost_of_the_whole(fleet: Fleet) -> None:
    promoted(fleet, "v1.0.0", "eu", "gcp")
    chain = fleet.chain
    swept = chain.sweep("cost")
    assert swept.ok and swept.facts["buckets"] == 256, swept
    whole, parts = chain.cost(by="repository"), chain.swept("cost")
    assert parts.ok and parts.facts["bytes"] == whole.facts["bytes"] and parts.rows == whole.rows
    again = chain.sweep("cost", bucket=bucket_of_repository("us", "team/app"))
    assert again.facts["repositories"] >= 1
    (chain.config.state / "sweeps" / "cost" / "00.json").unlink()
    torn = chain.swept("cost")
    assert not torn.ok and "bucket 00 was never swept" in torn.reasons


def test_what_is_kept_is_signed_and_another_file_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    promoted(fleet, "v1.0.0", "eu", "gcp")
    assert fleet.chain.sweep("drift").facts["unsigned"] == 0
    name = bucket_of(fleet.config.images["app"])
    part = found_in(fleet.chain._session, "drift", name)
    assert part and part.signed and part.statement.rows == 2 and part.statement.whole
    all_rows = tmp_path / "all.parquet"
    assert fleet.chain.swept("drift", parquet=all_rows).ok
    assert pq.read_table(all_rows).num_rows == 2
    folder = fleet.config.state / "sweeps" / "drift"
    file = folder / f"{name}.parquet"
    good = file.read_bytes()
    file.write_bytes(good + b"x")
    with pytest.raises(SignatureInvalid, match="another file's"):
        found_in(fleet.chain._session, "drift", name)
    told = fleet.chain.swept("drift")
    assert not told.ok and told.facts["broken"] == 1 and "another file's" in told.reasons[0]
    file.write_bytes(good)
    other = next(each for each in folder.glob("*.sig") if each.stem != name)
    (folder / f"{name}.sig").write_bytes(other.read_bytes())
    assert not fleet.chain.swept("drift").ok
    (folder / f"{name}.sig").unlink()
    assert fleet.chain.swept("drift").facts["unsigned"] == 1


def test_a_cap_leaves_the_oldest_for_the_next_sweep_and_keeps_what_was_known(fleet: Fleet) -> None:
    session = fleet.chain._session
    for tag in ("v1.0.0", "v1.1.0"):
        promoted(fleet, tag, "eu", "gcp")
    first = sweep(session, "drift", most=3)
    assert (first.facts["rows"], first.facts["left"]) == (3, 1) and any("left" in each for each in first.notes)
    second = sweep(session, "drift", most=3)
    assert (second.facts["rows"], second.facts["left"]) == (4, 1)
    name = bucket_of(fleet.config.images["app"])
    part = found_in(session, "drift", name)
    assert part and not part.statement.whole and "1 left" in part.statement.unread[0]


def test_a_bucket_is_swept_by_one_and_a_stopped_sweep_goes_on(fleet: Fleet) -> None:
    promoted(fleet, "v1.0.0", "eu", "gcp")
    session = fleet.chain._session
    mine, other = (bucket_of(fleet.config.images[name]) for name in ("app", "tool"))
    with held(session, "drift", mine):
        found = fleet.chain.sweep("drift")
        assert (found.facts["busy"], found.facts["buckets"]) == (1, 1)
        with pytest.raises(StateLocked, match=mine):
            fleet.chain.sweep("drift", bucket=mine)
    went_on = fleet.chain.sweep("drift", since=datetime.now(UTC) - timedelta(hours=1))
    assert (went_on.facts["passed"], went_on.facts["buckets"]) == (1, 1) and other != mine
    nothing_left = fleet.chain.sweep("drift", since=datetime.now(UTC) - timedelta(hours=1))
    assert (nothing_left.facts["passed"], nothing_left.facts["buckets"]) == (2, 0)


KILLED = """
import os, signal, sys
from registry_pipelines.chain import Chain, buckets
from pathlib import Path
from registry_pipelines.config import load
write, count = buckets.Bucket.write, [0]
def dying(self, ending, content):
    count[0] += 1
    if count[0] == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, ending, content)
buckets.Bucket.write = dying
Chain(load(Path(sys.argv[1]), {})).sweep("drift")
"""


@pytest.mark.long
def test_a_sweep_that_is_killed_between_its_files_is_no_result(fleet: Fleet) -> None:
    promoted(fleet, "v1.0.0", "eu", "gcp")
    assert fleet.chain.sweep("drift").ok
    for write in range(1, 5):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(fleet.path), str(write)], capture_output=True, env=dict(os.environ)
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        told = fleet.chain.swept("drift")
        assert told.facts["broken"] == 0 and told.facts["missing"] == (write > 1)
    assert fleet.chain.sweep("drift", since=datetime.now(UTC) - timedelta(hours=1)).facts["buckets"] == 1
    assert fleet.chain.swept("drift").ok
