"""How bad a record is: the rating of whoever publishes the package, CVSS vectors, and words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from registry_pipelines.scan.cvss import Score as CvssScore
from registry_pipelines.scan.cvss import score_of
from registry_pipelines.scan.osv import Affected, Record, Remarks, Score
from registry_pipelines.scan.report import MALICIOUS_ID, SEVERITIES, Severity

_WORDS: dict[str, Severity] = {
    "critical": "CRITICAL",
    "high": "HIGH",
    "important": "HIGH",
    "moderate": "MEDIUM",
    "medium": "MEDIUM",
    "low": "LOW",
    "minor": "LOW",
    "negligible": "LOW",
    "unimportant": "LOW",
}
"""GitHub, npm, Debian, Ubuntu, Red Hat and its rebuilds, SUSE, openEuler. Anything else (Debian's ``not yet assigned``
and ``end-of-life``, Ubuntu's ``untriaged``) is no rating."""


@dataclass(frozen=True)
class Rating:
    """What a record says about how bad it is."""

    severity: Severity = "UNKNOWN"
    score: float | None = None
    """The highest base score of its vectors, 0.0 to 10.0; None without one that can be computed."""
    by: str = ""
    """What the severity comes from: ``CVSS 4.0``, ``Debian's urgency``, ``severity``; empty for UNKNOWN."""


def is_malicious(record: Record) -> bool:
    """Whether a record says that the package itself is an attack, under its own name or as another record of it."""
    return any(name.startswith(MALICIOUS_ID) for name in (record.id, *(record.aliases or ())))


def rate(record: Record, entries: Sequence[Affected]) -> Rating:
    """Severity and score. A malicious package is MALICIOUS, whatever else its record says. Of all others: what stands
    at the package's entry overrides what stands at the record (OSV schema, "affected[].severity"); at each of the two
    in this order:

    1. the distribution's own rating of its own package: Debian's urgency, Ubuntu's priority. It knows how it builds and
       who may reach it, and a base image has hundreds of findings that only it has looked at;
    2. the worst of the CVSS vectors of versions 3 and 4; one of version 2 only where there are no others;
    3. the publisher's word (``severity`` in its own fields).
    """
    own = [
        *(remarks for entry in entries if (remarks := entry.ecosystem_specific)),
        *(remarks for entry in entries if (remarks := entry.database_specific)),
    ]
    distributions = {entry.package.ecosystem.partition(":")[0] for entry in entries if entry.package}
    levels: list[tuple[list[Score], list[Remarks]]] = [
        ([score for entry in entries for score in entry.severity or ()], own),
        (record.severity or [], [record.database_specific] if record.database_specific else []),
    ]
    vectors = [_vectors(scores, remarks) for scores, remarks in levels]
    numbers = [score.number for score in vectors[0] or vectors[1]]
    highest = max(numbers, default=None)
    if is_malicious(record):
        return Rating("MALICIOUS", highest, "name")
    for (scores, stated), scored in zip(levels, vectors, strict=True):
        severity, by = _rated(scores, stated, scored, distributions)
        if severity != "UNKNOWN":
            return Rating(severity, highest, by)
    return Rating(score=highest)


def worst(ratings: Iterable[Rating]) -> Rating:
    """The worst known rating, with the highest score of all; UNKNOWN only where nothing is known."""
    given = list(ratings)
    if len(given) == 1:
        return given[0]
    scores = [rating.score for rating in given if rating.score is not None]
    known = [rating for rating in given if rating.severity != "UNKNOWN"]
    first = min(known, key=lambda rating: SEVERITIES.index(rating.severity), default=Rating())
    return Rating(first.severity, max(scores, default=None), first.by)


def _rated(
    scores: list[Score], remarks: list[Remarks], vectors: list[CvssScore], distributions: set[str]
) -> tuple[Severity, str]:
    own = [("Debian's urgency", remark.urgency) for remark in remarks if "Debian" in distributions]
    own += [
        ("Ubuntu's priority", score.score) for score in scores if score.type == "Ubuntu" and "Ubuntu" in distributions
    ]
    known = _known(own)
    if known:
        return _worst(known)
    if vectors:
        return _worst([(vector.severity, f"CVSS {vector.version}") for vector in vectors])
    words = [(f"severity of type {score.type}", score.score) for score in scores]
    known = _known([*words, *(("publisher's severity", remark.severity) for remark in remarks)])
    return _worst(known) if known else ("UNKNOWN", "")


def _known(words: Iterable[tuple[str, Any]]) -> list[tuple[Severity, str]]:
    """Those that are a rating. Debian marks urgencies that it took from NVD with asterisks."""
    texts = [(by, word.strip().rstrip("*").lower()) for by, word in words if isinstance(word, str)]
    return [(_WORDS[text], by) for by, text in texts if text in _WORDS]


def _worst(known: list[tuple[Severity, str]]) -> tuple[Severity, str]:
    return min(known, key=lambda pair: SEVERITIES.index(pair[0]))


def _vectors(scores: list[Score], remarks: list[Remarks]) -> list[CvssScore]:
    """Vectors of versions 3 and 4, else of version 2. The vector says its version; the type is often wrong."""
    texts = [score.score for score in scores] + [remark.cvss for remark in remarks if isinstance(remark.cvss, str)]
    cvss_scores = [score for text in texts if (score := score_of(text)) is not None]
    return [score for score in cvss_scores if score.version != "2.0"] or cvss_scores
