"""Forecasts the next day's demand with a least-squares trend and a weekly pattern."""

from __future__ import annotations

import json

import numpy as np
from packaging.version import Version

DAYS = np.arange(28)
DEMAND = 200 + 3 * DAYS + 25 * np.sin(2 * np.pi * DAYS / 7)


def forecast(day: int) -> float:
    """Units asked for on a day, from four weeks of history."""
    columns = np.column_stack([np.ones(len(DAYS)), DAYS, np.sin(2 * np.pi * DAYS / 7), np.cos(2 * np.pi * DAYS / 7)])
    weights, *_ = np.linalg.lstsq(columns, DEMAND, rcond=None)
    angle = 2 * np.pi * day / 7
    return float(np.array([1, day, np.sin(angle), np.cos(angle)]) @ weights)


if __name__ == "__main__":
    modern = Version(np.__version__) >= Version("2")
    print(json.dumps({"model": "forecaster", "day": 28, "demand": round(forecast(28), 2), "numpy2": modern}))
