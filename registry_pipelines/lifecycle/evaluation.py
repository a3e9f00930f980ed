"""What a policy does to each image of an inventory: outcome, rule, cause, and the questions that are open."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any

import numpy as np

from registry_pipelines.lifecycle.columns import Bools, Images, Ints, Links


class Outcome(IntEnum):
    """What happens to an image. FOLLOWS: it refers to one that goes, and is deleted after it."""

    KEEP = 0
    EXPIRE = 1
    TRANSITION = 2
    FOLLOWS = 3


DELETING = (Outcome.EXPIRE, Outcome.FOLLOWS)


class Cause(IntEnum):
    """Why. WITHIN: the rule is about the image, which is within its number or days; no later rule may act then."""

    NO_RULE = 0
    ACTS = 1
    WITHIN = 2
    CHILD = 3
    SUBJECT_STAYS = 4
    SUBJECT_GOES = 5
    KEPT = 6
    IMMUTABLE = 7
    RESTORING = 8
    OPEN = 9


class Question(IntFlag):
    """What the documents of the clouds do not decide, and what an inventory does not know. On an image that would go
    by one answer and stay by the other, the question is noted, and the image stays."""

    DAYS = 1
    RESTORED = 2
    PLACES = 4
    TIES = 8
    UNKNOWN_TIME = 16
    REFERRER = 32
    ARCHIVED_LIST = 64
    CHILDREN_UNREAD = 128
    OPEN_LIST = 256
    PACKAGES = 512
    BOUNDARY = 1024
    CHILD_DELETED = 2048


NO_QUESTION = Question(0)
QUESTIONS: dict[Question, str] = {
    Question.DAYS: "whether ages count in whole days is not documented, and it is between the number and the next day",
    Question.RESTORED: "it was restored from the archive, and whether its age counts from the push or from then is not "
    "documented",
    Question.PLACES: "whether the manifests of an index and referrers take places in the count is not documented",
    Question.TIES: "others are exactly as old, and which of them counts as younger is not documented",
    Question.UNKNOWN_TIME: "the time that counts is not known, of it or of others that the rule counts",
    Question.REFERRER: "a rule selects it, and whether a referrer goes before its subject is not documented",
    Question.ARCHIVED_LIST: "its index is archived, and what that does to its manifests is not documented",
    Question.CHILDREN_UNREAD: "it may be listed by an index of the repository whose manifests were not read",
    Question.OPEN_LIST: "its index is undecided, and stays by our reading",
    Question.PACKAGES: "whether keepCount is for each package or for the whole repository is not documented",
    Question.BOUNDARY: "it is exactly as old as the policy says",
    Question.CHILD_DELETED: "an index lists it, and whether cleanup takes it is not documented; a client may not",
}


@dataclass(frozen=True)
class Evaluation:
    """A policy's effect, an entry for each image. names: the rules. rule: which of them decided, -1 for none. measured:
    how many younger images the rule counts, or the age in days; nan where neither. questions: ``Question`` bits; an
    image with any is kept."""

    images: Images
    names: tuple[str, ...]
    rule: Ints
    outcome: np.ndarray[Any, np.dtype[np.int8]]
    cause: np.ndarray[Any, np.dtype[np.int8]]
    questions: np.ndarray[Any, np.dtype[np.int16]]
    measured: np.ndarray[Any, np.dtype[np.float64]]

    @property
    def deletes(self) -> Bools:
        """Images that are deleted."""
        return np.asarray(np.isin(self.outcome, DELETING))

    @property
    def undecided(self) -> Bools:
        """Images that stay because a question is open."""
        return np.asarray(self.questions != 0)

    def count(self, outcome: Outcome) -> int:
        """How many images have this outcome."""
        return int((self.outcome == outcome).sum())

    @property
    def deleted_bytes(self) -> int:
        """Sizes of what is deleted, as the registry says them: layers that others share count each time."""
        return int(self.images.size_bytes[self.deletes].sum())


class Draft:
    """An evaluation while it is made."""

    def __init__(self, images: Images, names: tuple[str, ...]) -> None:
        self.images = images
        self.names = names
        size = images.count
        self.rule: Ints = np.full(size, -1, dtype=np.int64)
        self.outcome = np.zeros(size, dtype=np.int8)
        self.cause = np.zeros(size, dtype=np.int8)
        self.questions = np.zeros(size, dtype=np.int16)
        self.measured = np.full(size, np.nan)

    def done(self) -> Evaluation:
        """The evaluation."""
        return Evaluation(self.images, self.names, self.rule, self.outcome, self.cause, self.questions, self.measured)

    def ask(self, which: Bools | Ints, question: Question) -> None:
        """Note a question on these images: an entry for each, or their rows."""
        self.questions[which] |= question

    def keep(self, which: Bools, cause: Cause) -> None:
        """These stay."""
        self.outcome[which] = Outcome.KEEP
        self.cause[which] = cause


def spare(draft: Draft, links: Links, *, child_question: Question = NO_QUESTION) -> None:
    """Keep what something that stays needs: manifests of an index, and (by our reading) referrers of an image. Repeated
    until nothing changes, for an index that is spared spares its own. child_question: asked of every child spared."""
    images = draft.images
    expires = draft.outcome == Outcome.EXPIRE
    while True:
        spared = np.zeros(images.count, dtype=bool)
        spared[links.child[~expires[links.parent]]] = True
        alone = np.zeros(images.count, dtype=bool)
        alone[links.referrer[~expires[links.subject]]] = True
        spared, alone = spared & expires, alone & expires & ~(spared & expires)
        if not spared.any() and not alone.any():
            break
        _spare_children(draft, links, spared, expires)
        draft.keep(spared, Cause.CHILD)
        draft.ask(spared, child_question)
        draft.keep(alone, Cause.SUBJECT_STAYS)
        draft.ask(alone, Question.REFERRER)
        expires = draft.outcome == Outcome.EXPIRE


def _spare_children(draft: Draft, links: Links, spared: Bools, expires: Bools) -> None:
    """Note where a child stays only by an open question: all its lists that stay are archived, or are undecided."""
    stays = ~expires[links.parent]
    archived = draft.images.is_archived | (draft.outcome == Outcome.TRANSITION)
    firm = np.zeros(draft.images.count, dtype=bool)
    firm[links.child[stays & ~archived[links.parent] & (draft.questions[links.parent] == 0)]] = True
    by_archived, by_open = np.zeros_like(firm), np.zeros_like(firm)
    by_archived[links.child[stays & archived[links.parent]]] = True
    by_open[links.child[stays & (draft.questions[links.parent] != 0)]] = True
    draft.ask(spared & ~firm & by_archived, Question.ARCHIVED_LIST)
    draft.ask(spared & ~firm & by_open, Question.OPEN_LIST)


def spare_unread(draft: Draft) -> None:
    """Keep what might be a child of an index that stays and whose manifests nobody has read."""
    images = draft.images
    staying = images.unread & (draft.outcome != Outcome.EXPIRE)
    if staying.any():
        groups = np.zeros(images.groups, dtype=bool)
        groups[images.group[staying]] = True
        doubtful = groups[images.group] & (draft.outcome == Outcome.EXPIRE)
        draft.ask(doubtful, Question.CHILDREN_UNREAD)
        draft.keep(doubtful, Cause.OPEN)


def follow(draft: Draft, links: Links) -> None:
    """Referrers go after their subject, and theirs after them; none that an index which stays lists."""
    while True:
        gone = np.isin(draft.outcome, DELETING)
        held = np.zeros(draft.images.count, dtype=bool)
        held[links.child[~gone[links.parent]]] = True
        going = np.zeros(draft.images.count, dtype=bool)
        going[links.referrer[gone[links.subject]]] = True
        going &= ~gone & ~held
        if not going.any():
            return
        draft.outcome[going] = Outcome.FOLLOWS
        draft.cause[going] = Cause.SUBJECT_GOES
        draft.questions[going] = 0
