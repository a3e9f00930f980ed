"""``report html``: pages that a browser opens from a disk, with what was measured, and what was not called so."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from registry_pipelines.chain.metrics import keep
from registry_pipelines.chain.series import plots
from registry_pipelines.report.audit.model import Event
from registry_pipelines.report.audit.store import AuditStore
from registry_pipelines.report.html.plots import Plot, Point, draw
from registry_pipelines.report.metrics.model import Collected, sample
from registry_pipelines.shared.documents import FolderDocuments
from tests.chain.fleet import Fleet, start
from tests.cli.on_fleet import answer
from tests.patience import patient

HOSTILE = '<img src="http://127.0.0.1:9/x" onerror="document.title=1">'
DAYS = 6


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet with a release on its channel, a denied one, and six days of numbers and pulls."""
    with ExitStack() as stack:
        fleet = start(tmp_path_factory.mktemp("fleet"), stack)
        good, bad = fleet.release("v1.0.0"), fleet.release("v2.0.0", package="badwheel")
        assert fleet.judged(good) and not fleet.judged(bad)
        fleet.chain.approve(good, "qa", note=HOSTILE)
        fleet.chain.promote(good)
        now = datetime.now(UTC)
        for day in range(DAYS, 0, -1):
            at = now - timedelta(days=day)
            samples = (
                sample("registry_bytes", 1e9 * day, at, registry="us"),
                sample("replication_lag_seconds", 60.0 * day, at, image="app", channel="prod", target="eu"),
            )
            keep(fleet.chain._session, Collected(time=at, samples=samples))
        events = [
            Event(
                time=now - timedelta(days=day), who="node", action="pull", registry="us", repository="team/app",
                source="log", id=f"{day}-{number}", refused="DENIED" if number == 2 else "",
            )
            for day in (1, 2)
            for number in range(3)
        ]  # fmt: skip
        AuditStore(FolderDocuments(fleet.config.state / "report" / "audit")).add(events)
        yield fleet


def named(found: list[Plot], name: str) -> Plot:
    [plot] = [each for each in found if each.name == name]
    return plot


def test_what_was_kept_is_drawn_and_what_was_not_measured_is_called_so(shipped: Fleet) -> None:
    found, notes = plots(shipped.chain._session)
    assert notes == []
    assert [each.value for each in named(found, "bytes").lines["us"]] == [1e9 * day for day in range(DAYS, 0, -1)]
    assert list(named(found, "lag").lines) == ["app prod eu"]
    assert [each.value for each in named(found, "pulls").lines["us/team/app"]] == [2, 2]  # one of three was refused
    for name in ("cost", "cost-bytes", "advisories", "findings"):
        assert not named(found, name).measured and named(found, name).why, name


def test_costs_of_two_currencies_and_files_that_cannot_be_read_are_said(fleet: Fleet) -> None:
    folder = fleet.config.state / "report" / "cost"
    folder.mkdir(parents=True)
    now = datetime.now(UTC)

    def run(day: int, usd: float | None, currency: str) -> None:
        at = now - timedelta(days=day)
        columns: dict[str, Any] = {
            "time": pa.array([at, at], pa.timestamp("us", tz="UTC")), "level": ["total", "registry"],
            "name": ["", "us"], "needed_bytes": [10, 10], "usd": pa.array([usd, usd], pa.float64()),
            "currency": [currency] * 2,
        }  # fmt: skip
        pq.write_table(pa.table(columns), folder / f"{at:%Y-%m-%d}.parquet")

    run(3, 1.5, "USD")
    run(2, None, "USD")
    found, notes = plots(fleet.chain._session)
    assert [each.value for each in named(found, "cost").lines["all registries"]] == [1.5]
    assert len(named(found, "cost-bytes").lines["us"]) == 2 and notes == []
    run(1, 2.0, "EUR")
    run(-2, 2.0, "USD")
    (folder / f"{now - timedelta(days=5):%Y-%m-%d}.parquet").write_bytes(b"PAR1")
    found, notes = plots(fleet.chain._session)
    assert not named(found, "cost").measured
    assert [word in " ".join(notes) for word in ("several currencies", "to come", "cannot be read")] == [True] * 3


