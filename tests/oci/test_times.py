"""Times as images and documents write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.oci.times import read_created, read_time


@pytest.mark.parametrize(
    ("text", "moment", "believed"),
    [
        ("2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC), True),
        ("2026-01-01T00:00:00.123456789+02:00", datetime(2025, 12, 31, 22, 0, 0, 123456, tzinfo=UTC), True),
        ("2026-01-01T00:00:00", None, False),
        ("1970-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC), False),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC), False),
        ("9999-12-31T23:59:59-05:00", None, False),
        ("0001-01-01T00:00:00+05:00", None, False),
        ("", None, False),
        ("yesterday", None, False),
    ],
)
def test_times(text: str, moment: datetime | None, believed: bool) -> None:
    assert read_time(text) == moment
    assert read_created(text) == (moment if believed else None)


@given(st.one_of(st.text(), st.datetimes(timezones=st.timezones()).map(datetime.isoformat)))
def test_any_text_is_a_time_in_utc_or_none(text: str) -> None:
    moment = read_time(text)
    assert moment is None or moment.tzinfo is UTC
