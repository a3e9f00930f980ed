"""Where images and releases stand, read from the registries: what each channel names, whether that may ship, where it
is, and which newer ones are not promoted. Nothing is written, and no answer of a registry that is down is taken for
"not there"."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from registry_pipelines.chain.channels import next_channel
from registry_pipelines.chain.releases import deriving, find_tags, is_image, names_origin, origins
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
from registry_pipelines.evidence.model import Attestations, Verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.tags import order_key
from registry_pipelines.oci.times import read_time
from registry_pipelines.promote import gate
from registry_pipelines.promote.findings import newly_against
from registry_pipelines.promote.interventions import BrokenGlass, Revoked
from registry_pipelines.promote.leaving import Leaving, read_digest, read_leaving
from registry_pipelines.promote.order import Channel
from registry_pipelines.promote.standing import Standing
from registry_pipelines.promote.ways import returns
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

Ruling = Literal["allow", "deny", "outdated", "none", "unknown", "break-glass", "revoked"]
"""``outdated``: it was allowed, and may not be copied now: the policy changed, a later report says more, or it has no
promotion. ``none``: nobody judged it. ``unknown``: it could not be read. ``break-glass``: its policy denies it, and a
person let it go for a time. ``revoked``: a person denied it, whatever its verdict says."""

Presence = Literal["same", "other", "missing", "unreachable"]
"""Of a tag at a place, against the release's digest."""

NEWLY = "newly vulnerable"
"""Begins the reason that a finding later than the verdict gives."""

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
    alerts: tuple[str, ...] = ()
    """Break-glasses and revocations of it that nobody closed."""


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
    alerts: tuple[str, ...] = ()
    """Break-glasses and revocations of it and of the newer ones that nobody closed, one sentence each."""

    @property
    def exit_code(self) -> int:
        """0: shipped, the newest, and everywhere. 3: not, because nothing is promoted or may be, or a newer one is
        not promoted. 7: a registry did not answer. 6: a place has another, or none."""
        if self.ruling in ("deny", "outdated", "none", "break-glass", "revoked") or not all(
            each.rolled_back for each in self.newer
        ):
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
            "alerts": list(self.alerts),
            "exit_code": self.exit_code,
        }


def exit_code_of(statuses: Collection[Status]) -> int:
    """That of all: 3 before 7 before 6."""
    codes = {status.exit_code for status in statuses}
    return next((code for code in (NOT_SHIPPED, UNREACHABLE, INCOMPLETE) if code in codes), 0)


def statuses(session: Session, images: Sequence[str] = ()) -> list[Status]:
    """Where the channels of images (all unless named) stand, in the order of the configuration; one for each channel.
    Raises InputError: no such image, or trusted keys that cannot be read."""
    wanted = [session.image(name) for name in images] or list(session.config.images.values())
    named = [(image, channel) for image in wanted for channel in image.order]
    look = _Look(session.remembering(), session.keys.trusted_if_any())
    with Pool(THREADS, "status") as pool:
        found = list(pool.map(lambda each: look.channel(*each), named))
        asked = [
            (look.places(image, channel), status, channel.name)
            for (image, channel), status in zip(named, found, strict=True)
        ]
        return _with_places(look, pool, asked)


def release_statuses(session: Session, releases: Sequence[Release]) -> list[Status]:
    """Where releases stand, each by its version tag. Raises InputError, RegistryError of a source."""
    look = _Look(session.remembering(), session.keys.trusted_if_any())
    image_of = session.config.images
    with Pool(THREADS, "status") as pool:
        wanted = dict.fromkeys(each.image for each in releases)
        named = dict(zip(wanted, pool.map(lambda name: look.channel_digests(image_of[name]), wanted), strict=True))
        found = list(pool.map(lambda each: look.release(each, named[each.image]), releases))
        asked = [
            (look.places(image_of[each.image]), status, each.tag) for each, status in zip(releases, found, strict=True)
        ]
        return _with_places(look, pool, asked)


