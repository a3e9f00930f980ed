"""The Dagster UI in a real browser: the graph by stage, a release run started by hand, a held release and its reasons.

With RP_SCREENSHOTS set to a folder, pictures for the documentation are written there.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from registry_pipelines.oci import media_types
from registry_pipelines.oci.manifests import Manifest, manifest_bytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place
from tests.patience import patient
from tests.stream.lazy import starts
from tests.stream.lazy.mounts import need_fuse

if TYPE_CHECKING:
    from conftest import Live

GOOD = {"calm": "1.0"}
EVIL = {"calm": "1.0", "leaky": "1.0"}
SETTINGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = patient(60_000)
OVER = {"SUCCESS", "FAILURE", "CANCELED"}
STAGES = ["build", "stream", "scan", "sign", "promote", "start", "report", "replicate", "mirror", "collect"]

pytestmark = [pytest.mark.peer("chromium"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def page(live: Live, chromium: str) -> Iterator[Page]:
    """A page of the running UI."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, chromium_sandbox=False, args=SETTINGS)
        page = browser.new_page(viewport={"width": 1600, "height": 900}, base_url=live.url)
        page.set_default_timeout(PATIENCE_MS)
        yield page
        browser.close()


def picture(page: Page, name: str) -> None:
    """Keep a picture when they are asked for."""
    if folder := os.environ.get("RP_SCREENSHOTS"):
        page.mouse.move(0, 0)
        page.wait_for_timeout(1500)
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_the_graph_shows_the_chain_by_stage(page: Page) -> None:
    page.goto("/asset-groups")
    for stage in STAGES:
        expect(page.get_by_text(stage, exact=True).first).to_be_visible(timeout=PATIENCE_MS)
    page.keyboard.press("Alt+E")
    for asset in ("signature", "verdict", "promotion", "eu-west-1", "gcp", "inside"):
        expect(page.get_by_text(asset, exact=True).last).to_be_attached(timeout=PATIENCE_MS)


def test_materialize_all_on_lineage_says_that_it_is_several_things(page: Page) -> None:
    """Releases and upstreams have partitions of different kinds; images, which are built here, are not among them."""
    page.goto("/asset-groups")
    page.get_by_role("button", name="Materialize all").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("different partition definitions")).to_be_visible(timeout=PATIENCE_MS)
    expect(dialog.get_by_text("image", exact=True)).to_have_count(0)
    dialog.get_by_role("button", name="Cancel").click()


def test_a_release_run_is_started_by_hand_and_succeeds(live: Live, page: Page) -> None:
    key = live.push("tool", "v1.0.0", GOOD, note="by hand")
    live.until("the sensor has added the release", lambda: "SUCCESS" in live.runs(key))
    before = len(live.runs(key))
    page.goto("/locations/registry_pipelines/jobs/release")
    page.get_by_role("button", name="Materialize all").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Select a partition").click()
    page.get_by_text(re.compile("^tool:v1")).locator("visible=true").last.click()
    page.keyboard.press("Escape")
    dialog.get_by_role("button", name="Launch 1 run").click()
    live.until("the run that was started by hand is there", lambda: len(live.runs(key)) > before)
    live.until("it has succeeded", lambda: live.runs(key)[0] == "SUCCESS")
    page.goto("/runs")
    expect(page.get_by_text("Success").first).to_be_visible(timeout=PATIENCE_MS)


def test_a_release_shows_a_picture_of_what_is_inside(live: Live, page: Page) -> None:
    keys = [live.push("tool", f"v3.{number}.0", GOOD, note="n" * 5000 * (number + 1)) for number in range(2)]
    for key in keys:
        live.until("its run has ended", partial(has_ended, live, key, 0))
    page.goto(f"/assets/image_advice?view=partitions&partition={quote(keys[1])}")
    page.set_viewport_size({"width": 1600, "height": 2400})
    for told in ("what_releases_moved", "wasted_bytes", "dependencies_bytes"):
        expect(page.get_by_text(re.compile(told)).first).to_be_visible(timeout=PATIENCE_MS)
    page.get_by_text("[Show Markdown]").first.click()
    drawn = page.get_by_alt_text("what is inside tool:v3.1.0").first
    expect(drawn).to_be_visible(timeout=PATIENCE_MS)
    # One that is still being decoded is visible, too, by the text in its place.
    expect(drawn).to_have_js_property("naturalWidth", 1200, timeout=PATIENCE_MS)
    picture(page, "image-advice")
    page.keyboard.press("Escape")
    picture(page, "image-advice-numbers")
    page.set_viewport_size({"width": 1600, "height": 900})


