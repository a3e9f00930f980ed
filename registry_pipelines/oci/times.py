"""Times in image configs, annotations and documents: RFC 3339 (image-spec, config.md and annotations.md)."""

from __future__ import annotations

from datetime import UTC, datetime

OLDEST_BELIEVED = datetime(1990, 1, 1, tzinfo=UTC)
"""Reproducible builds write a constant for the time of the build: the year 1, 1970 or 1980. That is no age."""


def read_time(text: str) -> datetime | None:
    """A time with its zone, in UTC; None when it is unreadable, without zone, or outside of the calendar in UTC."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def read_created(text: str) -> datetime | None:
    """When an image was made, by its ``created``; None also for a reproducible build's constant."""
    moment = read_time(text)
    return moment if moment is not None and moment >= OLDEST_BELIEVED else None
