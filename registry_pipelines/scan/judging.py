"""Whether a version is affected by a record (OSV schema, "Evaluation"; PEP 440 for local version labels)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from packaging.version import Version as PypiVersion

from registry_pipelines.scan.osv import Affected, Event, Record
from registry_pipelines.scan.versions import normal_name, parse_version

_FIXED, _INTRODUCED, _LAST_AFFECTED, _LIMIT = range(4)
"""Kinds of events, in the order in which they count at equal versions."""

Step = tuple[int, Any]
"""Kind and version of an event; the version None is the beginning: below everything."""


@dataclass
class Judgement:
    """Whether a version is affected by a record's entries for its package."""

    affected: bool = False
    matched: str = ""
    """The version that matched, and what it is of the installed one, where it is not that itself."""
    fixed: list[str] = field(default_factory=list)
    """Versions above it that fix it."""
    problems: list[str] = field(default_factory=list)
    """Why parts could not be compared. They matter only when ``affected`` is False: a hit stays a hit."""

    def hit(self, matched: str) -> None:
        """Affected; what the installed version itself says wins over what a part of it says."""
        self.matched = matched if not self.affected or not matched else self.matched
        self.affected = True


@dataclass(frozen=True)
class _Candidate:
    """A version to look for: the installed one, or what it stands for where the record names no local label."""

    value: Any
    matched: str = ""
    """Empty for the installed version itself."""


def entries_for(record: Record, ecosystems: Iterable[str], name: str) -> list[Affected]:
    """The record's entries about one package, in any of these ecosystems."""
    return [
        entry
        for entry in record.affected or ()
        if entry.package is not None
        and entry.package.ecosystem in ecosystems
        and normal_name(entry.package.ecosystem, entry.package.name) == name
    ]


def judge(entries: Sequence[Affected], ecosystem: str, version: str) -> Judgement:
    """OSV schema, "Evaluation": listed in ``versions`` **or** inside any range.

    The two disagree in real records (gevent 23.9.0, PYSEC-2023-177), and then the safe answer is "affected".
    """
    judgement = Judgement()
    value = parse_version(ecosystem, version)
    candidates = [] if value is None else _candidates(value)
    for entry in entries:
        listed = entry.versions or []
        if version in listed:
            judgement.hit("")
        ranges = [version_range for version_range in entry.ranges or () if version_range.type != "GIT"]
        if value is None:
            judgement.problems.append(f"version {version!r} is not a {ecosystem} version")
            continue
        if not listed and not ranges:
            judgement.problems.append("the record names neither versions nor version ranges")
        if listed and version not in listed:
            for candidate in candidates:
                if any(parse_version(ecosystem, text) == candidate.value for text in listed):
                    judgement.hit(candidate.matched)
                    break
        for version_range in ranges:
            _judge_range(version_range.events or [], ecosystem, candidates, judgement)
    judgement.fixed = _fixes(entries, ecosystem, value)
    return judgement


def _candidates(value: Any) -> list[_Candidate]:
    """The version itself, and for a PyPI version with a local label what it was made from.

    PEP 440, "Version matching": the label of a candidate is ignored unless the specifier has one. ``2.6.0+cu124`` is
    2.6.0 built for CUDA 12.4, and ``<= 2.6.0`` means it; by version order alone it would lie above. A labelled
    pre-release (NVIDIA's ``2.6.0a0+ecf3bae40a.nv25.01``) is a builder's snapshot from before the release: what 2.6.0
    brought may be in it, so it counts as 2.6.0 too.
    """
    candidates = [_Candidate(value)]
    if isinstance(value, PypiVersion) and value.local:
        public = PypiVersion(value.public)
        candidates.append(_Candidate(public, f"{public} (public part of {value})"))
        if value.is_prerelease:
            base = PypiVersion(value.base_version)
            candidates.append(_Candidate(base, f"{base} ({value} was built before it)"))
    return candidates


def _judge_range(events: list[Event], ecosystem: str, candidates: list[_Candidate], judgement: Judgement) -> None:
    steps: list[Step] = []
    limits: list[Any] = []
    for event in events:
        texts = (event.fixed, event.introduced, event.last_affected, event.limit)
        stated = [(kind, text) for kind, text in enumerate(texts) if text is not None]
        if len(stated) != 1:
            judgement.problems.append("an event states not exactly one of introduced, fixed, last_affected, limit")
            return
        kind, text = stated[0]
        if (kind, text) in ((_INTRODUCED, "0"), (_LIMIT, "*")):
            (steps if kind == _INTRODUCED else limits).append((kind, None))
            continue
        bound = parse_version(ecosystem, text)
        if bound is None:
            judgement.problems.append(f"the event version {text[:80]!r} is not a {ecosystem} version")
            return
        (limits if kind == _LIMIT else steps).append((kind, bound))
    if not any(kind == _INTRODUCED for kind, _ in steps):
        judgement.problems.append("a range does not say where it begins (`introduced`)")
        return
    for candidate in _fitting(candidates, [bound for _, bound in steps]):
        value = candidate.value
        below = not limits or any(bound is None or value < bound for _, bound in limits)
        if below and _inside(steps, value):
            judgement.hit(candidate.matched)
            return


def _fitting(candidates: list[_Candidate], bounds: list[Any]) -> list[_Candidate]:
    """The candidates that a range is asked about.

    Where a bound names a label of this very release, labels count. They are an order only within one builder's series
    (``+patch.1``, ``+patch.2``); ``+cu124`` says nothing about a fix in ``+patch.1``, so there the public part is asked
    too, which lies below every label.
    """
    value = candidates[0].value
    if len(candidates) == 1:
        return candidates
    public = candidates[1].value
    labelled = [bound.local for bound in bounds if bound and bound.local and PypiVersion(bound.public) == public]
    if not labelled:
        return candidates
    series = {label.partition(".")[0] for label in labelled}
    return candidates[: 1 if series == {value.local.partition(".")[0]} else 2]


def _inside(steps: list[Step], value: Any) -> bool:
    """Walk the events upwards. At equal versions: fixed, introduced, last_affected."""
    inside = False
    beginning = [step for step in steps if step[1] is None]
    bounded = sorted((step for step in steps if step[1] is not None), key=lambda step: step[0])
    for kind, bound in [*beginning, *sorted(bounded, key=lambda step: step[1])]:
        if kind == _INTRODUCED and (bound is None or value >= bound):
            inside = True
        elif (kind == _FIXED and value >= bound) or (kind == _LAST_AFFECTED and value > bound):
            inside = False
    return inside


def _fixes(entries: Sequence[Affected], ecosystem: str, value: Any | None) -> list[str]:
    fixes: dict[str, Any] = {}
    for entry in entries:
        for version_range in entry.ranges or ():
            for event in (version_range.events or ()) if version_range.type != "GIT" else ():
                bound = parse_version(ecosystem, event.fixed) if event.fixed is not None else None
                if event.fixed is not None and bound is not None and value is not None and bound > value:
                    fixes[event.fixed] = bound
    return sorted(fixes, key=lambda text: fixes[text])
