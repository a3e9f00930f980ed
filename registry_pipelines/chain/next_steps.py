"""What leads to a pass, as people do it: a verdict's steps as commands and changes of this configuration.

The gate says what is missing (``promote.documents.Step``); here stand the names of this configuration, so that what is
printed can be typed. Used by the stages that deny.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

from registry_pipelines.build.builder import PROVENANCE_ARTIFACT
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.ship import STAGES
from registry_pipelines.config import ENVIRONMENT_VARIABLE, FILE_NAME, Config, Image
from registry_pipelines.errors import ContentError, PromotionDenied
from registry_pipelines.evidence.artifacts import attached
from registry_pipelines.promote.documents import Step, StepKind
from registry_pipelines.release import Release

MAX_NAMED = 5
"""Things that one step names; the report lists all of them."""

NEW = "NEW_VERSION"
"""Stands in commands for the version tag of a release that is still to be made."""

BASE_TYPES = ("pkg:deb/", "pkg:apk/", "pkg:rpm/", "pkg:generic/python@")
"""Beginnings of the package URLs of what a base image brings: the distribution's packages and CPython itself."""


def next_steps(
    session: Session, release: Release, steps: Sequence[Step], *, until: str = "", channel: str = ""
) -> list[str]:
    """What to do so that a release passes, one sentence or command each, in the order of ``steps``; last the command
    that does the stages that are left, ``ship`` where these are several or a new release has to be made.

    steps: as :func:`promote.documents.in_order` puts them. until: the stage that somebody asked for, the last of
    ``steps`` unless told. channel: the one that it is to come to, of an image with several. Raises RegistryError where
    it must be read whether a builder attached provenance.
    """
    told = _Told(session, release, channel)
    changes = [text for step in steps for text in told.change(step)]
    stages = [step.kind for step in steps if step.kind not in told.changes]
    first = [channel for step in steps if step.kind == "promote" for channel in step.about]
    return [*changes, *told.commands(stages, first, until)] if stages else changes


def typed(config: Config, *words: str) -> str:
    """A command of this program as typed where this one was: with the configuration's file, unless it is found
    without."""
    found = config.path == Path(os.environ.get(ENVIRONMENT_VARIABLE) or FILE_NAME).absolute()
    return shlex.join(["registry-pipelines", *words, *(() if found else ("--config", str(config.path)))])


def promoting(image: Image, tag: str, channel: str) -> list[str]:
    """The words of a promotion; which channel is said where there are several."""
    return ["promote", f"{image.name}:{tag}", *(("--channel", channel) if len(image.order) > 1 else ())]


def lets_go(session: Session, release: Release, channel: str) -> list[str]:
    """How a person lets a release go that is allowed and waits, by this program or by Dagster."""
    command = typed(session.config, *promoting(session.image(release.image), release.tag, channel))
    return [f"`{command}`, or in Dagster the job `promote` with this release and your name"]


@contextmanager
def denials_with_next_steps(
    session: Session, release: Release, until: str = "", *, channel: str = ""
) -> Iterator[None]:
    """A PromotionDenied that passes gets what to do next, in place of its general advice."""
    try:
        yield
    except PromotionDenied as denied:
        denied.tell(next_steps(session, release, denied.steps, until=until, channel=channel))
        raise


