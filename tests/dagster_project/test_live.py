"""Dagster's own processes on real registries: an image is pushed with skopeo, and nothing else is touched."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from dagster_project.partitions import DIGEST_TAG
from dagster_project.people import PERSON_TAG
from dagster_project.schedules import IMAGE_TAG, REGISTRY_TAG
from registry_pipelines.chain.keys import trusted_keys
from registry_pipelines.cli import main
from registry_pipelines.config import EmbeddedRegistry
from registry_pipelines.promote.standing import records
from tests.patience import patient

if TYPE_CHECKING:
    from conftest import Live, Made

GOOD = {"calm": "1.0"}
EVIL = {"calm": "1.0", "leaky": "1.0"}
EVERYWHERE = {"eu-west-1", "gcp", "dmz", "airgap"}
# Real processes on a busy machine: a run alone takes its process 4 s to start, the backfill daemon
# looks every 30 s.
pytestmark = [pytest.mark.peer("skopeo"), pytest.mark.timeout(900)]
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}

BACKFILL = """
mutation ($assets: [AssetKeyInput!]!, $keys: [String!]!) {
  launchPartitionBackfill(backfillParams: {assetSelection: $assets, partitionNames: $keys}) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""
BACKFILL_STATE = (
    "query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"
)
LAUNCH = """
mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
TAGS = """
query ($run: String!) { runsOrError(filter: {runIds: [$run]}) { ... on Runs { results { tags { key value } } } } }
"""
MATERIALIZED = """
query ($key: AssetKeyInput!, $keys: [String!]) { assetOrError(assetKey: $key) { ... on Asset {
  assetMaterializations(partitions: $keys, limit: 1) { metadataEntries { label
    ... on MarkdownMetadataEntry { mdStr } ... on TextMetadataEntry { text } } } } } }
"""


@pytest.fixture
def skopeo_push(
    live: Live,
    peer: Callable[[str], str],
    layout: Callable[[Path, Made, str], Path],
    image: Callable[..., Made],
    tmp_path: Path,
) -> Callable[..., str]:
    """Pushes an image as any CI system would; its release key."""
    skopeo = peer("skopeo")

    def push(name: str, tag: str, packages: dict[str, str], note: str) -> str:
        made = image(packages, note)
        folder = layout(tmp_path / f"{name}-{tag}", made, tag)
        source = live.config.registries["source"]
        assert isinstance(source, EmbeddedRegistry)
        target = f"docker://{source.address}/{live.config.images[name].repository}:{tag}"
        command = [skopeo, "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]
        subprocess.run([*command, f"oci:{folder}:{tag}", target], check=True, capture_output=True)
        return live.key(name, tag, made.digest)

    return push


def let_go(live: Live, key: str, *, user: str = "", **tags: str) -> None:
    """Launch the job with which a person lets a release go, as the UI does."""
    release = live.release(key)
    told = {"dagster/partition": key, IMAGE_TAG: release.image, DIGEST_TAG: str(release.digest), **tags}
    selector = {
        "repositoryLocationName": "registry_pipelines",
        "repositoryName": "__repository__",
        "jobName": "promote",
    }
    metadata = {"tags": [{"key": name, "value": value} for name, value in told.items()]}
    params = {"selector": selector, "runConfigData": {}, "executionMetadata": metadata}
    launched = live.ask(LAUNCH, user=user, params=params)["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched


@pytest.fixture(scope="module")
def asked_by_people(live: Live) -> str:
    """The key of a release that waits, and that two people let go: one past the proxy, one through it. Their runs wait
    for the push's own, and go on while other tests run."""
    key = live.push("byhand", "v1.0.0", GOOD, note="by hand")
    # Not only made: until it is in the queue, what people ask for could be taken before it.
    live.until("the sensor has its run in the queue", lambda: set(live.runs(key)) - {"NOT_STARTED"})
    let_go(live, key, **{PERSON_TAG: "boss@example.com"})
    let_go(live, key, user="jane@example.com")
    return key


def ended(live: Live, key: str, count: int = 1) -> list[str] | None:
    """States of a release's runs when at least so many are there and all have ended."""
    states = live.runs(key)
    return states if len(states) >= count and set(states) <= ENDED else None


def metadata(live: Live, asset: str, key: str) -> dict[str, Any]:
    """Text and Markdown metadata of a release's latest materialization."""
    found = live.ask(MATERIALIZED, key={"path": asset.split("/")}, keys=[key])["assetOrError"]
    events = found["assetMaterializations"]
    return {
        entry["label"]: entry.get("mdStr") or entry.get("text")
        for event in events
        for entry in event["metadataEntries"]
    }


def test_a_push_is_found_run_promoted_and_everywhere(
    live: Live, skopeo_push: Callable[..., str], asked_by_people: str
) -> None:
    """Within a minute, of a machine with nothing else to do."""
    key = skopeo_push("app", "v1.0.0", GOOD, "live good")
    seconds = patient(60)
    assert live.until("the pushed release's run has ended", lambda: ended(live, key), seconds=seconds) == ["SUCCESS"]
    assert live.channel("app") == live.release(key).digest
    assert live.reached(key) == EVERYWHERE
    assert live.chain.verify(live.release(key)).ok


def test_a_vulnerable_push_is_denied_and_stays_denied(live: Live, skopeo_push: Callable[..., str]) -> None:
    """Also when another release of the same image passes later, when a person backfills what is downstream, and after
    the sensors have looked again."""
    evil = skopeo_push("app", "v2.0.0", EVIL, "live evil")
    assert live.until("the vulnerable release's run has ended", lambda: ended(live, evil)) == ["FAILURE"]
    told = metadata(live, "verdict", evil)
    assert told["verdict"] == "deny"
    assert "leaky" in told["reasons"]
    assert live.reached(evil) == set()

    good = skopeo_push("app", "v3.0.0", GOOD, "live later good")
    assert live.until("the later release's run has ended", lambda: ended(live, good)) == ["SUCCESS"]
    assert live.channel("app") == live.release(good).digest
    assert live.reached(evil) == set()

    downstream = [{"path": path.split("/")} for path in ("promotion", "replica/eu-west-1", "replica/gcp")]
    launched = live.ask(BACKFILL, assets=downstream, keys=[evil, good])["launchPartitionBackfill"]
    state = {"id": launched["backfillId"]}
    assert live.until("the backfilled runs have ended", lambda: ended(live, evil, 2)) == ["FAILURE", "FAILURE"]
    assert live.until("the backfilled runs have ended", lambda: ended(live, good, 2)) == ["SUCCESS", "SUCCESS"]
    now = datetime.now(UTC).timestamp()
    over = {"COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED"}
    live.until(
        "the backfill has ended",
        lambda: live.ask(BACKFILL_STATE, **state)["partitionBackfillOrError"]["status"] in over,
    )
    for sensor in ("promotion", "push_source"):
        live.until(f"another tick of {sensor}", partial(live.ticked, sensor, now))
    assert len(live.runs(evil)) == 2
    assert live.reached(evil) == set()
    assert live.channel("app") == live.release(good).digest


def test_a_release_waits_for_a_person_whom_the_proxy_names(live: Live, asked_by_people: str) -> None:
    """A launch past the proxy lets nothing go, whatever name is typed as a tag."""
    key = asked_by_people
    states = live.until("the push's run and those of two people have ended", lambda: ended(live, key, 3))
    assert states == ["SUCCESS", "FAILURE", "SUCCESS"], "the newest first"
    release = live.release(key)
    assert live.channel("byhand") == release.digest
    assert live.reached(key) == {"gcp"}
    found = records(live.chain.place("byhand"), release.digest, trusted_keys(live.config))
    assert [(record.promoted_by, record.identity) for record, _ in found] == [("jane@example.com", "proxy")]


def asked(live: Live, *words: str) -> Any:
    """``runs`` of the command line, as JSON."""
    done = CliRunner().invoke(main, ["runs", *words, "--server", live.url, "--json"])
    return done.exit_code, json.loads(done.stdout)


def test_runs_are_launched_and_read_from_elsewhere(live: Live, asked_by_people: str) -> None:
    live.until("both have ended", lambda: ended(live, asked_by_people, 3))
    code, found = asked(live, "list", "--job", "promote", "--image", "byhand")
    assert code == 0 and {each["partition"] for each in found["result"]["runs"]} == {asked_by_people}
    people = {each["person"]: each for each in found["result"]["runs"]}
    assert people["jane@example.com"]["outcome"] == "promoted"
    code, refused = asked(live, "show", people[""]["run"][:13])
    assert code == 0 and "the proxy sent no name" in refused["result"]["run"]["reasons"][0]
    code, made = asked(live, "launch", "promote", asked_by_people.partition("@")[0], "--wait")
    assert code == 1 and made["result"]["run"]["status"] == "FAILURE"
    assert made["result"]["run"]["partition"] == asked_by_people
    [run] = live.ask(TAGS, run=made["result"]["run"]["run"])["runsOrError"]["results"]
    tags = {each["key"]: each["value"] for each in run["tags"]}
    assert (tags[IMAGE_TAG], tags[REGISTRY_TAG]) == ("byhand", "source")
    for words, said in (
        (["launch", "promot", "x"], "Did you mean promote?"),
        (["launch", "release"], "Say for which"),
        (["launch", "release", "byhand:v7"], "Did you mean byhand:v1.0.0?"),
        (["show", "ffff"], "`runs list` shows them"),
    ):
        code, told = asked(live, *words)
        assert code == 8 and said in told["error"]["do"]
