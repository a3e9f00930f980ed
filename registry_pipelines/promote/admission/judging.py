"""Whether an object may be made in a cluster, and what is changed in it before: every image of it, by one set of rules.

Nothing here is Kubernetes' own but the objects, and nothing here decides about a release: the gate does (``rulings``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from registry_pipelines.errors import (
    ContentError,
    NotFound,
    ReferenceInvalid,
    RegistryPipelinesError,
)
from registry_pipelines.inventory.usage.workloads import ImageAt, images_of
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.references import Reference
from registry_pipelines.progress import count_text
from registry_pipelines.promote.admission.kept import Kept
from registry_pipelines.promote.admission.model import Admission, Approved
from registry_pipelines.promote.admission.review import PatchStep, Request
from registry_pipelines.promote.admission.rulings import Code, Ruling
from registry_pipelines.registry.protocol import Place
from registry_pipelines.threads import Pool

_T = TypeVar("_T")

THREADS = 32
"""Digests and tags that are asked about at once: a few dozen small requests each."""

KEEP_REFUSAL_S = 2.0
"""How long a refusal is kept: it may be put right at any moment, and a controller tries again with growing pauses."""

KEEP_MISSING_S = 10.0
"""How long a replica that does not have an image, or does not answer, is passed over."""

MOST_REASONS = 8
"""Of one image in a refusal; the rest is counted."""

MARGIN_S = 1.0
"""So much before an API server stops waiting we answer."""


@dataclass(frozen=True)
class Site:
    """A place where an image of the configuration is."""

    image: str
    place: Place
    source: Place
    """Where its releases appear, and their evidence is read."""
    replicas: tuple[Place, ...] = ()
    """Where nodes are to pull it from, the nearest first."""


class Sites(Protocol):
    """What is known of the world of a configuration."""

    def find(self, reference: Reference) -> Site | None:
        """The image that a reference names at any of its places; None for what is none of ours."""
        ...

    def place(self, reference: Reference) -> Place:
        """Where anything is, ours or not; the host as it is written."""
        ...

    def ruling(self, image: str, digest: Digest) -> Ruling:
        """What the gate says now. Raises RegistryError."""
        ...


@dataclass(frozen=True)
class Refusal:
    """An image that may not start, and every reason."""

    what: str
    """For people: ``container 'app'``."""
    image: str
    code: Code
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        shown = "; ".join(self.reasons[:MOST_REASONS])
        more = len(self.reasons) - MOST_REASONS
        rest = f"; and {count_text(more, 'more reason')}" if more > 0 else ""
        image = self.image[:300] if self.image.isprintable() else repr(self.image[:300])
        return f"{self.what}: {image} [{self.code}]: {shown}{rest}"


@dataclass
class Decision:
    """What is answered about an object."""

    refusals: list[Refusal] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    audit: dict[str, str] = field(default_factory=dict)
    """Of each image that is ours, what was found: release and verdict, or the code of the refusal."""

    @property
    def allowed(self) -> bool:
        """Whether it may be made."""
        return not self.refusals


class Judge:
    """Answers for one configuration; keeps what it found for a time. Safe to use from many threads."""

    def __init__(
        self, settings: Admission, sites: Sites, pool: Pool, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings, self._sites, self._pool = settings, sites, pool
        keep_s = settings.keep.total_seconds()
        self._rulings: Kept[tuple[str, Digest], Ruling] = Kept(
            lambda key: sites.ruling(*key),
            pool,
            lambda ruling: keep_s if ruling.allowed else min(KEEP_REFUSAL_S, keep_s),
            clock=clock,
        )
        self._there = Kept(_is_there, pool, lambda there: keep_s if there else KEEP_MISSING_S, clock=clock)

    def decide(self, request: Request, wait_s: float) -> Decision:
        """Judge every image that an object would have a node pull, all reasons at once.

        Of an object that is changed only images that are other ones than before: what runs goes on, and a pod that it
        makes is asked about by itself. wait_s: so long the answer may take.
        """
        until = time.monotonic() + wait_s
        decision = Decision()
        try:
            wanted = _changed(request)
        except ContentError as error:
            decision.refusals.append(Refusal("object", _name(request), "unreadable", (str(error),)))
            return decision
        judged: dict[str, Refusal | str] = {}
        for found, answer in zip(wanted, self._judged([each.image for each in wanted], until, decision), strict=True):
            judged[found.image] = answer
            if isinstance(answer, Refusal):
                decision.refusals.append(Refusal(found.what, found.image, answer.code, answer.reasons))
        told = (f"{image}={each.code if isinstance(each, Refusal) else each}" for image, each in judged.items())
        decision.audit = {"images": " ".join(told)[:2000]} if judged else {}
        return decision

    def patch(self, request: Request, wait_s: float) -> list[PatchStep]:
        """What is changed in an object before it is judged: tags to digests, registries to the nearest replica, as the
        settings say. What cannot be found out stays as it is: whether it may start is asked afterwards."""
        until = time.monotonic() + wait_s
        try:
            wanted = _changed(request)
        except ContentError:
            return []
        changed = self._together(lambda image: self._rewritten(image, until), [each.image for each in wanted])
        return [
            PatchStep(path=found.pointer, value=text)
            for found, text in zip(wanted, changed, strict=True)
            if text != found.image
        ]

    def _judged(self, images: Sequence[str], until: float, decision: Decision) -> list[Refusal | str]:
        def one(image: str) -> Refusal | str:
            try:
                return self._one(image, until, decision)
            except TimeoutError:
                reason = "the registry has not answered yet; try again, the answer is kept when it comes"
                return Refusal("", image, "late", (reason,))
            except RegistryPipelinesError as error:
                return Refusal("", image, "unreachable", (str(error),))

        return self._together(one, images)

    def _one(self, image: str, until: float, decision: Decision) -> Refusal | str:
        """A refusal, or what it is allowed as. Raises RegistryError, TimeoutError."""
        try:
            reference = Reference.parse(image, default_tag="")
        except ReferenceInvalid as error:
            return Refusal("", image, "no-reference", (error.what,))
        if reference.digest is None and reference.tag in ("", "latest"):
            said = (
                "the tag latest names another image tomorrow" if reference.tag else "no tag is written: that is latest"
            )
            return Refusal("", image, "latest", (f"{said}; name a digest or a version",))
        site, approved = self._sites.find(reference), approved_by(self._settings.approved, reference)
        if site is None and approved is None:
            return Refusal("", image, "not-approved", (f"{reference.registry}/{reference.repository} is not approved",))
        if reference.digest is None and self._settings.require_digests:
            return Refusal("", image, "no-digest", ("it is named by tag, and digests are required",))
        if site is None:
            return "approved"
        digest = reference.digest
        if digest is None:
            try:
                digest = self._resolved(site.place, reference.tag, until)
            except NotFound:
                told = f"{site.place} has no tag {reference.tag}; push it, or name a release that is there"
                return Refusal("", image, "not-found", (told,))
            decision.warnings.append(
                f"{image[:120]} is judged as {digest.short}, which its tag names now. A node pulls what the tag names "
                f"when it starts: write {site.place}@{digest}"
            )
        ruling = self._rulings.get((site.image, digest), until - time.monotonic())
        if ruling.code:
            return Refusal("", image, ruling.code, ruling.reasons)
        if ruling.glass:
            decision.warnings.append(f"{image[:120]} starts against its policy, by {ruling.glass}")
        verdict = Digest(ruling.verdict).short if ruling.verdict else "none"
        return f"{ruling.image}:{ruling.version}@{digest.short},verdict@{verdict}{',break-glass' * bool(ruling.glass)}"

    def _rewritten(self, image: str, until: float) -> str:
        """The image's new name; the same where nothing is known to be better."""
        try:
            reference = Reference.parse(image, default_tag="")
            site, approved = self._sites.find(reference), approved_by(self._settings.approved, reference)
            if reference.digest is None and reference.tag in ("", "latest"):
                return image  # refused afterwards; a digest would hide what was written
            if site is None and approved is None:
                return image
            place = site.place if site else self._sites.place(reference)
            digest = reference.digest or self._resolved(place, reference.tag, until)
            pinned = image if "digest" not in self._settings.mutate else str(reference.with_digest(digest))
            if site is None or "replica" not in self._settings.mutate:
                return pinned
            return self._nearest(site, reference, digest, until) or pinned
        except (RegistryPipelinesError, TimeoutError):
            return image

    def _nearest(self, site: Site, reference: Reference, digest: Digest, until: float) -> str:
        """The image at the first replica that has it; empty where none has."""
        selector = f"@{digest}" if reference.digest or "digest" in self._settings.mutate else f":{reference.tag}"
        for replica in site.replicas:
            try:
                there = self._there.get((replica, digest), min(2.0, until - time.monotonic()))
            except (RegistryPipelinesError, TimeoutError):
                continue
            if there:
                return f"{replica}{selector}"
        return ""

    def _resolved(self, place: Place, tag: str, until: float) -> Digest:
        """What a tag names now; never kept. Raises RegistryError, TimeoutError."""
        resolve = self._pool.submit(place.registry.resolve, place.repository, tag)
        return resolve.result(timeout=max(0.0, until - time.monotonic())).digest

    def _together(self, act: Callable[[str], _T], images: Sequence[str]) -> list[_T]:
        """``act`` on each image, equal ones once. Several at a time: one object may have many."""
        unique = list(dict.fromkeys(images))
        if len(unique) <= 1:
            answers = {image: act(image) for image in unique}
        else:
            with Pool(min(THREADS, len(unique)), "review") as pool:
                answers = dict(zip(unique, pool.map(act, unique), strict=True))
        return [answers[image] for image in images]


