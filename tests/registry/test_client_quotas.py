"""Quotas that registries announce in headers, as Docker Hub does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import QuotaSpent, RateLimited
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.client.quotas import MAX_WINDOW_S, read_quota
from registry_pipelines.registry.protocol import Quota
from tests.doubles.exchanges import Answer, ExchangeServer, Expect

MANIFEST = r"/v2/library/python/manifests/3\.12"
SPENT = {
    "ratelimit-limit": "100;w=21600",
    "ratelimit-remaining": "0;w=21600",
    "docker-ratelimit-source": "203.0.113.7",
}
PULL_LIMIT = {"errors": [{"code": "TOOMANYREQUESTS", "message": "You have reached your unauthenticated pull limit"}]}


def quota_of(**headers: str) -> Quota | None:
    return read_quota(lambda name: headers.get(name.replace("-", "_").lower(), ""))


@given(
    st.integers(0, 999_999_999),
    st.integers(0, 999_999_999),
    st.integers(1, MAX_WINDOW_S),
    st.from_regex(r"[0-9A-Za-z.:_-]{0,64}", fullmatch=True),
    st.sampled_from(["{};w={}", " {} ; w = {} ", "{};w={} "]),
)
def test_what_is_written_is_read(limit: int, remaining: int, window_s: int, source: str, form: str) -> None:
    quota = quota_of(
        ratelimit_limit=form.format(limit, window_s),
        ratelimit_remaining=form.format(remaining, window_s),
        docker_ratelimit_source=source,
    )
    assert quota == Quota(limit, remaining, float(window_s), source)


@given(st.text(), st.text(), st.text(), st.text())
def test_no_text_raises_or_is_believed_beyond_its_bounds(limit: str, remaining: str, source: str, wait: str) -> None:
    for text in (remaining, "0;w=60"):
        quota = read_quota(
            {
                "ratelimit-limit": limit,
                "ratelimit-remaining": text,
                "docker-ratelimit-source": source,
                "Retry-After": wait,
            }.__getitem__
        )
        if quota is not None:
            assert 0 <= quota.remaining < 10**9 and 0 <= quota.limit < 10**9
            assert 0 < quota.window_s <= MAX_WINDOW_S
            assert quota.source in ("", source.strip()) and len(quota.source) <= 64 and quota.source.isascii()


@pytest.mark.parametrize(
    "text",
    ["", "100", "-1;w=60", "1;w=0", "1;w=-1", "1;w=99999999", "1000000000;w=60", "1;w=60;x", "1;q=60", "\u0661;w=60"],
)
def test_what_cannot_be_kept_is_no_quota(text: str) -> None:
    assert quota_of(ratelimit_remaining=text) is None


def test_the_limit_lends_its_window() -> None:
    assert quota_of(ratelimit_limit="100;w=60", ratelimit_remaining="7") == Quota(100, 7, 60.0)


def test_a_spent_quota_is_told_at_once_with_its_end() -> None:
    """One request: six hours are not tried away, and the terse 429 without headers stays what it is."""
    with ExchangeServer(Expect("GET", MANIFEST, Answer(429, SPENT, PULL_LIMIT))) as hub:
        registry = DistributionRegistry(hub.address)
        with pytest.raises(QuotaSpent, match=r"used up \(100 in 6 h 0 min for 203\.0\.113\.7\)") as spent:
            registry.get_manifest("library/python", "3.12")
        registry.close()
    assert spent.value.retry_after_s == 21600
    assert "UTC on" in spent.value.do
    assert isinstance(spent.value.__cause__, RateLimited)
    assert "unauthenticated pull limit" in str(spent.value.__cause__)


def test_the_registrys_own_time_wins() -> None:
    with ExchangeServer(Expect("GET", MANIFEST, Answer(429, {**SPENT, "Retry-After": "900"}, PULL_LIMIT))) as hub:
        registry = DistributionRegistry(hub.address)
        with pytest.raises(QuotaSpent) as spent:
            registry.get_manifest("library/python", "3.12")
        registry.close()
    assert spent.value.retry_after_s == 900


def test_other_429_are_no_spent_quota() -> None:
    left = {**SPENT, "ratelimit-remaining": "4;w=21600", "Retry-After": "900"}
    with ExchangeServer(Expect("GET", MANIFEST, Answer(429, left, PULL_LIMIT))) as hub:
        registry = DistributionRegistry(hub.address)
        with pytest.raises(RateLimited) as limited:
            registry.get_manifest("library/python", "3.12")
        registry.close()
    assert not isinstance(limited.value, QuotaSpent)


def test_every_answer_is_told_of() -> None:
    answer = {**SPENT, "ratelimit-remaining": "76;w=21600", "Content-Type": "text/plain"}
    seen: list[Quota] = []
    with ExchangeServer(Expect("HEAD", MANIFEST, Answer(404, answer)), Expect("GET", MANIFEST, Answer(404))) as hub:
        registry = DistributionRegistry(hub.address)
        registry.observe_quota(seen.append)
        with pytest.raises(Exception, match="404"):
            registry.resolve("library/python", "3.12")
        registry.close()
    assert seen == [Quota(100, 76, 21600.0, "203.0.113.7")]
