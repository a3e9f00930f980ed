"""The gate of a node: images of the configuration by what the gate of releases says of their digest now, others as the
settings say. Who decides about a release is ``promote.gate``; here is which release it is, and what counts meanwhile.

containerd names the manifest of a platform, and a verdict is about the release, often an index above it: the one whose
digest stands in the reference, else the one that its tag names now, else the one that it was found in before. Its
answer is kept for ``keep``. Where the registry cannot be asked, the last allowing one counts for ``max_age``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeVar

from registry_pipelines.errors import (
    DigestInvalid,
    NotFound,
    ReferenceInvalid,
    RegistryError,
    RegistryPipelinesError,
)
from registry_pipelines.node.counts import Counts
from registry_pipelines.node.gate_layers import Layers
from registry_pipelines.node.judging import Layer, Named, denied
from registry_pipelines.node.last_answers import LastAnswers
from registry_pipelines.node.lately import Lately
from registry_pipelines.node.model import Gate
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Index
from registry_pipelines.oci.media_types import INDEXES
from registry_pipelines.oci.references import Reference
from registry_pipelines.progress import count_text
from registry_pipelines.promote.admission.judging import KEEP_REFUSAL_S, Refusal, Site, approved_by
from registry_pipelines.promote.admission.kept import Kept
from registry_pipelines.promote.admission.model import Approved
from registry_pipelines.promote.admission.rulings import Code, Ruling
from registry_pipelines.registry.protocol import Place
from registry_pipelines.threads import Pool

WAIT_S = 20.0
"""A pull or a start waits so long for an answer; a runtime waits for minutes, and people do not."""

AGAIN_S = 10.0
"""A registry that gave no answer is not asked about the same digest again for so long, nor is its answer waited for."""

SAY_AGAIN_S = 60.0
"""The same is said once in this time: a pull asks for each layer."""

MOST_LEVELS = 4
"""Indexes within indexes."""
MOST_INNER = 8
"""Of those in one index: nobody has more, and each is a request."""

UNKNOWN = "unknown"
"""What others' images are let in as, where ``unknown`` says ``pull``."""

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class Rulings(Protocol):
    """What is known of the images of a configuration; see ``promote.admission.judging.Sites``."""

    def find(self, reference: Reference) -> Site | None:
        """The image that a reference names at any of its places; None for what is none of ours."""
        ...

    def ruling(self, image: str, digest: Digest) -> Ruling:
        """What the gate says now. Raises RegistryError."""
        ...


class Runtime(Protocol):
    """What a container runtime knows of its images."""

    def images(self, layer: Layer) -> Sequence[Named] | None:
        """Those whose topmost layer this is, each by the digest that its name stands for; None where it does not
        answer."""
        ...


class _Asked(NamedTuple):
    """What the gate of releases said, or why it could not be asked."""

    ruling: Ruling | None
    error: str = ""

    @property
    def keep_s(self) -> float | None:
        """Other than for an allowing answer: how long it is kept."""
        if self.ruling is None:
            return AGAIN_S
        return None if self.ruling.allowed else KEEP_REFUSAL_S


class _Answer(NamedTuple):
    """code, reasons: as of a Refusal; empty where it may. why: what it is allowed as."""

    code: Code | Literal[""] = ""
    reasons: tuple[str, ...] = ()
    why: str = ""