def test_of_days_that_are_past_a_week_the_last_value_of_each_series_is_drawn(fleet: Fleet) -> None:
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    for day in (20, 2):
        for hour in (1, 2, 3):
            at = noon - timedelta(days=day, hours=hour)
            samples = [sample("registry_bytes", 10.0 * hour, at, registry=name) for name in ("us", "eu")]
            keep(fleet.chain._session, Collected(time=at, samples=tuple(samples)))
    lines = named(plots(fleet.chain._session, names=["bytes"])[0], "bytes").lines
    assert [each.value for each in sorted(lines["us"])] == [10, 30, 20, 10]
    assert len(lines["eu"]) == 4


def test_pages_of_what_is_live_no_more_go_and_other_files_stay(shipped: Fleet, tmp_path: Path) -> None:
    pages = tmp_path / "custody"
    pages.mkdir()
    for name in ("app-0123456789ab.html", "mine.html"):
        (pages / name).write_text("old")
    told = answer(shipped, "report", "html", "--to", str(tmp_path))
    assert [Path(each).name.split("-")[0] for each in told["files"]] == ["index.html", "app"]
    assert sorted(each.name for each in pages.iterdir()) == sorted([Path(told["files"][1]).name, "mine.html"])
    page = Path(told["files"][1]).read_text()
    assert HOSTILE not in page and "&lt;img src=" in page


@dataclass
class Seen:
    """What a browser did."""

    requests: list[str]
    said: list[str]


@pytest.mark.peer("chromium")
@pytest.mark.timeout(300)
def test_a_browser_opens_them_from_a_disk_and_loads_nothing(
    shipped: Fleet, tmp_path: Path, peer: Callable[[str], str]
) -> None:
    from playwright.sync_api import sync_playwright

    [first, *_] = answer(shipped, "report", "html", "--to", str(tmp_path))["files"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=peer("chromium"), chromium_sandbox=False, args=["--disable-gpu"]
        )
        page = browser.new_page(color_scheme="light")
        page.set_default_timeout(patient(30_000))
        seen = Seen([], [])
        page.on("request", lambda request: seen.requests.append(request.url))
        page.on("console", lambda message: seen.said.append(message.text))
        page.goto(f"file://{first}")
        plots_shown = page.get_by_role("img")
        assert plots_shown.count() == 4
        words = [
            plots_shown.nth(number).evaluate("each => each.querySelector('desc').textContent") for number in (0, 1)
        ]
        assert words[0] == "Bytes stored, by registry; last: us 953.7 MiB"
        assert words[1] == "How far targets are behind; last: app prod eu 1 min"
        box = plots_shown.first.bounding_box()
        assert box is not None and box["width"] > 300 and box["height"] > 100
        page.get_by_text("Not measured: no run of costs is kept").first.wait_for()
        colours = "() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        light = page.evaluate(colours)
        page.emulate_media(color_scheme="dark")
        assert page.evaluate(colours) != light
        page.get_by_role("link", name="app:v1.0.0").click()
        page.get_by_role("heading", name=re.compile("^Custody of app:v1.0.0")).wait_for()
        page.get_by_text(HOSTILE).wait_for()  # as text
        assert page.title().startswith("Custody of")
        page.get_by_text("Every package").click()
        page.get_by_role("cell", name="goodwheel").wait_for()
        assert seen.said == []  # nothing is against its own policy
        page.evaluate(
            "() => { const s = document.createElement('script'); s.text = 'document.title = 1'; "
            "document.body.append(s); document.body.append(Object.assign(new Image(), {src: '/x.png'})) }"
        )
        assert page.title().startswith("Custody of") and len(seen.said) == 2
        browser.close()
    assert all("Content Security Policy" in each for each in seen.said)
    loaded = [each for each in seen.requests if not each.endswith("x.png")]
    assert len(loaded) == 2 and all(each.startswith(f"file://{tmp_path}/") for each in loaded)


def test_a_line_is_cut_where_nothing_was_measured() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    days = [0, 1, 2, 3, 20, 21, 40]
    lines = {"a": [Point(begin + timedelta(days=day), float(day)) for day in days]}
    drawn = draw(Plot(name="x", title="x", unit="count", lines=lines, read_from="y"))
    assert drawn.count("<polyline") == 2 and drawn.count("<circle") == 1
