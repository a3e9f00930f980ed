"""Which moments of a backup stay: so many of the last ones, and the last one of so many days, weeks, months and years.

The way of restic and borg: a rule of days takes the last moment of each day that has one, so a night that was missed
costs no place. Rules count whole moments alone: a registry that could not be read for a week must not cost the last
moments that have it. Plain values; nothing is asked or deleted here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime

from registry_pipelines.recover.model import Keep
from registry_pipelines.recover.moment import moment_tags, read_tag

_PERIODS: tuple[tuple[str, Callable[[datetime], tuple[int, ...]]], ...] = (
    ("daily", lambda time: (time.year, time.month, time.day)),
    ("weekly", lambda time: tuple(time.isocalendar()[:2])),
    ("monthly", lambda time: (time.year, time.month)),
    ("yearly", lambda time: (time.year,)),
)


def kept_moments(tags: Iterable[str], keep: Keep, now: datetime, whole: Collection[str]) -> dict[str, str]:
    """The tags of the moments that stay, each with why, the newest first. whole: the tags of whole moments.

    The newest always stays, and the newest whole one with all that came after it; so does one of the future, whose age
    nobody knows. Days are UTC's.
    """
    newest_first = moment_tags(tags)
    counted = [tag for tag in newest_first if tag in whole]
    found: dict[str, str] = {}
    for tag in newest_first:
        age_s = (now - read_tag(tag)).total_seconds()
        if tag == newest_first[0]:
            found[tag] = "the newest"
        elif not counted or tag > counted[0]:
            found[tag] = "no newer one is whole"
        elif tag == counted[0]:
            found[tag] = "the newest whole one"
        elif age_s < 0:
            found[tag] = "its time has not come"
        elif keep.within is not None and age_s <= keep.within.total_seconds():
            found[tag] = f"younger than {keep.within}"
    for tag in counted[: keep.last]:
        found.setdefault(tag, f"one of the last {keep.last}")
    for name, period in _PERIODS:
        count: int = getattr(keep, name)
        last_of: dict[tuple[int, ...], str] = {}
        for tag in counted:
            last_of.setdefault(period(read_tag(tag)), tag)
        for tag in list(last_of.values())[:count]:
            found.setdefault(tag, f"one of {count} {name}")
    return {tag: found[tag] for tag in newest_first if tag in found}


__all__ = ["kept_moments"]
