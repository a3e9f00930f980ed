"""Where images and releases stand, read from the registries: what each channel names, whether that may ship, where it
is, and which newer ones are not promoted. Nothing is written, and no answer of a registry that is down is taken for
"not there"."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from registry_pipelines.chain.releases import find_tags, is_image, names_origin, origins
from registry_pipelines.chain.result import WAITS, held_text
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Image
from registry_pipelines.errors import (
    ContentError,
    EvidenceError,
    RegistryPipelinesError,
    Unauthorized,
    Unavailable,
)
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.tags import order_key
from registry_pipelines.oci.times import read_time
from registry_pipelines.promote import gate
from registry_pipelines.promote.evidence import reports_about
from registry_pipelines.promote.findings import newly_against
from registry_pipelines.promote.standing import Standing, read_standing, records
from registry_pipelines.registry.contents import contents_of
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release
from registry_pipelines.scan.report import Report
from registry_pipelines.threads import Pool

if TYPE_CHECKING:  # for images with `stream` alone
    from registry_pipelines.stream.standing import Streams

THREADS = 16
"""Images and places looked at once: small requests, so latency counts."""

MOST_NEWER = 5
"""Releases newer than the channel's that are looked at; that there are more is said."""

NOT_SHIPPED = EvidenceError.exit_code
INCOMPLETE = ContentError.exit_code
UNREACHABLE = Unavailable.exit_code

Ruling = Literal["allow", "deny", "outdated", "none", "unknown"]
"""``outdated``: it was allowed, and may not be copied now: the policy changed, a later report says more, or it has no
promotion. ``none``: nobody judged it. ``unknown``: it could not be read."""

Presence = Literal["same", "other", "missing", "unreachable"]
"""Of a tag at a place, against the release's digest."""

NEWLY = "newly vulnerable"
"""Begins the reason that a finding later than the verdict gives."""

PROMOTION_REASON = "promotion:"
"""How the gate's reason begins that there is no promotion."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Newer:
    """A release that is newer than the channel's and was not promoted."""

    tag: str
    digest: str
    why: str
    rolled_back: bool = False
    """It was promoted before; that the channel went back was somebody's will, and is nothing that waits."""
    do: str = ""
    """The command that lets it go, where it may."""