def _with_places(look: _Look, pool: Pool, named: Sequence[tuple[Mapping[str, Place], Status, str]]) -> list[Status]:
    """The same with what every target and mirror has, all asked at once. named: targets and mirrors, status, and the
    tag that must name the digest."""
    asked = [
        (number, name, pool.submit(look.presence, place, tag, status.digest))
        for number, (places, status, tag) in enumerate(named)
        if status.digest
        for name, place in places.items()
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

    def places(self, image: Image, channel: Channel | None = None) -> dict[str, Place]:
        """Targets and mirrors of an image, or of one of its channels: mirrors take what is on the last."""
        config, places = self._session.config, self._session.places
        targets = image.targets if channel is None else channel.targets or ()
        mirrors = {name: mirror for name, mirror in config.mirrors.items() if image.name in mirror.images}
        if channel is not None and channel.name != image.channel:
            mirrors = {}
        stops = {name: self._session.stops(mirror, image.repository)[-1] for name, mirror in mirrors.items()}
        return {**{name: places.target(image, name) for name in targets}, **stops}

    def presence(self, place: Place, tag: str, digest: str) -> tuple[Presence, str]:
        """What a tag names at a place, and why that is not known."""
        try:
            there = self._ask(place, lambda: digest_at(place, tag))
        except RegistryPipelinesError as error:
            return "unreachable", _told(error)
        return "missing" if there is None else "same" if there == digest else "other", ""

    def channel_digests(self, image: Image) -> dict[str, Digest | None]:
        """What each channel of an image names. Raises RegistryError."""
        return {each.name: self._named(image, each.name) for each in image.order}

    def channel(self, image: Image, channel: Channel) -> Status:
        """Where a channel of an image stands, without its places; what goes wrong is in the answer."""
        try:
            return self._channel(image, channel)
        except RegistryPipelinesError as error:
            return Status(image.name, channel.name, ruling="unknown", problems=(f"{image.name}: {_told(error)}",))

    def _channel(self, image: Image, channel: Channel) -> Status:
        digest = self._named(image, channel.name)
        status = Status(image.name, channel.name, reasons=(f"{channel.name} names nothing",))
        if digest is not None:
            status = self._standing(image, channel, digest)
        tags = sorted(self._ask(self._source(image), lambda: find_tags(self._session, image)), key=order_key)
        waiting = self._ask(self._source(image), lambda: origins(self._session, image))
        if digest is not None and not status.tag:  # nobody signed its version: of the newest tags the one that names it
            named = (tag for tag in tags[: -MOST_NEWER - 1 : -1] if self._named(image, tag) == digest)
            status = replace(status, tag=next(named, ""))
        newer = [tag for tag in reversed(tags) if not status.tag or order_key(tag) > order_key(status.tag)]
        newer += [tag for tag, done in waiting.items() if not done and order_key(tag) > order_key(status.tag)]
        newer.sort(key=order_key, reverse=True)
        found = {each.digest: each for tag in newer[:MOST_NEWER] if (each := self._newer(image, channel, tag, digest))}
        told = dict.fromkeys([*status.alerts, *(alert for each in found.values() for alert in each.alerts)])
        more = max(0, len(newer) - MOST_NEWER)
        return replace(status, newer=tuple(found.values()), more_newer=more, alerts=tuple(told))

    def release(self, release: Release, channels: Mapping[str, Digest | None]) -> Status:
        """Where a release stands, without its places: about the last channel that names it, or, where none does, the
        one it comes to next. channels: what those of its image name. Raises RegistryError."""
        image = self._session.image(release.image)
        naming = [each for each in image.order if channels[each.name] == release.digest]
        about = naming[-1] if naming else next_channel(self._session, release) or image.order[-1]
        status = self._standing(image, about, release.digest, release.tag, named=bool(naming))
        return replace(status, channel=", ".join(each.name for each in naming))

    def _newer(self, image: Image, channel: Channel, tag: str, named: Digest | None) -> Newer | None:
        """What keeps the release of a tag from a channel; None for what is no release of its own. named: by the
        channel."""
        digest = self._named(image, tag)
        if digest is None or digest == named or not is_image(self._source(image), digest):
            return None
        if names_origin(image, tag):
            return Newer(
                tag, digest, f"{'not rechunked' if image.rechunk else 'not converted'}: `{deriving(image, tag)}`"
            )
        status = self._standing(image, channel, digest, tag)
        newer = Newer(tag, digest, "promoted before, and the channel went back", True, alerts=status.alerts)
        if status.promoted:
            return replace(newer, why=status.reasons[0]) if status.ruling == "revoked" else newer
        newer = replace(newer, rolled_back=False)
        if status.held:
            return replace(newer, why=held_text(status.held))
        if status.ruling == "allow":
            from registry_pipelines.chain.next_steps import promoting, typed  # few starts come here

            do = typed(self._session.config, *promoting(image, tag, channel.name))
            why = WAITS if channel.promote == "manual" else "allowed, not promoted yet"
            return replace(newer, why=why, do=do)
        return replace(newer, why=status.reasons[0])

    def _standing(
        self, image: Image, channel: Channel, digest: Digest, tag: str = "", *, named: bool = False
    ) -> Status:
        """Verdict, times and size of a digest, about a channel. tag: its version; unless told, it is what the channel
        names, and its version the one it was promoted as. named: the channel names it, whatever tag was told."""
        place = self._source(image)
        contents = self._ask(place, lambda: contents_of(place, digest))
        problems = (contents.problem,) if contents.problem else ()
        size_bytes = None if contents.problem else contents.size_bytes
        status = Status(image.name, channel.name, tag, digest, created=contents.created, size_bytes=size_bytes)
        if self._verifier is None:
            return replace(status, reasons=("no trusted key is here, so nothing is believed",), problems=problems)
        found = self._ask(place, lambda: self._read(image, channel, digest, tag))
        standing, reports, known = found.standing, found.reports, found.known
        vulnerable = self._vulnerable(image, channel, standing, reports)
        mine = standing.promotions(channel.name)
        ruling, reasons = self._ruling(image, channel, standing, reports, promoted=named or not tag)
        if vulnerable:
            reasons = (
                *(f"{NEWLY}: {line}" for line in vulnerable),
                *(each for each in reasons if each not in vulnerable),
            )
        held = ""
        if ruling == "allow" and not mine:
            ruling, reasons, held = self._entering(image, channel, standing, known)
        version = tag or (mine[-1].version if mine else "")
        return replace(
            status,
            held=held,
            vulnerable=vulnerable,
            streams=self._streams(image, digest),
            tag=version,
            ruling=ruling,
            reasons=reasons,
            promoted=read_time(mine[-1].time) if mine else None,
            problems=problems,
            alerts=tuple(alert_of(each, image.name, version, self._now) for each in standing.interventions.listed),
        )

    def _streams(self, image: Image, digest: Digest) -> Streams | None:
        if image.stream is None or self._verifier is None:
            return None
        from registry_pipelines.stream.standing import read_standing

        place, verifier = self._source(image), self._verifier
        return self._ask(place, lambda: read_standing(place, digest, verifier))

    def _read(self, image: Image, channel: Channel, digest: Digest, tag: str) -> Leaving:
        """What is signed and what is attached about a digest."""
        place, verifier, policy = self._source(image), self._verifier, self._session.policy_of(image, channel)
        assert verifier is not None  # noqa: S101 - its caller looked
        if tag:
            return read_leaving(place, Release(image.name, tag, digest), policy, verifier)
        return read_digest(place, image.name, digest, policy, verifier, unversioned=channel.name)

    def _ruling(
        self, image: Image, channel: Channel, standing: Standing, reports: Sequence[Report], *, promoted: bool
    ) -> tuple[Ruling, tuple[str, ...]]:
        """The verdict that counts, and what speaks against a copy now. promoted: whether a promotion is wanted, too."""
        policy = self._session.policy_of(image, channel)
        latest = standing.verdicts.latest(image.name, policy.name)
        outcome = gate.may_leave(standing, reports, policy, channel=channel.name, now=self._now)
        if revoked := standing.interventions.revoked:
            return "revoked", (revoked.sentence(),)
        denied = latest is None or not latest.verdict.allow
        glass = standing.interventions.excuse(channel.name, image.name, self._now)
        only = denied or not returns(standing, channel.name)  # the gate itself lets it not be there
        if glass and only and outcome.passes:
            return "break-glass", tuple(outcome.accepted)
        if latest is None:
            return "none", (f"nobody judged it by policy {policy.name}",)
        if not latest.verdict.allow:
            return "deny", latest.verdict.reasons
        reasons = tuple(each for each in outcome.reasons if promoted or each not in outcome.of_promotion)
        return ("outdated" if reasons else "allow"), reasons

    def _vulnerable(
        self, image: Image, channel: Channel, standing: Standing, reports: Sequence[Report]
    ) -> tuple[str, ...]:
        """What reports later than the judged one add against the policy of an allowed release."""
        policy = self._session.policy_of(image, channel)
        latest = standing.verdicts.latest(image.name, policy.name)
        newest = max(reports, key=lambda report: report.order, default=None)
        if latest is None or not latest.verdict.allow or newest is None:
            return ()
        judged = [each for each in reports if str(Digest.of(each.encode())) == latest.verdict.report]
        if not judged or newest == judged[0]:
            return ()
        return tuple(newly_against(newest, judged[0], policy, image=image.name, now=self._now, vex=standing.vex))

    def _entering(
        self, image: Image, channel: Channel, standing: Standing, known: Attestations
    ) -> tuple[Ruling, tuple[str, ...], str]:
        """Of an allowed release what a promotion asks besides, of its start and of the way it comes: the ruling, what
        speaks against a promotion, and what it is held for."""
        place, policy, verifier = self._source(image), self._session.policy_of(image, channel), self._verifier
        latest = standing.verdicts.latest(image.name, policy.name)
        alone = len(image.order) == 1 and not channel.approvals
        if latest is None or verifier is None or (alone and not policy.asks_about_start):
            return "allow", (), ""
        from registry_pipelines.promote.starts import read_starts
        from registry_pipelines.promote.ways import read_way

        platforms, now = latest.verdict.platforms, self._now
        starts = self._ask(place, lambda: read_starts(place, platforms, policy, verifier))
        vouching, order = policy.attestors, image.order
        way = self._ask(
            place, lambda: read_way(place, standing, order, channel, known, verifier, now=now, attestors=vouching)
        )
        outcome = gate.may_enter(standing, policy, starts, way, platforms=platforms)
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


def alert_of(found: BrokenGlass | Revoked, image: str, version: str, now: datetime) -> str:
    """What is said of a break-glass or a revocation wherever a release stands, until somebody closes it."""
    name = f"{image}:{version or found.document.version}"
    if isinstance(found, Revoked):
        return f"REVOKED {name}: {found.sentence()}"
    ended = " (expired, not closed)" if found.expired(now) else ""
    return f"BREAK-GLASS {name}: {found.sentence()}{ended}"


def _text(moment: datetime | None) -> str:
    """RFC 3339; empty for None."""
    return moment.isoformat().replace("+00:00", "Z") if moment else ""


def _told(error: RegistryPipelinesError) -> str:
    """With what to do where it is not one that passes by itself: a log-in that is missing."""
    told = f"{error.where}: {error.what}" if error.where else error.what
    return f"{told}. {error.do}" if isinstance(error, Unauthorized) and error.do else told
