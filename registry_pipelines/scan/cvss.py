"""CVSS version 3 base scores (FIRST, "Common Vulnerability Scoring System v3.1: Specification Document", section 7.1
and Appendix A; v3.0 differs in the exponent of the modified scope only, which base scores do not use)."""

from __future__ import annotations

import re

from registry_pipelines.scan.interface import Severity

_PREFIX = re.compile(r"CVSS:3\.[01]/")
_WEIGHTS = {
    "AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2},
    "AC": {"L": 0.77, "H": 0.44},
    "PR": {"N": 0.85, "L": 0.62, "H": 0.27},
    "UI": {"N": 0.85, "R": 0.62},
    "S": {"U": 0.0, "C": 1.0},
    "C": {"H": 0.56, "L": 0.22, "N": 0.0},
    "I": {"H": 0.56, "L": 0.22, "N": 0.0},
    "A": {"H": 0.56, "L": 0.22, "N": 0.0},
}
_PRIVILEGES_SCOPE_CHANGED = {"N": 0.85, "L": 0.68, "H": 0.5}


def base_score(vector: str) -> float | None:
    """The base score, 0.0 to 10.0, of a ``CVSS:3.x/...`` vector; None when it is not one (other version, a base
    metric missing, unknown or given twice). Temporal and environmental metrics are ignored."""
    prefix = _PREFIX.match(vector)
    if not prefix:
        return None
    metrics: dict[str, str] = {}
    for part in vector[prefix.end() :].split("/"):
        name, colon, value = part.partition(":")
        if not colon or name in metrics:
            return None
        metrics[name] = value
    if any(metrics.get(name) not in values for name, values in _WEIGHTS.items()):
        return None
    return _score({name: values[metrics[name]] for name, values in _WEIGHTS.items()}, metrics)


def _score(weight: dict[str, float], metrics: dict[str, str]) -> float:
    changed = metrics["S"] == "C"
    base = 1 - (1 - weight["C"]) * (1 - weight["I"]) * (1 - weight["A"])
    impact = 7.52 * (base - 0.029) - 3.25 * (base - 0.02) ** 15 if changed else 6.42 * base
    if impact <= 0:
        return 0.0
    privileges = _PRIVILEGES_SCOPE_CHANGED[metrics["PR"]] if changed else weight["PR"]
    exploitability = 8.22 * weight["AV"] * weight["AC"] * privileges * weight["UI"]
    return _round_up(min((1.08 if changed else 1.0) * (impact + exploitability), 10.0))


def _round_up(value: float) -> float:
    """The smallest number with one decimal that is not below ``value`` (Appendix A: integers avoid float noise)."""
    scaled = round(value * 100_000)
    return scaled / 100_000.0 if scaled % 10_000 == 0 else (scaled // 10_000 + 1) / 10.0


def severity_of(score: float) -> Severity:
    """The qualitative rating (section 5). ``None`` (0.0) counts as LOW: an advisory was written about it."""
    if score >= 9.0:
        return "CRITICAL"
    if score >= 7.0:
        return "HIGH"
    return "MEDIUM" if score >= 4.0 else "LOW"