@dataclass(frozen=True)
class Status:
    """Where a release stands: what a channel names, or one of many."""

    image: str
    channel: str
    """The image's channel; in a list of releases only where it names this one."""
    tag: str = ""
    """The release's version tag; empty when the channel names nothing, or nobody knows its version."""
    digest: str = ""
    """Empty when the channel names nothing, or could not be read."""
    ruling: Ruling = "none"
    reasons: tuple[str, ...] = ()
    """Why it is not ``allow``, or held, the weightiest first."""
    places: dict[str, Presence] = field(default_factory=dict)
    """By target and mirror. A mirror is its private registry."""
    created: datetime | None = None
    """When the image was made, where it says so."""
    promoted: datetime | None = None
    """When the channel was last put on it."""
    size_bytes: int | None = None
    streams: Streams | None = None
    """How it starts before it is fetched whole; None for an image without ``stream``, and where that is not known."""
    newer: tuple[Newer, ...] = ()
    """The newest first."""
    more_newer: int = 0
    """Newer releases that were not looked at."""
    vulnerable: tuple[str, ...] = ()
    """What later advisories say against a release that was allowed: findings that its verdict did not know and its
    policy does not permit. They begin ``reasons``, too."""
    held: str = ""
    """Of one that is allowed and not promoted: what its policy wants before, ``recording`` or ``measurement``; then
    ``reasons`` say of what."""
    problems: tuple[str, ...] = ()
    """What could not be read, one sentence each."""

    @property
    def exit_code(self) -> int:
        """0: shipped, the newest, and everywhere. 3: not, because nothing is promoted or may be, or a newer one is
        not promoted. 7: a registry did not answer. 6: a place has another, or none."""
        if self.ruling in ("deny", "outdated", "none") or not all(each.rolled_back for each in self.newer):
            return NOT_SHIPPED
        found = set(self.places.values())
        if self.ruling == "unknown" or self.problems or "unreachable" in found:
            return UNREACHABLE
        return INCOMPLETE if found - {"same"} else 0

    def plain(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {
            "image": self.image,
            "channel": self.channel,
            "release": f"{self.image}:{self.tag}@{self.digest}" if self.tag and self.digest else "",
            "tag": self.tag,
            "digest": self.digest,
            "verdict": self.ruling,
            "reasons": list(self.reasons),
            "held": self.held,
            "vulnerable": list(self.vulnerable),
            "places": dict(self.places),
            "created": _text(self.created),
            "promoted": _text(self.promoted),
            "size_bytes": self.size_bytes,
            "streams": self.streams.plain() if self.streams else None,
            "newer": [
                {
                    "tag": each.tag,
                    "digest": each.digest,
                    "why": each.why,
                    "rolled_back": each.rolled_back,
                    "do": each.do,
                }
                for each in self.newer
            ],
            "more_newer": self.more_newer,
            "problems": list(self.problems),
            "exit_code": self.exit_code,
        }


def exit_code_of(statuses: Collection[Status]) -> int:
    """That of all: 3 before 7 before 6."""
    codes = {status.exit_code for status in statuses}
    return next((code for code in (NOT_SHIPPED, UNREACHABLE, INCOMPLETE) if code in codes), 0)


def statuses(session: Session, images: Sequence[str] = ()) -> list[Status]:
    """Where the channels of images (all unless named) stand, in the order of the configuration. Raises InputError: no
    such image, or trusted keys that cannot be read."""
    named = [session.image(name) for name in images] or list(session.config.images.values())
    look = _Look(session.remembering(), session.keys.trusted_if_any())
    with Pool(THREADS, "status") as pool:
        found = list(pool.map(look.channel, named))
        return _with_places(look, pool, list(zip(named, found, [image.channel for image in named], strict=True)))


def release_statuses(session: Session, releases: Sequence[Release]) -> list[Status]:
    """Where releases stand, each by its version tag. Raises InputError, RegistryError of a source."""
    look = _Look(session.remembering(), session.keys.trusted_if_any())
    image_of = session.config.images
    with Pool(THREADS, "status") as pool:
        channels = dict(zip(image_of, pool.map(look.channel_digest, image_of.values()), strict=True))
        found = list(pool.map(lambda each: look.release(each, channels[each.image]), releases))
        named = [(image_of[each.image], status, each.tag) for each, status in zip(releases, found, strict=True)]
        return _with_places(look, pool, named)


def _with_places(look: _Look, pool: Pool, named: Sequence[tuple[Image, Status, str]]) -> list[Status]:
    """The same with what every target and mirror has, all asked at once. named: image, status, and the tag that must
    name the digest."""
    asked = [
        (number, name, pool.submit(look.presence, place, tag, status.digest))
        for number, (image, status, tag) in enumerate(named)
        if status.digest
        for name, place in look.places(image).items()
    ]
    found = [status for _, status, _ in named]
    for number, name, future in asked:
        presence, problem = future.result()
        status = found[number]
        problems = (*status.problems, f"{name}: {problem}") if problem else status.problems
        found[number] = replace(status, places={**status.places, name: presence}, problems=problems)
    return found


class _Look:
    """One look at the registries. One that did not answer is not asked again: each time costs seconds."""

    def __init__(self, session: Session, verifier: Verifier | None) -> None:
        self._session, self._verifier, self._now = session, verifier, session.now()
        self._down: dict[str, Unavailable] = {}

    def places(self, image: Image) -> dict[str, Place]:
        """Targets and mirrors of an image."""
        config, places = self._session.config, self._session.places
        mirrors = {name: mirror for name, mirror in config.mirrors.items() if image.name in mirror.images}
        stops = {name: self._session.stops(mirror, image.repository)[-1] for name, mirror in mirrors.items()}
        return {**{name: places.target(image, name) for name in image.targets}, **stops}

    def presence(self, place: Place, tag: str, digest: str) -> tuple[Presence, str]:
        """What a tag names at a place, and why that is not known."""
        try:
            there = self._ask(place, lambda: digest_at(place, tag))
        except RegistryPipelinesError as error:
            return "unreachable", _told(error)
        return "missing" if there is None else "same" if there == digest else "other", ""

    def channel_digest(self, image: Image) -> Digest | None:
        """What a channel names. Raises RegistryError."""
        return self._named(image, image.channel)

    def channel(self, image: Image) -> Status:
        """Where an image's channel stands, without its places; what goes wrong is in the answer."""
        try:
            return self._channel(image)
        except RegistryPipelinesError as error:
            return Status(image.name, image.channel, ruling="unknown", problems=(f"{image.name}: {_told(error)}",))

    def _channel(self, image: Image) -> Status:
        digest = self.channel_digest(image)
        status = Status(image.name, image.channel, reasons=(f"{image.channel} names nothing",))
        if digest is not None:
            status = self._standing(image, digest)
        tags = sorted(self._ask(self._source(image), lambda: find_tags(self._session, image)), key=order_key)
        waiting = self._ask(self._source(image), lambda: origins(self._session, image))
        if digest is not None and not status.tag:  # nobody signed its version: of the newest tags the one that names it
            named = (tag for tag in tags[: -MOST_NEWER - 1 : -1] if self._named(image, tag) == digest)
            status = replace(status, tag=next(named, ""))
        newer = [tag for tag in reversed(tags) if not status.tag or order_key(tag) > order_key(status.tag)]
        newer += [tag for tag, done in waiting.items() if not done and order_key(tag) > order_key(status.tag)]
        newer.sort(key=order_key, reverse=True)
        found = {each.digest: each for tag in newer[:MOST_NEWER] if (each := self._newer(image, tag, digest))}
        return replace(status, newer=tuple(found.values()), more_newer=max(0, len(newer) - MOST_NEWER))

    def release(self, release: Release, channel: Digest | None) -> Status:
        """Where a release stands, without its places. channel: what its image's channel names. Raises RegistryError."""
        image = self._session.image(release.image)
        status = self._standing(image, release.digest, release.tag)
        return replace(status, channel=image.channel if channel == release.digest else "")

    def _newer(self, image: Image, tag: str, channel: Digest | None) -> Newer | None:
        """What keeps the release of a tag; None for what is no release of its own."""
        digest = self._named(image, tag)
        if digest is None or digest == channel or not is_image(self._source(image), digest):
            return None
        if names_origin(image, tag):
            return Newer(tag, digest, f"not converted: `registry-pipelines stream convert {image.name}:{tag}`")
        status = self._standing(image, digest, tag)
        if status.promoted:
            return Newer(tag, digest, "promoted before, and the channel went back", rolled_back=True)
        if status.held:
            return Newer(tag, digest, held_text(status.held))
        if status.ruling == "allow":
            from registry_pipelines.chain.next_steps import typed  # few starts come here

            do = typed(self._session.config, "promote", f"{image.name}:{tag}")
            return Newer(tag, digest, WAITS if image.promote == "manual" else "allowed, not promoted yet", do=do)
        return Newer(tag, digest, status.reasons[0])

    def _standing(self, image: Image, digest: Digest, tag: str = "") -> Status:
        """Verdict, times and size of a digest. tag: its version; unless told, it is what the channel names, and its
        version the one it was promoted as."""
        place = self._source(image)
        contents = self._ask(place, lambda: contents_of(place, digest))
        problems = (contents.problem,) if contents.problem else ()
        size_bytes = None if contents.problem else contents.size_bytes
        status = Status(image.name, image.channel, tag, digest, created=contents.created, size_bytes=size_bytes)
        if self._verifier is None:
            return replace(status, reasons=("no trusted key is here, so nothing is believed",), problems=problems)
        standing, reports = self._ask(place, lambda: self._read(image, digest, tag))
        vulnerable = self._vulnerable(image, standing, reports)
        mine = [each for each in standing.records if (each.image, each.channel) == (image.name, image.channel)]
        ruling, reasons = self._ruling(image, standing, reports, promoted=not tag)
        if vulnerable:
            reasons = (
                *(f"{NEWLY}: {line}" for line in vulnerable),
                *(each for each in reasons if each not in vulnerable),
            )
        held = ""
        if ruling == "allow" and not mine:
            ruling, reasons, held = self._start(image, standing)
        return replace(
            status,
            held=held,
            vulnerable=vulnerable,
            streams=self._streams(image, digest),
            tag=tag or (mine[-1].version if mine else ""),
            ruling=ruling,
            reasons=reasons,
            promoted=read_time(mine[-1].time) if mine else None,
            problems=problems,
        )

    def _streams(self, image: Image, digest: Digest) -> Streams | None:
        if image.stream is None or self._verifier is None:
            return None
        from registry_pipelines.stream.standing import read_standing

        place, verifier = self._source(image), self._verifier
        return self._ask(place, lambda: read_standing(place, digest, verifier))

    def _read(self, image: Image, digest: Digest, tag: str) -> tuple[Standing, list[Report]]:
        """What is signed and what is attached about a digest."""
        place, verifier = self._source(image), self._verifier
        assert verifier is not None  # noqa: S101 - its caller looked
        known = read_attestations(place, digest, verifier)
        promoted = [record for record, _ in records(place, digest, verifier, known=known) if record.image == image.name]
        version = tag or (promoted[-1].version if promoted else image.channel)
        standing = read_standing(place, Release(image.name, version, digest), known, verifier)
        return standing, reports_about(place, digest, known)

    def _ruling(
        self, image: Image, standing: Standing, reports: Sequence[Report], *, promoted: bool
    ) -> tuple[Ruling, tuple[str, ...]]:
        """The verdict that counts, and what speaks against a copy now. promoted: whether a promotion is wanted, too."""
        policy = self._session.policy_of(image)
        latest = standing.verdicts.latest(image.name, policy.name)
        if latest is None:
            return "none", (f"nobody judged it by policy {policy.name}",)
        if not latest.verdict.allow:
            return "deny", latest.verdict.reasons
        outcome = gate.may_leave(standing, reports, policy, channel=image.channel, now=self._now)
        reasons = tuple(each for each in outcome.reasons if promoted or not each.startswith(PROMOTION_REASON))
        return ("outdated" if reasons else "allow"), reasons

    def _vulnerable(self, image: Image, standing: Standing, reports: Sequence[Report]) -> tuple[str, ...]:
        """What reports later than the judged one add against the policy of an allowed release."""
        policy = self._session.config.policies[image.policy]
        latest = standing.verdicts.latest(image.name, policy.name)
        newest = max(reports, key=lambda report: report.order, default=None)
        if latest is None or not latest.verdict.allow or newest is None:
            return ()
        judged = [each for each in reports if str(Digest.of(each.encode())) == latest.verdict.report]
        if not judged or newest == judged[0]:
            return ()
        return tuple(newly_against(newest, judged[0], policy, image=image.name, now=self._now, vex=standing.vex))

    def _start(self, image: Image, standing: Standing) -> tuple[Ruling, tuple[str, ...], str]:
        """Of an allowed release what a promotion asks of its start, where the policy does: the ruling, what speaks
        against a promotion, and what it is held for."""
        place, policy, verifier = self._source(image), self._session.policy_of(image), self._verifier
        latest = standing.verdicts.latest(image.name, policy.name)
        if latest is None or verifier is None or not policy.asks_about_start:
            return "allow", (), ""
        from registry_pipelines.promote.starts import read_starts, starts_within

        platforms = latest.verdict.platforms
        starts = self._ask(place, lambda: read_starts(place, platforms, policy, verifier))
        outcome = starts_within(platforms, starts, policy)
        return "allow" if outcome.passes or outcome.held else "deny", tuple(outcome.reasons), outcome.held

    def _named(self, image: Image, tag: str) -> Digest | None:
        place = self._source(image)
        return self._ask(place, lambda: digest_at(place, tag))

    def _source(self, image: Image) -> Place:
        return self._session.source_of(image)

    def _ask(self, place: Place, act: Callable[[], _T]) -> _T:
        """Raises what it raises; of a registry that did not answer before the same again."""
        if (down := self._down.get(place.registry.name)) is not None:
            raise down
        try:
            return act()
        except Unavailable as error:
            self._down[place.registry.name] = error
            raise


def _text(moment: datetime | None) -> str:
    """RFC 3339; empty for None."""
    return moment.isoformat().replace("+00:00", "Z") if moment else ""


def _told(error: RegistryPipelinesError) -> str:
    """With what to do where it is not one that passes by itself: a log-in that is missing."""
    told = f"{error.where}: {error.what}" if error.where else error.what
    return f"{told}. {error.do}" if isinstance(error, Unauthorized) and error.do else told
