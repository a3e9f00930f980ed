"""``report html``: a folder of pages that opens without a server, made of what is kept and what registries say now."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from registry_pipelines.chain.custody import custody
from registry_pipelines.chain.maturity import maturity
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.series import plots
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.status import Status, statuses
from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.oci.times import write_time
from registry_pipelines.progress import count_text
from registry_pipelines.release import Release
from registry_pipelines.report.custody import Chapter, Custody, Statement
from registry_pipelines.report.html.custody import custody_page
from registry_pipelines.report.html.overview import LivePage, Overview, overview_page
from registry_pipelines.report.html.plots import Plot

INDEX = "index.html"
CUSTODY = "custody"
"""Folder of the pages of releases, in that of the first page."""
_OURS = re.compile(r"[a-z0-9_-]+-[0-9a-f]{12}\.html\Z")
"""Names of pages of custody; those of releases that are live no more go."""

MOST_PAGES = 500
"""Live releases that get a page; how many more there are is said."""


ALERTS_OF = timedelta(days=30)
"""How far back alerts of the audit are shown."""
MOST_ALERTS = 200
"""Of the audit on the first page, the oldest; how many more there are is said."""


class Written(NamedTuple):
    """What was written. notes: what could not be read or was left out. rows: who shipped what, a live release each.
    plots: what was drawn. alerts: what the first page begins with."""

    files: list[Path]
    notes: list[str]
    rows: list[dict[str, Scalar]]
    plots: list[Plot]
    alerts: list[str]
    unread: list[str]
    """Of ``notes`` what leaves open how a channel stands."""

    def result(self, *, seconds: float) -> StageResult:
        """The same as a result; not ``ok`` where there is an alert, or a channel could not be read."""
        return StageResult(
            stage="custody",
            subject="all",
            action=f"pages of {count_text(len(self.files) - 1, 'live release')} written",
            changed=True,
            seconds=seconds,
            facts={"pages": len(self.files) - 1, "alerts": len(self.alerts), "first_page": str(self.files[0])},
            reasons=[*self.alerts, *self.unread],
            notes=[each for each in self.notes if each not in self.unread],
            ok=not self.alerts and not self.unread,
        )


def write_pages(session: Session, folder: Path) -> Written:
    """Read everything and write the pages; the first page last, so that it never names one that is not there. Raises
    InputError, LocalError, DiskFull. What registries do not answer stands on the page."""
    found = statuses(session)
    notes: list[str] = []
    live = list(_live(session, found, notes))
    unread = [*notes, *(problem for each in found for problem in each.problems)]
    drawn, unplotted = plots(session, [page for _, page in live])
    overview = Overview(
        title="Registries at a glance",
        made_at=write_time(session.now()),
        statuses=[_row(each) for each in found],
        live=[shown for shown, _ in live],
        plots=drawn,
        maturity=(practice := maturity(session)),
        alerts=[*_alerts(found, live), *_audited(session, notes)],
        notes=[*dict.fromkeys([*unread, *notes, *unplotted, *practice.notes])],
    )
    files = [folder / shown.link for shown, _ in live]
    with local_errors(folder):
        (folder / CUSTODY).mkdir(parents=True, exist_ok=True)
        for path, (_, page) in zip(files, live, strict=True):
            write_file(path, custody_page(page).encode())
        write_file(folder / INDEX, overview_page(overview).encode())
        for old in (folder / CUSTODY).iterdir():
            if _OURS.match(old.name) and old not in files:
                old.unlink()
    rows = [_shipped(*each) for each in live]
    written = [folder / INDEX, *dict.fromkeys(files)]
    return Written(written, list(overview.notes), rows, drawn, list(overview.alerts), unread)


def _shipped(shown: LivePage, page: Custody) -> dict[str, Scalar]:
    """Who shipped a release: what was verified of its source, its builder, and its coming to the channel."""

    def last(chapter: Chapter, begins: str) -> Statement | None:
        own = [each for each in page.chapter(chapter) if each.state == "verified" and each.says.startswith(begins)]
        return own[-1] if own else None

    begins = f"put on {shown.channel} of {shown.image} by "
    put = last("channels", begins)
    source, builder = last("source", "built from"), last("builder", "built by")
    return {
        "image": shown.image,
        "channel": shown.channel,
        "release": shown.release,
        "who": put.says.removeprefix(begins) if put else "no record says",
        "when": put.time if put else "",
        "source": source.says.removeprefix("built from ") if source else "no believed key says",
        "builder": builder.says.removeprefix("built by ") if builder else "no believed key says",
        "digest": page.digest,
    }


def _live(session: Session, found: Sequence[Status], notes: list[str]) -> Iterator[tuple[LivePage, Custody]]:
    named = [each for each in found if each.digest]
    if len(named) > MOST_PAGES:
        notes.append(f"{count_text(len(named) - MOST_PAGES, 'live release')} more have no page")
    known: dict[tuple[str, str], Custody] = {}
    for each in named[:MOST_PAGES]:
        digest = Digest.parse(each.digest)
        key = each.image, each.digest
        try:
            page = known.get(key) or custody(session, Release(each.image, each.tag, digest))
        except RegistryPipelinesError as error:
            notes.append(f"{each.image} on {each.channel} has no page: {error.what}")
            continue
        known[key] = page
        link = f"{CUSTODY}/{each.image}-{digest.hex[:12]}.html"
        shown = f"{each.image}:{each.tag}" if each.tag else digest.short
        yield (
            LivePage(image=each.image, channel=each.channel, release=shown, sentence=page.sentence, link=link),
            page,
        )


def _row(status: Status) -> dict[str, object]:
    newer = ", ".join(each.tag for each in status.newer)
    return {
        "image": status.image,
        "channel": status.channel,
        "release": status.tag or status.digest[:19] or "none",
        "verdict": status.ruling,
        "why": "; ".join(status.reasons[:3]),
        "places": ", ".join(f"{name}: {presence}" for name, presence in status.places.items()),
        "newer": newer,
    }


def _audited(session: Session, notes: list[str]) -> list[str]:
    """Open alerts of the audit, over the events that are kept. notes: what leaves open whether there are others."""
    from registry_pipelines.chain.audit_reading import DAYS, folder_of

    kept = bool(folder_of(session).entries(DAYS))
    if not kept and not session.config.report.audit.sources:
        return []
    if not kept or find_spec("pyarrow") is None:
        why = "it needs the extra `inventory`" if kept else "no log was read yet: run `registry-pipelines report audit`"
        notes.append(f"alerts of the audit: {why}")
        return []
    from registry_pipelines.chain.audit_alerts import judged

    try:
        found = judged(session, session.now() - ALERTS_OF)
    except RegistryPipelinesError as error:
        notes.append(f"alerts of the audit: {error.what}")
        return []
    open_ = [each for each in found.alerts if not each.acknowledged]
    notes += found.problems
    if (more := len(open_) - MOST_ALERTS + found.more) > 0:
        notes.append(f"{count_text(more, 'alert')} of the audit more: `registry-pipelines report audit` has them")
    return [f"{write_time(each.time)} {each.said}. {each.do}" for each in open_[:MOST_ALERTS]]


def _alerts(found: Sequence[Status], live: Sequence[tuple[LivePage, Custody]]) -> list[str]:
    """Everything that is said first somewhere, each once."""
    told = [alert for each in found for alert in each.alerts]
    told += [f"{shown.image}: {alert}" for shown, page in live for alert in page.alerts if alert not in told]
    told += [f"{each.image} on {each.channel}: {each.vulnerable[0]}" for each in found if each.vulnerable]
    return list(dict.fromkeys(told))
