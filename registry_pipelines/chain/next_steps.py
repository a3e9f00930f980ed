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
from registry_pipelines.config import ENVIRONMENT_VARIABLE, FILE_NAME
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


def next_steps(session: Session, release: Release, steps: Sequence[Step]) -> list[str]:
    """What to do so that a release passes, one sentence or command each, in the order of ``steps``.

    steps: as :func:`promote.documents.in_order` puts them. Where a new release has to be made the commands behind that
    are about it. Raises RegistryError where it must be read whether a builder attached provenance.
    """
    told = _Told(session, release)
    return [text for step in steps for text in told.of(step)]


@contextmanager
def denials_with_next_steps(session: Session, release: Release) -> Iterator[None]:
    """A PromotionDenied that passes gets what to do next, in place of its general advice."""
    try:
        yield
    except PromotionDenied as denied:
        denied.tell(next_steps(session, release, denied.steps))
        raise


class _Told:
    """The steps of one release. What it is called changes when a new one is to be made."""

    def __init__(self, session: Session, release: Release) -> None:
        self._session = session
        self._release = release
        self._image = session.image(release.image)
        self._name = f"{release.image}:{release.tag}"
        self._ways: dict[StepKind, Callable[[tuple[str, ...]], Iterator[str]]] = {
            "advisories": self._advisories,
            "accept": self._accept,
            "except": self._except,
            "image": self._new_image,
            "provenance": self._provenance,
        }

    def of(self, step: Step) -> Iterator[str]:
        way = self._ways.get(step.kind)
        return way(step.about) if way else iter([self._command(step.kind, self._name)])

    def _command(self, *words: str) -> str:
        """As typed where this one was: with the configuration's file, unless it is found without."""
        path = self._session.config.path
        found = path == Path(os.environ.get(ENVIRONMENT_VARIABLE) or FILE_NAME).absolute()
        return shlex.join(["registry-pipelines", *words, *(() if found else ("--config", str(path)))])

    def _advisories(self, ecosystems: tuple[str, ...]) -> Iterator[str]:
        what = "advisories of today" + (f", and those of {', '.join(ecosystems)}" if ecosystems else "")
        source = self._session.config.advisories.source
        if source is not None:
            yield f"Put {what} into {source} (`advisories.source`)"
        else:
            yield f"{self._command('advisories', 'update')}  # {what}"

    def _accept(self, keys: tuple[str, ...]) -> Iterator[str]:
        pairs = [key.partition(":")[::2] for key in keys]
        entries = [f'{{kind: {kind}, subject: "{subject}", reason: WHY}}' for kind, subject in pairs]
        where = f"policies.{self._image.policy}.accept_unknowns"
        yield f"Where you take the risk, write into `{where}`: {_some(entries)}"

    def _except(self, pairs: tuple[str, ...]) -> Iterator[str]:
        entries = []
        for pair in pairs:
            advisory, _, component = pair.partition(" ")
            pattern = f"{component.partition('?')[0].rpartition('@')[0]}@*"
            entries.append(f'{{advisory: {advisory}, component: "{pattern}", reason: WHY, expires: DAY}}')
        where = f"policies.{self._image.policy}.exceptions"
        yield f"Nobody has fixed these: do without the package, or write into `{where}`: {_some(entries)}"

    def _new_image(self, about: tuple[str, ...]) -> Iterator[str]:
        base = [_plain(each) for each in about if each.startswith(BASE_TYPES)]
        own = [_plain(each) for each in about if not each.startswith(BASE_TYPES)]
        build, name = self._image.build, self._release.image
        if build is None:
            yield f"Push a new release of {name} in which this is put right: {_some([*own, *base])}"
        else:
            if base:
                ours = "Update the machine that builds (base `python` is made of its files)"
                yield f"{ours if build.base == 'python' else f'Take a newer base than {build.base}'}: {_some(base)}"
            right = f", and put right: {_some(own)}" if own else ""
            yield f"In `images.{name}.build` set a new `version`{right}"
            yield self._command("build", name)
        self._name = f"{name}:{NEW}"

    def _provenance(self, _: tuple[str, ...]) -> Iterator[str]:
        """Nothing where it is attached: signing the release signs it."""
        place, name = self._session.source(self._release), self._release.image
        with suppress(ContentError):  # it is there, and damaged
            if not attached(place, self._release.digest, artifact_type=PROVENANCE_ARTIFACT):
                where = f"policies.{self._image.policy}.required"
                yield f"Have the builder of {name} attach SLSA provenance, or leave it out of `{where}`"


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
