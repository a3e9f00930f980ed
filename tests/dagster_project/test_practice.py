"""Who shipped what, and how good the practice is, as assets with checks; numbers over time as pictures in the event."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import dagster as dg
import pytest

from dagster_project.definitions import build_definitions
from dagster_project.report import plot
from registry_pipelines.chain import Chain
from registry_pipelines.chain.metrics import keep
from registry_pipelines.config import load
from registry_pipelines.report.html.plots import Plot, Point
from registry_pipelines.report.metrics.model import Collected, sample
from tests.chain.fleet import Fleet, start


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield start(tmp_path, stack)


QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def night(chain: Chain) -> tuple[dict[str, bool], dict[str, dg.MetadataValue]]:
    """Its checks, and the metadata of the asset custody."""
    defs = build_definitions(chain.config, lambda: chain)
    done = defs.resolve_job_def("nightly_report").execute_in_process(run_config=QUIET, raise_on_error=False)
    assert done.success
    [custody] = [each for each in done.get_asset_materialization_events() if each.asset_key == dg.AssetKey("custody")]
    metadata = dict(custody.materialization.metadata)
    return {each.check_name: each.passed for each in done.get_asset_check_evaluations()}, metadata


def test_a_night_says_who_shipped_what_and_draws_what_was_kept(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    fleet.chain.promote(release)
    at = datetime.now(UTC) - timedelta(hours=2)
    keep(fleet.chain._session, Collected(time=at, samples=(sample("registry_bytes", 5e9, at, registry="us"),)))
    checks, told = night(fleet.chain)
    assert checks == {"reached": True, "recorded": True}
    [row] = told["who_shipped"].records  # type: ignore[attr-defined]
    assert (row.data["image"], row.data["channel"], row.data["release"]) == ("app", "prod", "app:v1.0.0")
    assert re.fullmatch(r"[^ ]+ \(name claimed\)", row.data["who"]) and row.data["builder"] == "urn:test:builder"
    assert Path(str(told["first_page"].value)).is_file()
    assert str(told["plot_cost"].value).startswith("Not measured: no run of costs is kept")
    drawn = re.fullmatch(r"!\[(.*)\]\(data:image/svg\+xml;base64,(.*)\)", str(told["plot_bytes"].value))
    assert drawn and drawn[1] == "Bytes stored, by registry; last: us 4.7 GiB"
    root = ElementTree.fromstring(base64.b64decode(drawn[2]))
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and root.find("{*}circle") is not None


def test_a_registry_that_cannot_be_read_is_no_pass(tmp_path: Path) -> None:
    (tmp_path / "us" / "app").mkdir(parents=True)
    (tmp_path / "us" / "app" / "index.json").write_text("no JSON")
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(
        "registries: {us: {kind: layout, root: us}}\npolicies: {plain: {}}\n"
        "images: {app: {registry: us, repository: app, policy: plain}}\nsigning: {generate: true}\n"
    )
    checks, told = night(Chain(load(path, {})))
    assert checks == {"reached": True, "recorded": False}
    assert "app" in str(told["reasons"].value) and told["pages"].value == 0


def test_what_is_below_the_wanted_tier_or_on_a_channel_by_hand_fails_its_check(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    place = fleet.chain.place("app")
    place.registry.put_manifest(
        place.repository, place.registry.get_manifest(place.repository, release.digest), tag="prod"
    )
    chain = fleet.reload(("signing:", "report: {least_tier: 1}\nsigning:"))
    assert night(chain)[0] == {"reached": False, "recorded": False}


def test_a_picture_of_a_year_is_small_enough_to_be_kept_for_ever() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    line = [Point(begin + timedelta(hours=hour), float(hour % 97)) for hour in range(9000)]
    lines = {f"{'x' * 60}{number}": line for number in range(20)}
    drawn = plot(Plot(name="x", title="[x](javascript:1)", unit="count", lines=lines, read_from="y")).value or ""
    assert len(drawn) < 60_000 and "](javascript" not in drawn
