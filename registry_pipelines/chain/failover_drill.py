"""A fail-over drill: real clients pull while a stand-in of the first registry is down. No registry is touched but by
reading."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from registry_pipelines.chain.failover import failover_named
from registry_pipelines.chain.places import address
from registry_pipelines.chain.releases import releases_of
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config.failover import below, images_of, repository_with
from registry_pipelines.errors import InputError, LocalError, ToolMissing
from registry_pipelines.mirror.clusters.forms import write_in_order
from registry_pipelines.mirror.clusters.model import Endpoint, Placed, Route
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import held_alone
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.oci.references import DOCKER_HUB
from registry_pipelines.oci.tags import order_key
from registry_pipelines.oci.times import write_time
from registry_pipelines.progress import count_text
from registry_pipelines.recover.failover.drill.faults import Fault
from registry_pipelines.recover.failover.drill.kinds import Kind, Scheme
from registry_pipelines.recover.failover.drill.made import push_made
from registry_pipelines.recover.failover.drill.model import Attempt, Files, Form, Image, Outcome
from registry_pipelines.recover.failover.drill.programs import find_clients
from registry_pipelines.recover.failover.drill.settings import FailoverDrill, FailoverObjectives
from registry_pipelines.recover.failover.drill.trying import cases, try_all
from registry_pipelines.recover.failover.drill.verdicts import (
    Verdict,
    attempt_text,
    changes,
    judge,
    next_steps,
    remedy,
)
from registry_pipelines.recover.failover.model import DIAL_S, Failover
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.platforms import read_images
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.shared.documents import change

STAGE = "failover-drill"
MADE = "drill/made"
MADE_HOST = "first.invalid"
"""In the name of an image that was made for a drill: no name server knows it (RFC 2606)."""
MOST_KEPT_BYTES = 64 * 1024 * 1024
MOST_KEPT = 200
"""Drills in the state folder, the newest."""
MOST_LOOKED_AT = 5
"""Releases of an image, the newest, that are looked for in all registries."""


@dataclass(frozen=True)
class DrillOptions:
    """What a person may want otherwise. Empty and 0: as the configuration says, or all."""

    image: str = ""
    limit_s: float = 0.0
    clients: Sequence[Kind] = ()
    faults: Sequence[Fault] = ()
    schemes: Sequence[Scheme] = ()
    programs: Sequence[Path] = ()
    embedded: bool = False
    """Try the clients alone, with an image that is made for it and two registries of this process."""


class Drilled(msgspec.Struct, frozen=True, kw_only=True):
    """One drill, as the state folder keeps it."""

    time: str
    """RFC 3339, UTC: when it began."""
    ok: bool
    digest: str
    attempts: tuple[Attempt, ...]


def failover_drill(session: Session, name: str, options: DrillOptions) -> StageResult:
    """Have every client of this machine pull a digest while a stand-in of the first registry is down in every way, each
    in a daemon of its own; what happened is kept in the state folder.

    ``facts``: ``rto_s``, the longest a client took by itself; ``by_hand_s``, the longest pull after the remedy. Not
    ``ok`` where a client keeps none of what ``objectives`` says, and where one could not be tried. Raises InputError
    (no such section, no release that all have), ToolMissing (no client), LocalError (not root), RegistryError.
    """
    began, at = time.monotonic(), session.now()
    if os.geteuid() != 0:
        raise LocalError("a drill starts containerd and Docker of its own, which need root", do="Run it as root")
    settings = None if options.embedded and not name else failover_named(session, name)
    objectives = settings.objectives if settings else FailoverObjectives()
    usual = settings.drill if settings else FailoverDrill()
    clients, absent = find_clients(
        [*options.programs, *map(Path, usual.programs)], options.clients or [*map(Kind, usual.clients)]
    )
    if not clients:
        raise ToolMissing(
            f"no client that could be tried is on this machine: {'; '.join(absent) or 'none of those that were named'}",
            do="Install containerd or Docker, or name a folder that has one by --programs",
        )
    kept = Drills(session, settings.name if settings and not options.embedded else "")
    earlier = kept.read()
    rto_s, dial_s = objectives.rto.total_seconds(), settings.dial_s if settings else DIAL_S
    limit_s = options.limit_s or rto_s
    with _folder(session) as work:
        if options.embedded or settings is None:
            image = _made(work, dial_s)
        else:
            image = _chosen(session, settings, options.image)
        faults = options.faults or [*map(Fault, usual.faults)]
        wanted = list(cases(clients, options.schemes or usual.schemes, faults, list(image.places)))
        attempts = try_all(wanted, image, limit_s=limit_s, rto_s=rto_s, folder=work, progress=session.progress)
    changed = list(changes(earlier[-1].attempts, attempts)) if earlier else []
    problems = [attempt_text(each) for each in attempts if judge(each, objectives) is Verdict.MISSED]
    kept.add(Drilled(time=write_time(at), ok=not problems, digest=str(image.digest), attempts=tuple(attempts)))
    by_hand = [each for each in attempts if judge(each, objectives) is Verdict.BY_HAND]
    return StageResult(
        stage=STAGE,
        subject=settings.name if settings else "clients",
        action=_action(attempts, by_hand, problems),
        digest=str(image.digest),
        seconds=time.monotonic() - began,
        facts=_facts(attempts, by_hand, problems, limit_s),
        rows=[_row(each, objectives) for each in attempts],
        alerts=[f"it changed: {each}" for each in changed],
        reasons=problems,
        next_steps=list(next_steps(attempts, dial_s)),
        notes=[*(f"not here, so not tried: {each}" for each in absent), *_loopback(attempts)],
        ok=not problems,
    )


@contextmanager
def _folder(session: Session) -> Iterator[Path]:
    """Where clients have their data. What a drill that was killed left there goes first. Raises StateLocked: another
    drill is going on, and each would measure the other."""
    folder = session.config.state / "recover" / "failover-drill"
    with held_alone(folder / "lock", "another fail-over drill is going on"):
        for each in folder.iterdir():
            if each.is_dir():
                shutil.rmtree(each, ignore_errors=True)
        work = Path(tempfile.mkdtemp(dir=folder))
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _loopback(attempts: Sequence[Attempt]) -> Iterator[str]:
    """What of an answer holds for stand-ins alone."""
    if any(each.client is Kind.DOCKER_CONTAINERD and each.scheme == "https" for each in attempts):
        yield (
            f"{Kind.DOCKER_CONTAINERD} over https: on loopback Docker verifies no certificate and goes on without TLS "
            "where a handshake fails, so it waits; elsewhere a frozen registry costs 10 s for each request"
        )


def _action(attempts: Sequence[Attempt], by_hand: Sequence[Attempt], problems: Sequence[str]) -> str:
    tried = count_text(len(attempts), "pull")
    if problems:
        return f"{len(problems)} of {tried} missed the objective"
    return f"{tried}, {len(by_hand)} of them only after the registry was taken out by hand"


def _facts(
    attempts: Sequence[Attempt], by_hand: Sequence[Attempt], problems: Sequence[str], limit_s: float
) -> dict[str, Scalar]:
    over = [each.seconds for each in attempts if each.outcome is Outcome.FAILED_OVER]
    return {
        "clients": ", ".join(dict.fromkeys(each.named for each in attempts)),
        "pulls": len(attempts),
        "by_itself": len(over),
        "by_hand": len(by_hand),
        "missed": len(problems),
        "limit_s": limit_s,
        "rto_s": max(over, default=0.0),
        "by_hand_s": max((each.remedied_s or 0.0 for each in by_hand), default=0.0),
    }


def _row(attempt: Attempt, objectives: FailoverObjectives) -> dict[str, Scalar]:
    return {
        "client": attempt.named,
        "scheme": attempt.scheme,
        "fault": attempt.fault.value if attempt.fault else f"{attempt.alone} alone" if attempt.alone else "-",
        "outcome": attempt.outcome.value,
        "seconds": attempt.seconds,
        "remedied_s": "" if attempt.remedied_s is None else attempt.remedied_s,
        "verdict": judge(attempt, objectives).value,
        "take_it_out_of": remedy(attempt),
    }


def _made(work: Path, dial_s: int) -> Image:
    registries = {name: Place(LayoutRegistry(work / name), MADE) for name in ("first", "second")}
    [digest, _] = [push_made(place) for place in registries.values()]
    return Image(MADE, MADE_HOST, digest, registries, _files(MADE, MADE_HOST, dict.fromkeys(registries, MADE), dial_s))


def _chosen(session: Session, settings: Failover, asked: str) -> Image:
    """What is pulled of a section, in this order: the image that is asked for, ``drill.image``, ``health.digest``, the
    smallest of the newest releases. Raises InputError where no digest is in all of the registries."""
    known = images_of(session.config, settings)
    wanted = asked or settings.drill.image
    if wanted and wanted not in known:
        names = ", ".join(known) or "none"
        raise InputError(f"{wanted} is no image of the fail-over {settings.name}", do=f"Its images: {names}")
    if not wanted and settings.health.digest:
        repository, _, digest = settings.health.digest.partition("@")
        image = _at_all(session, settings, repository, Digest.parse(digest))
        if lacking := [str(place) for place in image.places.values() if digest_at(place, image.digest) is None]:
            raise InputError(
                f"{' and '.join(lacking)} lacks {image.digest}", where=f"failover.{settings.name}.health.digest"
            )
        return image
    found = [each for name in ([wanted] if wanted else known) for each in _newest(session, settings, name)]
    if not found:
        raise InputError(
            f"no release for {Platform.here()} is in all of {', '.join(settings.stands)}",
            where=f"failover.{settings.name}",
            do="Bring one there with `replicate`, write health.digest, or try the clients alone with --embedded",
        )
    return min(found, key=lambda each: each[0])[1]


def _newest(session: Session, settings: Failover, name: str) -> Iterator[tuple[int, Image]]:
    """The newest release of an image that all of the registries have and this machine can run, with its size; none
    where none of the last few is such a one."""
    repository = images_of(session.config, settings)[name]
    releases = sorted(releases_of(session, session.image(name)), key=lambda each: order_key(each.tag), reverse=True)
    for release in releases[:MOST_LOOKED_AT]:
        image = _at_all(session, settings, repository, release.digest, name)
        if all(digest_at(place, image.digest) == image.digest for place in image.places.values()):
            place = next(iter(image.places.values()))
            top = place.registry.get_manifest(place.repository, image.digest)
            here = [each for each in read_images(place, top) if Platform.here().matches(each.platform)]
            if here:
                yield sum(layer.size for layer in here[0].manifest.layers), image
                return


def _at_all(session: Session, settings: Failover, repository: str, digest: Digest, name: str = "") -> Image:
    """A digest in every registry of a section. repository: as the first has it. name: of our image, found by its
    repository unless told."""
    named = name or next((n for n, at in images_of(session.config, settings).items() if at == repository), "")
    paths = {
        each.registry: repository_with(session.config, named, each, repository) if named else below(each, repository)
        for each in settings.registries
    }
    first = session.config.registries[settings.registries[0].registry]
    places = {registry: Place(session.places.registry(registry), path) for registry, path in paths.items()}
    host = address(first)
    return Image(repository, host, digest, places, _files(repository, host, paths, settings.dial_s))


def _files(repository: str, host: str, paths: Mapping[str, str], dial_s: int) -> Files:
    """The files that ``recover failover`` would write for nodes, with stand-ins in place of registries."""

    def files(form: Form, urls: Mapping[str, str], ca: bytes) -> Mapping[str, bytes]:
        docker = form == "docker"
        name = DOCKER_HUB if docker else host
        placed = [
            Placed(
                Endpoint(urlsplit(url).netloc, url.startswith("http:"), certificates=ca),
                [Route(name, repository, repository if docker else paths[registry])],
                (name,),
                dial_s,
            )
            for registry, url in urls.items()
        ]
        written = write_in_order(form, STAGE, placed)
        if written.wrong:
            raise InputError(written.wrong[0], do="Name another image by --image, or other clients by --client")
        return written.files

    return files


class Drills:
    """The drills of one section that the state folder keeps. name empty: of clients alone."""

    def __init__(self, session: Session, name: str) -> None:
        self._documents = session.documents.under("recover")
        self._name = f"{name}-failover-drill.json" if name else "clients.json"

    def read(self) -> list[Drilled]:
        """All that are kept, the oldest first. Raises LocalError for a file that cannot be read."""
        found = self._documents.read(self._name, most=MOST_KEPT_BYTES)
        return self._decoded(found.content if found else None)

    def _decoded(self, raw: bytes | None) -> list[Drilled]:
        try:
            return msgspec.json.decode(raw, type=ready(list[Drilled])) if raw is not None else []
        except msgspec.DecodeError as error:
            raise LocalError(
                f"the drills that were kept cannot be read: {error}",
                where=f"{self._documents.where}/{self._name}",
                do="Move the file away",
            ) from error

    def add(self, drilled: Drilled) -> None:
        """Keep one more. Raises LocalError."""

        def added(raw: bytes | None) -> bytes:
            kept = [*self._decoded(raw), drilled][-MOST_KEPT:]
            return msgspec.json.format(msgspec.json.encode(kept), indent=1)

        change(self._documents, self._name, added, most=MOST_KEPT_BYTES)


__all__ = ["DrillOptions", "Drilled", "Drills", "failover_drill"]
