"""The first page: how it all stands, drawn and in words, with a link to the custody of each live release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from registry_pipelines.report.html.document import document
from registry_pipelines.report.html.elements import Html, bullets, element, join, table
from registry_pipelines.report.html.plots import Plot, figure
from registry_pipelines.report.maturity import TIERS, Maturity, Subject


class LivePage(msgspec.Struct, frozen=True, kw_only=True):
    """A release that a channel names, and its page. link: relative to the first page."""

    image: str
    channel: str
    release: str
    sentence: str
    link: str


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """All that the first page says. statuses: rows as `status` has them. alerts: what a person should look at now."""

    title: str
    made_at: str
    statuses: Sequence[Mapping[str, object]]
    live: Sequence[LivePage]
    plots: Sequence[Plot]
    maturity: Maturity
    alerts: Sequence[str] = ()
    notes: Sequence[str] = ()


SECTIONS = {
    "stands": "How it stands",
    "live": "Who shipped this: custody of live releases",
    "time": "Over time",
    "practice": "How good the practice is",
    "left-out": "Left out, or not read",
}


def overview_page(found: Overview) -> str:
    """The whole page as HTML."""
    links = [element("li", element("a", title, href=f"#{name}")) for name, title in SECTIONS.items()]
    alerts = element("div", element("h2", f"Alerts ({len(found.alerts)})"), bullets(found.alerts), class_="alert")
    return document(
        found.title,
        element("h1", found.title),
        element("nav", element("ul", *links), aria_label="Sections"),
        alerts if found.alerts else element("p", "Nothing that could be read is an alert.", class_="faint"),
        _section("stands", table(found.statuses) or element("p", "The configuration has no image.", class_="faint")),
        _section("live", _live(found.live)),
        _section("time", join(figure(each) for each in found.plots)),
        _section("practice", _practice(found.maturity)),
        _section("left-out", bullets(found.notes) or element("p", "Nothing.", class_="faint")),
        made_at=found.made_at,
    )


def _section(name: str, *parts: object) -> Html:
    return element("section", element("h2", SECTIONS[name]), *parts, id=name)


def _live(live: Sequence[LivePage]) -> Html:
    rows = [
        {
            "image": each.image,
            "channel": each.channel,
            "release": element("a", each.release, href=each.link),
            "how it stands": each.sentence,
        }
        for each in live
    ]
    return table(rows) or element("p", "No channel names anything.", class_="faint")


def _practice(found: Maturity) -> Html:
    told = element("p", "; ".join(f"{tier}: {practice}" for tier, practice in TIERS.items()), class_="faint")
    rows = [{name: value for name, value in row.items() if name != "practice"} for row in found.rows()]
    return join([told, table(rows), *(_criteria(each) for each in found.subjects)])


def _criteria(subject: Subject) -> Html:
    summary = f"{subject.kind} {subject.name}: tier {subject.tier}"
    return element("details", element("summary", summary), table(subject.rows()))
