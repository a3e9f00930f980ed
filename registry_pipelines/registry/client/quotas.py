"""What registries say of their quotas: ``ratelimit-limit``, ``ratelimit-remaining``, ``docker-ratelimit-source``.

Docker Hub's headers (docs.docker.com, "Docker Hub pull usage and limits"): ``ratelimit-limit: 100;w=21600`` is 100 in
six hours. They come with manifests, with HEAD too, and with the 429. Headers of these names without a window (other
services have them) say nothing that could be kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from registry_pipelines.errors import QuotaSpent
from registry_pipelines.progress import duration_text
from registry_pipelines.registry.client.retries import read_retry_after
from registry_pipelines.registry.protocol import Quota

MAX_WINDOW_S = 31 * 86400
"""A longer window is no quota of requests; it is not read. Docker Hub has had one hour and six."""

_COUNT = re.compile(r"\s*([0-9]{1,9})\s*(?:;\s*w\s*=\s*([0-9]{1,9})\s*)?\Z")
_SOURCE = re.compile(r"[0-9A-Za-z.:_-]{1,64}\Z")


def read_quota(header: Callable[[str], str]) -> Quota | None:
    """The quota an answer tells of; None when it tells of none that can be kept. header: a value by its name.

    Nothing in the headers makes this raise.
    """
    remaining = _COUNT.match(header("ratelimit-remaining"))
    if not remaining:
        return None
    limit = _COUNT.match(header("ratelimit-limit"))
    window_s = int(remaining[2] or (limit and limit[2]) or 0)
    if not 0 < window_s <= MAX_WINDOW_S:
        return None
    source = header("docker-ratelimit-source").strip()
    return Quota(
        limit=int(limit[1]) if limit else 0,
        remaining=int(remaining[1]),
        window_s=float(window_s),
        source=source if _SOURCE.match(source) else "",
        resets_after_s=read_retry_after(header("Retry-After")),
    )


def quota_spent(quota: Quota | None, wait_s: float, *, where: str) -> QuotaSpent:
    """The error for a quota with nothing left. wait_s: seconds until there are new ones, at the latest."""
    until = (datetime.now(UTC) + timedelta(seconds=wait_s)).strftime("%H:%M UTC on %d %B")
    what = "the registry's quota for reading manifests is used up"
    if quota and quota.limit:
        whom = f" for {quota.source}" if quota.source else ""
        what += f" ({quota.limit} in {duration_text(quota.window_s)}{whom})"
    return QuotaSpent(
        what,
        where=where,
        do=f"Run it again after {until}, when there are new ones at the latest; what was copied stays. "
        "Or log in there, or copy from a mirror",
        retry_after_s=wait_s,
    )