class NodeGate:
    """See the module, and ``judging.Gate``."""

    def __init__(
        self,
        settings: Gate,
        sites: Rulings,
        pool: Pool,
        *,
        place: Callable[[str], Place],
        folder: Path,
        approved: Sequence[Approved] = (),
        scope: str = "",
        runtime: Runtime | None = None,
        read: Callable[[str], Reference] = Reference.parse,
        log: Callable[[str], object],
        counts: Counts | None = None,
        wait_s: float = WAIT_S,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """pool: whose threads ask, and no other gate's. place: where an image is read on this node. folder: for the
        last answers. approved: beside those of the settings. scope: by which policy and for which channel is asked, in
        words; other words have other last answers. runtime: is asked what a container is of; without it the labels of
        its layer say so. read: what a reference names; raises ReferenceInvalid. log: is told in one line of each
        refusal and each answer that is old. now: seconds since 1970. Raises LocalError."""
        self._settings, self._sites, self._log, self._scope = settings, sites, log, scope
        self._approved = (*settings.approved, *approved)
        self._runtime, self._wait_s, self._now = runtime, wait_s, now
        self._counts, self._read, self._last = counts, read, LastAnswers(folder)
        keep_s, self._max_age_s = settings.keep.total_seconds(), settings.max_age.total_seconds()
        self._rulings: Kept[tuple[str, Digest], _Asked] = Kept(
            self._ask,
            pool,
            lambda asked: keep_s if asked.keep_s is None else min(asked.keep_s, keep_s),
            clock=clock,
        )
        self._releases: Kept[tuple[Place, str, Digest], Digest | RegistryPipelinesError] = Kept(
            _release_of,
            pool,
            lambda found: keep_s if isinstance(found, Digest) else min(KEEP_REFUSAL_S, keep_s),
            clock=clock,
        )
        self._layers = Layers(place, self._last, pool, self._waited, clock=clock)
        self._said, self._slow = Lately(clock), Lately(clock)

    def pulled(self, image: Named | None, chain_id: str = "") -> None:
        """See judging.Gate. Without a name a layer may come where the runtime can be asked later whose container it
        is."""
        if image is None and self._runtime is not None:
            return
        answer = self._one(image)
        is_known = image is not None and not answer.code and answer.why != UNKNOWN
        if image and chain_id and is_known and self._layers.has(image, chain_id, topmost=False).has is False:
            answer = _Answer("no-reference", (f"that image has no layer {chain_id}, so another one is pulled",))
        self._act("the pull", {image: answer})

    def started(self, image: Named | None, layer: Layer) -> None:
        """See judging.Gate. Of several images with the same layers one with a verdict is enough: what starts is made of
        these layers."""
        found = self._runtime.images(layer) if self._runtime and layer.chain_id else None
        answers = self._answers(found or [image])
        if not found and image is not None and not answers[image].code and answers[image].why != UNKNOWN:
            answers = {image: self._by_labels(answers[image], image, layer)}
        self._act("the start", answers)

    def _by_labels(self, answer: _Answer, image: Named, layer: Layer) -> _Answer:
        """The same, where the image has the layer as its topmost one."""
        held = self._layers.has(image, layer.chain_id, topmost=True)
        if held.has is None:
            return _Answer("unreachable", (f"whether its layer is that image's cannot be asked: {held.error}",))
        return answer if held.has else self._unknown("no-reference", "its topmost layer is none of that image")

    def _answers(self, images: Sequence[Named | None]) -> Mapping[Named | None, _Answer]:
        """Of each; of one alone where a verdict or an approval lets it in. Another name that nobody knows anything of
        takes no refusal away."""
        answers: dict[Named | None, _Answer] = {}
        for image in images:
            answers[image] = self._one(image)
            if not answers[image].code and answers[image].why != UNKNOWN:
                return {image: answers[image]}
        return answers

    def _act(self, what: str, answers: Mapping[Named | None, _Answer]) -> None:
        refusals = [
            str(Refusal(what, f"{image.reference}@{image.digest}" if image else "an image without a name", code, told))
            for image, (code, told, _) in answers.items()
            if code
        ]
        if not refusals:
            return
        if self._counts is not None:
            self._counts.count("refused", mode=self._settings.mode)
        told = "; ".join(refusals)
        if self._settings.mode == "audit":
            self._say(f"{told} (gate: audit, so it goes on)")
            return
        self._say(f"refused: {told}")
        raise denied(f"refused by this node's gate: {told}")

    def _one(self, image: Named | None) -> _Answer:
        if image is None:
            return self._unknown("no-reference", "the runtime does not say of which image it is")
        try:
            reference = self._read(image.reference)
            digest = Digest.parse(image.digest)
        except (ReferenceInvalid, DigestInvalid) as error:
            return _Answer("no-reference", (error.what,))
        site = self._sites.find(reference)
        if site is None:
            if approved := approved_by(self._approved, reference):
                return _Answer(why=f"approved: {approved.reason}")
            name = f"{reference.registry}/{reference.repository}"
            return self._unknown("not-approved", f"{name} is neither an image of this configuration nor approved")
        top = self._release(site, reference, digest)
        return top if isinstance(top, _Answer) else self._ruled(site, top)

    def _unknown(self, code: Code, reason: str) -> _Answer:
        return _Answer(why=UNKNOWN) if self._settings.unknown == "pull" else _Answer(code, (reason,))

    def _release(self, site: Site, reference: Reference, digest: Digest) -> Digest | _Answer:
        """The release that a manifest is of: itself, or an index that names it."""
        if reference.digest == digest:
            return digest
        selector = str(reference.digest or reference.tag)
        key = f"release {site.place} {selector} {digest}"
        try:
            found = self._waited(self._releases, (site.place, selector, digest))
        except TimeoutError:
            found = RegistryError(f"{site.place} has not answered yet")
        if isinstance(found, Digest):
            if self._last.release(key) != found:  # a pull asks for each layer
                self._last.put_release(key, found)
            return found
        if (known := self._last.release(key)) is not None:
            return known
        if isinstance(found, NotFound):
            return _Answer("not-found", (f"{found.what}; pull it again, by what the tag names now",))
        return _Answer("unreachable", (str(found),))

    def _ruled(self, site: Site, digest: Digest) -> _Answer:
        asked: _Asked
        try:
            asked = self._waited(self._rulings, (site.image, digest))
        except TimeoutError:
            asked = _Asked(None, "it has not answered yet")
        if asked.ruling is not None:
            ruling = asked.ruling
            return _Answer(ruling.code, ruling.reasons) if ruling.code else _Answer(why=ruling.verdict)
        age_s = self._last.allowed(self._key(site.image, digest), now=self._now(), max_age_s=self._max_age_s)
        if age_s is None:
            kept = f"and no allowing answer of the last {self._settings.max_age} is known here"
            return _Answer("unreachable", (f"{site.source} cannot be asked, {kept}: {asked.error}",))
        minutes = count_text(round(age_s / 60), "minute")
        self._say(f"{site.image}@{digest.short}: the registry cannot be asked, and what it said {minutes} ago counts")
        return _Answer(why="kept")

    def _ask(self, key: tuple[str, Digest]) -> _Asked:
        """In a thread of the pool."""
        began = self._now()
        try:
            ruling = self._sites.ruling(*key)
        except NotFound as error:
            self._last.put(self._key(*key), False, began)
            return _Asked(Ruling(*key, code="not-found", reasons=(str(error),)))
        except RegistryPipelinesError as error:
            return _Asked(None, str(error))
        self._last.put(self._key(*key), ruling.allowed, began)
        return _Asked(ruling)

    def _key(self, image: str, digest: Digest) -> str:
        return f"ruling {self._scope} {image} {digest}"

    def _waited(self, kept: Kept[_K, _V], key: _K) -> _V:
        """As ``Kept.get``; a question that took too long is not waited for again at once. Raises TimeoutError."""
        try:
            return kept.get(key, 0.0 if self._slow.has(key) else self._wait_s)
        except TimeoutError:
            self._slow.first(key, AGAIN_S)
            raise

    def _say(self, line: str) -> None:
        if self._said.first(line, SAY_AGAIN_S):
            self._log(line)


def _release_of(asked: tuple[Place, str, Digest]) -> Digest | RegistryPipelinesError:
    """What a tag or digest names, where that is a manifest or has it among its own; else why not."""
    place, selector, digest = asked
    try:
        top = place.registry.resolve(place.repository, selector).digest
        if top == digest or _holds(place, top, digest, MOST_LEVELS):
            return top
        return NotFound(f"{selector} names {top} now, and that does not hold {digest}", where=str(place))
    except RegistryPipelinesError as error:
        return error


def _holds(place: Place, top: Digest, digest: Digest, levels: int) -> bool:
    """Whether an index has a manifest among its own, or those of indexes in it. Raises RegistryError, ContentError."""
    content = place.registry.get_manifest(place.repository, top).content()
    if not isinstance(content, Index) or not levels:
        return False
    if any(each.digest == digest for each in content.manifests):
        return True
    inner = [each.digest for each in content.manifests if each.media_type in INDEXES]
    return any(_holds(place, each, digest, levels - 1) for each in inner[:MOST_INNER])


__all__ = ["NodeGate", "Rulings", "Runtime"]
