"""What Artifact Registry's cleanup policies do to versions (Google's "Cleanup policy overview" and "Configure cleanup
policies"): what any policy that deletes names is deleted, unless any policy that keeps names it. Order decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from registry_pipelines.inventory.value import Inventory
from registry_pipelines.lifecycle.columns import NEVER, Ages, Bools, Images, Ints, Standing
from registry_pipelines.lifecycle.evaluation import Cause, Draft, Evaluation, Outcome, Question, spare, spare_unread
from registry_pipelines.lifecycle.gar_policy import GarPolicies, GarPolicy


def evaluate_gar(
    policies: GarPolicies, inventory: Inventory, *, now: datetime, immutable_tags: bool = False
) -> Evaluation:
    """Each Artifact Registry repository of the inventory under these policies; repositories of the inventory are its
    packages (``PROJECT/REPOSITORY/PACKAGE``). immutable_tags: the repository's setting; a version with a tag then
    cannot go. What the documents do not decide keeps the version and is noted."""
    images = Images(inventory)
    versions = _Versions(images, int(now.timestamp() * 1_000_000))
    draft = Draft(images, tuple(policy.name for policy in policies.policies))
    deleting = [_Found.none(images.count), _Found.none(images.count)]
    for number, policy in enumerate(policies.policies):
        found = versions.found(policy)
        deleting[policy.keeps].add(found, number)
    gone, kept = deleting
    deleted = gone.surely & ~kept.perhaps
    open_ = gone.perhaps & ~kept.surely & ~deleted
    draft.outcome[deleted] = Outcome.EXPIRE
    draft.rule = np.where(gone.perhaps, np.where(kept.perhaps, kept.rule, gone.rule), -1)
    draft.cause[gone.perhaps] = Cause.OPEN
    draft.keep(gone.perhaps & kept.surely, Cause.KEPT)
    draft.cause[deleted] = Cause.ACTS
    draft.questions[open_] = (gone.questions | kept.questions)[open_]
    draft.measured = versions.age_days
    if immutable_tags:
        draft.keep(deleted & images.tagged, Cause.IMMUTABLE)
    spare(draft, images.links, child_question=Question.CHILD_DELETED)
    spare_unread(draft)
    spare(draft, images.links, child_question=Question.CHILD_DELETED)
    return draft.done()


@dataclass
class _Found:
    """Versions that policies name: by every reading, and by some; the first policy that does; what is open."""

    surely: Bools
    perhaps: Bools
    rule: Ints
    questions: np.ndarray[tuple[int], np.dtype[np.int16]]

    @classmethod
    def none(cls, size: int) -> _Found:
        no = np.zeros(size, dtype=bool)
        return cls(no, no.copy(), np.full(size, -1, dtype=np.int64), np.zeros(size, dtype=np.int16))

    def add(self, other: _Found, number: int) -> None:
        self.rule[other.surely & ~self.surely] = number
        self.rule[other.perhaps & (self.rule < 0)] = number
        self.surely |= other.surely
        self.perhaps |= other.perhaps
        self.questions |= other.questions


class _Versions:
    """The rows as Artifact Registry sees them: packages within repositories."""

    def __init__(self, images: Images, now_us: int) -> None:
        self._images = images
        uploaded = images.time("pushed")
        self._known = uploaded != NEVER
        self._uploaded = uploaded
        self._age_us = np.where(self._known, now_us - np.where(self._known, uploaded, 0), 0)
        self.age_days = np.where(self._known, self._age_us / 86_400_000_000, np.nan)
        codes, names = images.words("repository")
        parts = [split(name) for name in names]
        scopes = {name: at for at, name in enumerate(dict.fromkeys(scope for scope, _ in parts))}
        registries, _ = images.words("registry")
        own = np.array([scopes[scope] for scope, _ in parts], dtype=np.int64)
        self._repository = registries * (len(scopes) + 1) + (own[codes] if len(own) else codes)
        self._packages = [package for _, package in parts]
        self._codes = codes
        self._by_package: Ages | None = None
        self._by_repository: Ages | None = None

    def _in_packages(self, prefixes: tuple[str, ...]) -> Bools:
        if not prefixes:
            return np.ones(self._images.count, dtype=bool)
        wanted = [at for at, name in enumerate(self._packages) if name.startswith(prefixes)]
        return np.isin(self._codes, wanted)

    def found(self, policy: GarPolicy) -> _Found:
        """Which versions a policy names."""
        if policy.keep_count is not None:
            return self._most_recent(policy, policy.keep_count)
        images, named = self._images, self._in_packages(policy.package_name_prefixes)
        if policy.tag_state != "ANY":
            named = named & (images.tagged if policy.tag_state == "TAGGED" else ~images.tagged)
        if policy.tag_prefixes:
            tagged = np.zeros(images.count, dtype=bool)
            for prefix in policy.tag_prefixes:
                tagged |= images.having(f"{prefix}*")
            named = named & tagged
        if policy.version_name_prefixes:
            named = named & images.starting("digest", policy.version_name_prefixes)
        surely, perhaps = named.copy(), named.copy()
        questions = np.zeros(images.count, dtype=np.int16)
        for span, older in ((policy.older_than, True), (policy.newer_than, False)):
            if span is not None:
                self._by_age(int(span.total_seconds() * 1_000_000), older, surely, perhaps, questions)
        questions[~perhaps | surely] = 0
        rule = np.full(images.count, -1, dtype=np.int64)
        return _Found(surely, perhaps, rule, questions)

    def _by_age(
        self,
        span: int,
        older: bool,
        surely: Bools,
        perhaps: Bools,
        questions: np.ndarray[tuple[int], np.dtype[np.int16]],
    ) -> None:
        """Narrow by an age. One that is exactly the span, and an unknown one, may be meant or not."""
        within = self._age_us > span if older else self._age_us < span
        exactly = self._known & (self._age_us == span)
        surely &= self._known & within
        perhaps &= ~self._known | within | exactly
        questions[exactly] |= Question.BOUNDARY
        questions[~self._known] |= Question.UNKNOWN_TIME

    def _most_recent(self, policy: GarPolicy, count: int) -> _Found:
        """The newest versions of each package. By another reading they are the newest of the repository's packages
        together, or manifests of an index and referrers count, too: then fewer are kept."""
        images = self._images
        named = self._in_packages(policy.package_name_prefixes)
        if self._by_package is None or self._by_repository is None:
            self._by_package = Ages(images.group, self._uploaded)
            self._by_repository = Ages(self._repository, self._uploaded)
        counted = named & self._known
        attached = np.zeros(images.count, dtype=bool)
        attached[images.links.child] = attached[images.links.referrer] = True
        everything = np.ones(images.count, dtype=bool)
        packages, spread_over = self._by_package.standing(everything), self._by_repository.standing(everything)
        least = _unsorted(packages, packages.younger(counted & ~attached, ties=False))
        placed = _unsorted(packages, packages.younger(counted, ties=False))
        most = _unsorted(packages, packages.younger(counted, ties=True))
        spread = _unsorted(spread_over, spread_over.younger(counted, ties=True))
        _, repositories = np.unique(self._repository, return_inverse=True)
        timeless = np.bincount(repositories, weights=named & ~self._known, minlength=1)[repositories]
        perhaps = named & (~self._known | (least < count))
        surely = named & self._known & (spread + timeless < count)
        questions = np.zeros(images.count, dtype=np.int16)
        open_ = perhaps & ~surely
        questions[open_ & (placed > least)] |= Question.PLACES
        questions[open_ & (most > placed)] |= Question.TIES
        questions[open_ & (spread > most)] |= Question.PACKAGES
        questions[open_ & (~self._known | (timeless > 0))] |= Question.UNKNOWN_TIME
        return _Found(surely, perhaps, np.full(images.count, -1, dtype=np.int64), questions)


def _unsorted(standing: Standing, values: Ints) -> Ints:
    """Values of a standing that has every row, in the order of the rows."""
    found = np.empty_like(values)
    found[standing.rows] = values
    return found


def split(repository: str) -> tuple[str, str]:
    """``project/repository/package/with/slashes`` as Artifact Registry's repository and its package."""
    parts = repository.split("/", 2)
    return ("/".join(parts[:2]), parts[2]) if len(parts) == 3 else ("", repository)
