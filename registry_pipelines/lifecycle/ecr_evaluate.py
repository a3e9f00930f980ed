"""What an ECR lifecycle policy does to images (Amazon ECR user guide, "How lifecycle policies work").

All rules are evaluated together and applied by priority. The first rule whose tags and storage class an image matches
is the only one that can act on it, whether it does or not; later rules still count the image. So each image has one
rule, and what is left to find out is whether the image is beyond its number or its days.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np

from registry_pipelines.inventory.value import Inventory
from registry_pipelines.lifecycle.columns import DAY_US, NEVER, Ages, Bools, Images, Ints
from registry_pipelines.lifecycle.ecr_policy import COUNT, PULLED, PUSHED, EcrPolicy, EcrRule
from registry_pipelines.lifecycle.evaluation import (
    Cause,
    Draft,
    Evaluation,
    Outcome,
    Question,
    follow,
    spare,
    spare_unread,
)


def evaluate_ecr(policy: EcrPolicy, inventory: Inventory, *, now: datetime) -> Evaluation:
    """Each repository of the inventory under this policy. now: with time zone; ages count until then.

    What the guide does not decide keeps the image and is noted (``Evaluation.questions``).
    """
    images = Images(inventory)
    draft = Draft(images, tuple(rule.name for rule in policy.rules))
    clocks = _Clocks(images, int(now.timestamp() * 1_000_000))
    for number, rule in enumerate(policy.rules):
        selected = _selected(rule, images)
        mine = selected & (draft.rule < 0)
        draft.rule[mine] = number
        surely, perhaps = clocks.beyond(rule, selected, mine, draft)
        acting = Outcome.TRANSITION if rule.transitions else Outcome.EXPIRE
        draft.outcome[mine & surely] = acting
        draft.cause[mine] = np.where(surely, Cause.ACTS, np.where(perhaps, Cause.OPEN, Cause.WITHIN))[mine]
    restoring = images.is_activating
    draft.keep(restoring, Cause.RESTORING)
    links = images.links
    spare(draft, links)
    spare_unread(draft)
    spare(draft, links)
    follow(draft, links)
    return draft.done()


def _selected(rule: EcrRule, images: Images) -> Bools:
    """Images that the rule is about, also those that an earlier rule has."""
    selected = images.is_archived.copy() if rule.archive else ~images.is_archived & ~images.is_activating
    if rule.tag_status == "untagged":
        selected &= ~images.tagged
    elif rule.tag_status == "tagged":
        selected &= images.tagged
        for pattern in rule.patterns:
            selected &= images.having(pattern)
    return selected


class _Clocks:
    """The times that rules count from, in microseconds; each is made when a rule first asks for it."""

    def __init__(self, images: Images, now_us: int) -> None:
        self._images = images
        self._now_us = now_us
        self._pushed, self._activated = images.time("pushed"), images.time("activated")
        self._restored = np.where(self._activated == NEVER, self._pushed, self._activated)
        self._ages: Ages | None = None
        self._attached: Bools | None = None

    def beyond(self, rule: EcrRule, selected: Bools, mine: Bools, draft: Draft) -> tuple[Bools, Bools]:
        """Which images the rule acts on by every reading, and which by some; notes the questions and what was
        measured on those that are the rule's own."""
        if rule.count_type == COUNT:
            return self._beyond_count(rule, selected, mine, draft)
        early = late = self._images.time("archived")
        if rule.count_type == PUSHED:
            early, late = self._pushed, np.maximum(self._pushed, self._activated)
        elif rule.count_type == PULLED:
            early = late = self._last_used()
        return self._beyond_age(rule, early, late, mine, draft)

    def _beyond_age(self, rule: EcrRule, early: Ints, late: Ints, mine: Bools, draft: Draft) -> tuple[Bools, Bools]:
        """early, late: the earliest and the latest time that the age may count from."""
        known = early != NEVER
        span = rule.number * DAY_US
        age = np.where(known, self._now_us - np.where(known, early, 0), 0)
        least = np.where(known, self._now_us - np.where(known, late, 0), 0)
        perhaps, surely = ~known | (age > span), known & (least >= span + DAY_US)
        open_ = mine & perhaps & ~surely
        draft.ask(open_ & ~known, Question.UNKNOWN_TIME)
        draft.ask(open_ & known & (age > span) & (least <= span), Question.RESTORED)
        draft.ask(open_ & known & (least > span) & (least < span + DAY_US), Question.DAYS)
        draft.ask(open_ & known & (age > span) & (age < span + DAY_US), Question.DAYS)
        draft.measured[mine] = np.where(known, least / DAY_US, np.nan)[mine]
        return surely, perhaps

    def _beyond_count(self, rule: EcrRule, selected: Bools, mine: Bools, draft: Draft) -> tuple[Bools, Bools]:
        """Who has as many younger ones as the rule keeps. Those of unknown age, the manifests of an index and referrers
        may take places or not; those that are as old as an image may be younger or not."""
        images = self._images
        if self._ages is None:
            self._ages = Ages(images.group, self._restored)
            self._known = self._restored != NEVER
        counted = selected & self._known
        firm = counted & ~self._attachments()
        timeless = np.bincount(images.group[selected & ~self._known], minlength=images.groups)
        stand = self._ages.standing(selected)
        rows, known, without = stand.rows, self._known[stand.rows], timeless[images.group[stand.rows]]
        least, tied = stand.younger(firm, ties=False), stand.younger(firm, ties=True)
        placed, both = stand.younger(counted, ties=False), stand.younger(counted, ties=True)
        sure = known & (least >= rule.number)
        may = ~known | (both + without >= rule.number)
        open_ = mine[rows] & may & ~sure
        draft.ask(rows[open_ & (~known | (without > 0))], Question.UNKNOWN_TIME)
        draft.ask(rows[open_ & known & ((tied > least) | (both > placed))], Question.TIES)
        draft.ask(rows[open_ & known & ((placed > least) | (both > tied))], Question.PLACES)
        own = mine[rows]
        draft.measured[rows[own]] = np.where(known, least, np.nan)[own]
        surely, perhaps = np.zeros(images.count, dtype=bool), np.zeros(images.count, dtype=bool)
        surely[rows], perhaps[rows] = sure, may
        return surely, perhaps

    def _last_used(self) -> Ints:
        """The last pull, else the push; or when it was restored and not pulled since."""
        pulled = self._images.time("pulled")
        used = np.where(pulled == NEVER, self._pushed, pulled)
        unpulled = (self._activated != NEVER) & (self._activated > pulled)
        return np.where(unpulled, self._activated, used)

    def _attachments(self) -> Bools:
        """Manifests that an index lists, and referrers."""
        if self._attached is None:
            links = self._images.links
            self._attached = np.zeros(self._images.count, dtype=bool)
            self._attached[links.child] = True
            self._attached[links.referrer] = True
        return self._attached