def test_a_held_release_shows_its_reasons(live: Live, page: Page) -> None:
    key = live.push("tool", "v2.0.0", EVIL, note="held")
    live.until("the held release's run has ended", lambda: live.runs(key)[:1] == ["FAILURE"])
    page.goto(f"/assets/verdict?view=partitions&partition={quote(key)}")
    expect(page.get_by_text("deny", exact=True).first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_text(re.compile("leaky")).first).to_be_visible(timeout=PATIENCE_MS)
    page.goto("/assets/verdict?view=checks&checkDetail=allowed")
    expect(page.get_by_text("Failed").first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_text(key).first).to_be_visible(timeout=PATIENCE_MS)
    page.goto(f"/assets/release_page?view=partitions&partition={quote(key)}")
    for told in ("denied", "leaky", "not there", "findings_by_severity", "Push a new release"):
        expect(page.get_by_text(re.compile(told)).first).to_be_visible(timeout=PATIENCE_MS)
    page.set_viewport_size({"width": 1600, "height": 1250})
    picture(page, "release")
    page.set_viewport_size({"width": 1600, "height": 900})
    page.goto("/assets/promotion?view=events")
    expect(page.get_by_text(key).first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_text("denied", exact=True).first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_text(re.compile("leaky")).first).to_be_visible(timeout=PATIENCE_MS)
    page.goto(f"/assets/promotion?view=partitions&partition={quote(key)}")
    expect(page.get_by_text("failed, and did not materialize this asset").first).to_be_visible(timeout=PATIENCE_MS)
    page.goto("/runs")
    expect(page.get_by_text("registry-pipelines/outcome: denied").first).to_be_visible(timeout=PATIENCE_MS)
    picture(page, "runs")
    page.goto("/asset-groups")
    page.keyboard.press("Alt+E")
    expect(page.get_by_text("release_page", exact=True).last).to_be_attached(timeout=PATIENCE_MS)
    picture(page, "graph")
    assert live.channel("tool") != live.release(key).digest


def launch(page: Page, asset: str, key: str) -> None:
    """Materialize one partition of an asset by hand, from its page."""
    page.goto(f"/assets/{asset}?view=partitions&partition={quote(key)}")
    page.get_by_text("Materialize…").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Launch 1 run").click()


def has_ended(live: Live, key: str, before: int) -> bool:
    """Whether a release has one run more, and that is over."""
    runs = live.runs(key)
    return len(runs) > before and runs[0] in OVER


@pytest.mark.long
def test_a_hot_pack_is_made_by_hand_and_its_start_timed(live: Live, page: Page) -> None:
    need_fuse()
    place = Place(live.chain.registry("source"), "team/started")
    keys = []
    for tag in ("v1.0.0", "v1.1.0"):
        made = starts.image(place, tag=tag, more_mib=2)
        keys.append(live.key("started", tag, made.digest))
        live.until("the sensor has had the release run", lambda: "SUCCESS" in live.runs(keys[-1]))
    for asset in ("hot_pack", "start_time"):
        before = live.runs(keys[-1])
        launch(page, asset, keys[-1])
        live.until("the run that was started by hand has ended", partial(has_ended, live, keys[-1], len(before)))
        assert live.runs(keys[-1])[0] == "SUCCESS"
        page.goto(f"/assets/{asset}?view=partitions&partition={quote(keys[-1])}")
        for told in TOLD_OF_STARTS[asset]:
            expect(page.get_by_text(re.compile(told)).first).to_be_visible(timeout=PATIENCE_MS)
        page.set_viewport_size({"width": 1600, "height": 1250})
        picture(page, asset)
        page.set_viewport_size({"width": 1600, "height": 900})


TOLD_OF_STARTS = {
    "hot_pack": ("what_the_pack_holds", "frames that were there", "percent_covered", "taken over|unchanged"),
    "start_time": ("started_s", "result_s", "pack_bytes", "machine"),
}


def push_base(place: Place, tag: str, *layers: bytes) -> None:
    """An image of layers that are large enough to be seen in a chart."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "tag": tag, "rootfs": {"type": "layers"}})
    made = Manifest(
        schema_version=2,
        media_type=media_types.OCI_MANIFEST,
        config=push_blob(place, config.encode(), media_type=media_types.OCI_CONFIG),
        layers=tuple(push_blob(place, each, media_type=media_types.OCI_LAYER_GZIP) for each in layers),
    )
    place.registry.put_manifest(place.repository, manifest_bytes(made), tag=tag)


def test_a_sync_is_started_by_hand_and_shows_what_came_where_and_how(live: Live, page: Page) -> None:
    noise = random.Random(7)
    shared = noise.randbytes(8_000_000)
    for name in ("python", "cuda"):
        for number in range(3):
            layers, tag = (shared, noise.randbytes(2_000_000 * (number + 1))), f"1.{number}.0"
            push_base(Place(live.chain.registry("source"), f"bases/{name}"), tag, *layers)
            if number == 0:
                push_base(Place(live.chain.registry("gcp"), f"replicas/bases/{name}"), tag, *layers)
    page.goto("/assets/sync/bases")
    page.get_by_role("button", name="Materialize").first.click()
    ended = live.until("the sync has ended", lambda: [run for run in live.runs_of("sync") if run["status"] in OVER])
    assert [run["status"] for run in ended] == ["SUCCESS"]
    page.goto("/assets/sync/bases?view=overview")
    for told in ("where_bytes_are", "there already", "eu-west-1", "bases/python:1.2.0", "blobs_mounted"):
        expect(page.get_by_text(re.compile(told)).first).to_be_visible(timeout=PATIENCE_MS)
    page.set_viewport_size({"width": 1600, "height": 1250})
    picture(page, "sync")
    page.set_viewport_size({"width": 1600, "height": 900})
    page.goto(f"/runs/{ended[0]['runId']}")
    page.get_by_placeholder("Filter…").fill("copies")
    expect(page.get_by_text(re.compile("12 of 12 copies done; .* sent in")).first).to_be_visible(timeout=PATIENCE_MS)
    picture(page, "sync-run")
