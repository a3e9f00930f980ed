"""Rules of the gate about ages: of an image, of the advisories. Only `gate` uses them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from registry_pipelines.oci.times import CLOCK_SKEW, OLDEST_BELIEVED, read_time
from registry_pipelines.progress import count_text
from registry_pipelines.promote.documents import DEFAULT_MAX_ADVISORY_AGE, TIME_FORMAT, AcceptedUnknown, Step
from registry_pipelines.promote.evidence import Evidence
from registry_pipelines.promote.findings import Outcome, expired
from registry_pipelines.registry.platforms import Entry
from registry_pipelines.settings import Duration


def image_age(entry: Entry, now: datetime, limit: Duration) -> str:
    """What speaks against an image's date; empty: nothing."""
    text = entry.config.created if entry.config else ""
    made = read_time(text)
    if made is None:
        return (
            f"has no time in `created` of its config, but {text[:40]!r}" if text else "has no `created` in its config"
        )
    if made < OLDEST_BELIEVED:
        return (
            f"is dated {text[:40]}, which a reproducible build writes in place of a time, so its age is not known; "
            "build it with the time of its commit (SOURCE_DATE_EPOCH)"
        )
    if made > now + CLOCK_SKEW:
        return f"was made on {_time_text(made)}, in the future"
    return f"was made on {_time_text(made)}, more than {limit} ago; build it again" if now - made > limit else ""


def advisory_age(evidence: Evidence, age: timedelta) -> Outcome:
    """Whether the newest advisory that the report knew is younger than ``age``, and so the database of each other
    scanner; said where it is older than the default permits. A scanner whose database has no known date is an unknown
    of the report."""
    newest = _newest(evidence)
    if isinstance(newest, str):
        return Outcome([newest], [Step(kind="scan" if evidence.report is None else "advisories")])
    outcome = _against_age("advisories: the newest is", newest, evidence.now, age, Step(kind="advisories"))
    for scanner in evidence.report.report.scanners if evidence.report else ():
        built = read_time(scanner.newest, zone=UTC)
        if built is not None:
            what = f"advisories of {scanner.name}: its database is"
            outcome.add(_against_age(what, built, evidence.now, age, Step(kind="scan")))
    return outcome


def _against_age(what: str, moment: datetime, now: datetime, age: timedelta, step: Step) -> Outcome:
    if moment > now + CLOCK_SKEW:
        return Outcome([f"{what} of {_time_text(moment)}, in the future"], [step])
    if now - moment > age:
        return Outcome([f"{what} of {_time_text(moment)}, more than {count_text(age.days, 'day')} old"], [step])
    if now - moment > DEFAULT_MAX_ADVISORY_AGE:
        kind = what.replace("advisories", "advisories-age", 1)
        return Outcome(accepted=[f"{kind} of {_time_text(moment)}; up to {count_text(age.days, 'day')} pass"])
    return Outcome()


def accepted_age(evidence: Evidence, acceptance: AcceptedUnknown) -> Outcome:
    """The same by an acceptance of ``advisories-age``."""
    if acceptance.expires is not None and evidence.now.astimezone(UTC).date() > acceptance.expires:
        note = expired("the acceptance of advisories-age", acceptance.expires)
        return Outcome([f"advisories: {note}"], [Step(kind="advisories")], notes=[note])
    age = acceptance.until_age or timedelta()
    outcome = advisory_age(evidence, age)
    if not outcome.passes:
        return outcome
    newest = evidence.report.report.advisories.newest if evidence.report else ""
    return Outcome(
        accepted=[
            f"advisories-age: the newest is of {newest}; up to {count_text(age.days, 'day')} pass: {acceptance.reason}"
        ]
    )


def _newest(evidence: Evidence) -> datetime | str:
    """When the newest advisory was changed, or why that is not known."""
    if evidence.report is None:
        return "advisories: their age is unknown, there is no report"
    text = evidence.report.report.advisories.newest
    return read_time(text, zone=UTC) or f"advisories: the date of the newest is {text[:40]!r}, not a time"


def _time_text(moment: datetime) -> str:
    return moment.strftime(TIME_FORMAT)