def approved_by(approved: Iterable[Approved], reference: Reference) -> Approved | None:
    """The entry that approves an image; compared up to a slash."""
    name = f"{reference.registry.lower()}/{reference.repository}/"
    return next((each for each in approved if name.startswith(f"{each.images}/")), None)


def _changed(request: Request) -> list[ImageAt]:
    """The images of an object that it did not have before. Raises ContentError."""
    if request.object is None:
        if request.operation == "DELETE":
            return []
        raise ContentError(f"{request.operation[:40]} without an object")
    before: dict[tuple[str, ...], str] = {}
    if request.operation == "UPDATE" and request.old_object is not None:
        before = {each.key: each.image for each in images_of(request.kind, request.old_object)}
    return [each for each in images_of(request.kind, request.object) if before.get(each.key) != each.image]


def _name(request: Request) -> str:
    return f"{request.kind.kind[:63]} {request.namespace[:63]}/{request.name[:253]}"


def _is_there(key: tuple[Place, Digest]) -> bool:
    """Whether a replica has an image now; one that does not answer has not."""
    place, digest = key
    try:
        place.registry.resolve(place.repository, digest)
    except RegistryPipelinesError:
        return False
    return True


__all__ = ["Decision", "Judge", "Refusal", "Site", "Sites", "approved_by"]
