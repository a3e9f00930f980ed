"""CVSS base scores of versions 2, 3 and 4 (FIRST: "A Complete Guide to the Common Vulnerability Scoring System Version
2.0", section 3.2.1; "CVSS v3.1: Specification Document", section 7.1 and Appendix A, where v3.0 differs only in a part
that base scores do not use; version 4 in ``cvss4``)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from registry_pipelines.scan import cvss4
from registry_pipelines.scan.report import Severity

_PREFIX = re.compile(r"CVSS:(2\.0|3\.[01]|4\.0)/")
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
_WEIGHTS_2 = {
    "AV": {"L": 0.395, "A": 0.646, "N": 1.0},
    "AC": {"H": 0.35, "M": 0.61, "L": 0.71},
    "Au": {"M": 0.45, "S": 0.56, "N": 0.704},
    "C": {"N": 0.0, "P": 0.275, "C": 0.66},
    "I": {"N": 0.0, "P": 0.275, "C": 0.66},
    "A": {"N": 0.0, "P": 0.275, "C": 0.66},
}


@dataclass(frozen=True)
class Score:
    """What a vector comes to."""

    version: str
    """``2.0``, ``3.0``, ``3.1``, ``4.0``."""
    number: float
    """The base score, 0.0 to 10.0."""
    severity: Severity


def score_of(vector: str) -> Score | None:
    """The base score of a vector: ``CVSS:4.0/...``, ``CVSS:3.x/...``, or version 2's without a prefix.

    None when it is no such vector: another version, a base metric missing, unknown or given twice. Threat, temporal and
    environmental metrics are ignored: they speak of a day and of a place, and mostly lower the number.
    """
    prefix = _PREFIX.match(vector)
    metrics = _metrics(vector[prefix.end() :] if prefix else vector.strip("()"))
    if metrics is None or "CVSS" in metrics:
        return None
    version = prefix[1] if prefix else "2.0"
    if version == "4.0":
        number = cvss4.base_score(metrics)
    else:
        number = _score_2(metrics) if version == "2.0" else _score_3(metrics)
    if number is None:
        return None
    return Score(version, number, _severity_2(number) if version == "2.0" else severity_of(number))


def _metrics(text: str) -> dict[str, str] | None:
    metrics: dict[str, str] = {}
    for part in text.split("/"):
        name, colon, value = part.partition(":")
        if not colon or name in metrics:
            return None
        metrics[name] = value
    return metrics


def _weights(metrics: dict[str, str], known: dict[str, dict[str, float]]) -> dict[str, float] | None:
    if any(metrics.get(name) not in values for name, values in known.items()):
        return None
    return {name: values[metrics[name]] for name, values in known.items()}


def _score_3(metrics: dict[str, str]) -> float | None:
    weight = _weights(metrics, _WEIGHTS)
    if weight is None:
        return None
    changed = metrics["S"] == "C"
    base = 1 - (1 - weight["C"]) * (1 - weight["I"]) * (1 - weight["A"])
    impact = 7.52 * (base - 0.029) - 3.25 * (base - 0.02) ** 15 if changed else 6.42 * base
    if impact <= 0:
        return 0.0
    privileges = _PRIVILEGES_SCOPE_CHANGED[metrics["PR"]] if changed else weight["PR"]
    exploitability = 8.22 * weight["AV"] * weight["AC"] * privileges * weight["UI"]
    return _round_up(min((1.08 if changed else 1.0) * (impact + exploitability), 10.0))


def _score_2(metrics: dict[str, str]) -> float | None:
    weight = _weights(metrics, _WEIGHTS_2)
    if weight is None:
        return None
    impact = 10.41 * (1 - (1 - weight["C"]) * (1 - weight["I"]) * (1 - weight["A"]))
    if impact <= 0:
        return 0.0
    exploitability = 20 * weight["AV"] * weight["AC"] * weight["Au"]
    return round(((0.6 * impact) + (0.4 * exploitability) - 1.5) * 1.176 + 1e-9, 1)


def _round_up(value: float) -> float:
    """The smallest number with one decimal that is not below ``value`` (Appendix A: integers avoid float noise)."""
    scaled = round(value * 100_000)
    return scaled / 100_000.0 if scaled % 10_000 == 0 else (scaled // 10_000 + 1) / 10.0


def severity_of(score: float) -> Severity:
    """The qualitative rating of versions 3 and 4. ``None`` (0.0) counts as LOW: an advisory was written about it."""
    if score >= 9.0:
        return "CRITICAL"
    if score >= 7.0:
        return "HIGH"
    return "MEDIUM" if score >= 4.0 else "LOW"


def _severity_2(score: float) -> Severity:
    """Version 2 ends at HIGH (NVD's rating; its specification has none)."""
    severity = severity_of(score)
    return "HIGH" if severity == "CRITICAL" else severity