class _Told:
    """The steps of one release. What it is called changes when a new one is to be made."""

    def __init__(self, session: Session, release: Release, channel: str) -> None:
        self._session = session
        self._tag = release.tag
        self._release = release
        self._image = session.image(release.image)
        named = [each for each in self._image.order if each.name == channel]
        self._channel = named[0] if named else self._image.order[0]
        self._policy = self._channel.policy or self._image.policy
        self._name = f"{release.image}:{release.tag}"
        self._is_new = False
        self.changes: dict[StepKind, Callable[[tuple[str, ...]], Iterator[str]]] = {
            "advisories": self._advisories,
            "accept": self._accept,
            "except": self._except,
            "image": self._new_image,
            "provenance": self._provenance,
            "index": self._index,
            "advice": self._advice,
            "attest": self._attest,
            "weights": self._weights,
            "start": self._start,
            "record": self._record,
            "measure": self._measure,
            "approve": self._approve,
            "deploy": self._deploy,
            "wait": self._wait,
        }

    def change(self, step: Step) -> Iterator[str]:
        """What is to be changed ahead of any stage; nothing for a stage."""
        change = self.changes.get(step.kind)
        return change(step.about) if change else iter(())

    def commands(self, stages: Sequence[str], first: Sequence[str], until: str) -> Iterator[str]:
        """What does these stages, a promotion last. first: channels that it comes to before."""
        yield from (self._promoting(channel) for channel in first)
        later = self._channel != self._image.order[0] and not until and not self._is_new
        ahead = [each for each in stages if each != "promote"] if later else stages
        if until or len(ahead) > 1 or self._is_new:
            last = until or ahead[-1]
            yield self._command("ship", self._name, *(() if last == STAGES[-1] else ("--until", last)))
        elif ahead == ["promote"]:
            yield self._promoting(self._channel.name)
        elif ahead:
            yield self._command(ahead[0], self._name)
        if later and "promote" in stages:
            yield self._promoting(self._channel.name)

    def _promoting(self, channel: str) -> str:
        return self._command(*promoting(self._image, self._tag, channel))

    def _command(self, *words: str) -> str:
        return typed(self._session.config, *words)

    def _advisories(self, ecosystems: tuple[str, ...]) -> Iterator[str]:
        what = "advisories of today" + (f", and those of {', '.join(ecosystems)}" if ecosystems else "")
        settings = self._session.config.advisories
        if settings.source is not None:
            yield f"Put {what} into {settings.source} (`advisories.source`)"
        elif settings.feed is None:
            yield f"{self._command('advisories', 'import', 'FILE')}  # {what}, exported where they can be fetched"
        else:
            yield f"{self._command('advisories', 'update')}  # {what}"

    def _accept(self, keys: tuple[str, ...]) -> Iterator[str]:
        pairs = [key.partition(":")[::2] for key in keys]
        entries = [f'{{kind: {kind}, subject: "{subject}", reason: WHY}}' for kind, subject in pairs]
        where = f"policies.{self._policy}.accept_unknowns"
        yield f"Where you take the risk, write into `{where}`: {_some(entries)}"

    def _except(self, pairs: tuple[str, ...]) -> Iterator[str]:
        entries = []
        for pair in pairs:
            advisory, _, component = pair.partition(" ")
            pattern = f"{component.partition('?')[0].rpartition('@')[0]}@*"
            entries.append(f'{{advisory: {advisory}, component: "{pattern}", owner: WHO, reason: WHY, expires: DAY}}')
        where = f"policies.{self._policy}.exceptions"
        yield f"Nobody has fixed these: do without the package, or write into `{where}`: {_some(entries)}"

    def _new_image(self, about: tuple[str, ...]) -> Iterator[str]:
        base = [_plain(each) for each in about if each.startswith(BASE_TYPES)]
        own = [_plain(each) for each in about if not each.startswith(BASE_TYPES)]
        made, build, name = self._image.made_here, self._image.build, self._release.image
        if made is None:
            yield f"Push a new release of {name} in which this is put right: {_some([*own, *base])}"
        else:
            if base:
                ours = "Update the machine that builds (base `python` is made of its files)"
                newer = f"Take a newer base than {build.base}" if build else "Take a newer base in the Dockerfile"
                yield f"{ours if build and build.base == 'python' else newer}: {_some(base)}"
            right = f", and put right: {_some(own)}" if own else ""
            yield f"In `images.{name}.{self._image.section}` set a new `version`{right}"
        self._name, self._is_new = name if made else f"{name}:{NEW}", True

    def _provenance(self, _: tuple[str, ...]) -> Iterator[str]:
        """Nothing where it is attached: signing the release signs it, unless a builder has a key of its own."""
        place, name = self._session.source(self._release), self._release.image
        if self._session.config.signing.of("builder") is not None:
            yield f"Have the builder of {name} sign its provenance: build it where the key of `signing.builder` is"
            return
        with suppress(ContentError):  # it is there, and damaged
            if not attached(place, self._release.digest, artifact_type=PROVENANCE_ARTIFACT):
                where = f"policies.{self._policy}.required"
                yield f"Have the builder of {name} attach SLSA provenance, or leave it out of `{where}`"

    def _advice(self, _: tuple[str, ...]) -> Iterator[str]:
        yield f"{self._command('lint', self._name, '--attest')}  # where the scanner's key is"

    def _weights(self, about: tuple[str, ...]) -> Iterator[str]:
        if "sign" in about:
            yield f"{self._command('weights', 'sign', self._name)}  # where the key of a person or builder is"
        for other in (each for each in about if each != "sign"):
            what = "" if other == "attach" else f"  # {other}; delete those"
            yield self._command("weights", "attach", self._name, "WEIGHTS") + what

    def _start(self, about: tuple[str, ...]) -> Iterator[str]:
        yield f"Have it start as `policies.{self._policy}` says: {_some(about)}"

    def _approve(self, capacities: tuple[str, ...]) -> Iterator[str]:
        yield from (self._command("approve", self._name, "--as", each) for each in capacities)

    def _deploy(self, about: tuple[str, ...]) -> Iterator[str]:
        """``web 1h after TIME``: a look before then would not be enough."""
        for name, _, when in (each.partition(" ") for each in about):
            yield self._command("deploy", name) + (f"  # {when}: a look that finds it there" if when else "")

    def _wait(self, about: tuple[str, ...]) -> Iterator[str]:
        yield f"Wait another {about[0]}; a person in a hurry breaks the glass: {self._command(*self._glass())}"

    def _glass(self) -> list[str]:
        return ["break-glass", "open", self._name, "--channel", self._channel.name, "--reason", "WHY", "--lasts", "4h"]

    def _record(self, platforms: tuple[str, ...]) -> Iterator[str]:
        yield f"{self._command('stream', 'record', self._name)}  # {_where(platforms)}"

    def _measure(self, platforms: tuple[str, ...]) -> Iterator[str]:
        yield f"{self._command('stream', 'measure', self._name)}  # {_where(platforms)}"

    def _attest(self, about: tuple[str, ...]) -> Iterator[str]:
        """Approvals are commands; the rest is said elsewhere, by whoever has those keys."""
        pairs = [each.partition(" ")[::2] for each in about]
        for attestor, what in pairs:
            if what == "approval":
                yield f"{self._command('approve', self._name, '--as', attestor)}  # with a key of {attestor}"
        others = [
            f"{attestor}: {what or 'who that is (`trust.attestors`)'}" for attestor, what in pairs if what != "approval"
        ]
        if others:
            yield f"Have these attestors say what the policy wants of them, with their keys: {_some(others)}"

    def _index(self, _: tuple[str, ...]) -> Iterator[str]:
        """What is derived for its form is converted again from what was pushed: that signs what is missing."""
        tag = self._name.partition(":")[2]
        origin = self._image.origin_of(tag) if self._image.stream and self._image.stream.derives else ""
        if origin:
            yield self._command("stream", "convert", f"{self._release.image}:{origin}")
        else:
            yield self._command("stream", "index", self._name)


def _where(platforms: Sequence[str]) -> str:
    """An image is started where its platform is, and its files are mounted there."""
    return f"on a machine of {' and of '.join(platforms)} that can mount images"


def _plain(about: str) -> str:
    """``libssl3 3.0.19 (fixed in 3.0.20)`` of the same with a package URL in front."""
    if not about.startswith("pkg:"):
        return about
    purl, _, rest = about.partition(": ")
    name, _, version = purl.partition("?")[0].rpartition("@")
    return f"{unquote(name.rpartition('/')[2])} {unquote(version)} ({rest})"


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - MAX_NAMED
    return ", ".join(texts[:MAX_NAMED]) + (f", and {more} more, which the report lists" if more > 0 else "")
