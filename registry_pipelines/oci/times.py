"""Times in image configs, annotations and documents: RFC 3339 (image-spec, config.md and annotations.md)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

OLDEST_BELIEVED = datetime(1990, 1, 1, tzinfo=UTC)
"""Reproducible builds write a constant for the time of the build: the year 1, 1970 or 1980. That is no age."""

CLOCKS_DIFFER = timedelta(minutes=5)
"""What two machines write of one moment may be apart by this: less ahead of now is no time of the future."""

CLOCK_SKEW = timedelta(days=1)
"""Advisories and images may be this far in the future: feeds, builders and this machine keep different clocks."""


def read_time(text: str, *, zone: tzinfo | None = None) -> datetime | None:
    """A time in UTC; None when it is unreadable, or outside of the calendar in UTC. zone: that of a time without one;
    unless told, such a time is unreadable."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            if zone is None:
                return None
            moment = moment.replace(tzinfo=zone)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def read_created(text: str) -> datetime | None:
    """When an image was made, by its ``created``; None also for a reproducible build's constant."""
    moment = read_time(text)
    return moment if moment is not None and moment >= OLDEST_BELIEVED else None


def time_behind(now: datetime, last: datetime | None, most_ahead: timedelta) -> datetime:
    """When something happens now that is to stand behind what happened ``last``, in whole seconds: two may be of one
    second, or of machines whose clocks differ. What is ahead by more than ``most_ahead`` a wrong clock wrote; it is not
    followed."""
    now = now.replace(microsecond=0)
    return last + timedelta(seconds=1) if last is not None and now <= last <= now + most_ahead else now


def write_time(moment: datetime) -> str:
    """A time with a zone as RFC 3339 in UTC, whole seconds, as :func:`read_time` reads it."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
