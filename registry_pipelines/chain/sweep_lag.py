"""Lag: how far targets are behind what channels name at their sources, one bucket of images at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from registry_pipelines.chain.session import Session
from registry_pipelines.chain.sweeps import Part
from registry_pipelines.chain.ways import Lag, lags
from registry_pipelines.report.sweeps import write_rows


def lag_of(session: Session, images: Sequence[str], now: datetime) -> Part:
    """One bucket. Who does not answer is a row, ``unknown``."""
    found = sorted(lags(session, images) if images else [], key=lambda each: (each.edge.image, each.edge.name))
    rows = [_row(session, each, now) for each in found]
    late = [each for each, row in zip(found, rows, strict=True) if row["late"]]
    return Part(
        files={"parquet": write_rows("lag", rows)},
        rows=len(rows),
        counts={**Counter(each.state for each in found), "late": len(late)},
        wrong=[each.row() for each in late],
    )


def _row(session: Session, lag: Lag, now: datetime) -> dict[str, Any]:
    most = session.config.targets[lag.edge.target].max_lag.total_seconds()
    return {
        "image": lag.edge.image,
        "channel": lag.channel,
        "edge": lag.edge.name,
        "way": lag.edge.way.kind,
        "state": lag.state,
        "lag_s": lag.lag_s,
        "late": lag.state == "unknown" or (lag.lag_s or 0.0) > most,
        "digest": lag.digest,
        "why": lag.why or lag.edge.way.why,
        "looked": now,
    }
