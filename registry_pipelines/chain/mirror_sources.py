"""What a mirror takes, and from where: its upstreams opened, its lock read, everything pinned; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from registry_pipelines.chain.session import Session
from registry_pipelines.config import Mirror
from registry_pipelines.errors import InputError
from registry_pipelines.mirror.upstreams import Admit, MirrorPlan, OpenUpstream, plan_mirror
from registry_pipelines.oci.references import check_repository
from registry_pipelines.registry.protocol import Registry
from registry_pipelines.settings import unknown

if TYPE_CHECKING:  # many mirrors have no lock
    from registry_pipelines.mirror.lock import Difference, Lock


ARTIFACTS = "(artifacts)"
"""In place of an upstream: the mirror's artifacts, and none of its upstreams. No image is written so."""


@dataclass(frozen=True)
class Chosen:
    """A mirror with what it takes now."""

    settings: Mirror
    upstreams: tuple[OpenUpstream, ...]
    via: Registry | None
    """The DMZ registry; None without one."""
    to: Registry | None
    """The private registry; None where no wire leads there, and a bundle crosses."""
    plan: MirrorPlan
    changes: tuple[Difference, ...] = ()
    """How the upstreams differ from the lock by now; nothing without a lock."""

    @property
    def stops(self) -> tuple[Registry, ...]:
        """What is filled from this side, in order; none where a bundle takes everything from the sources."""
        return tuple(each for each in (self.via, self.to) if each is not None)

    @property
    def policies(self) -> list[str]:
        """The policies that are asked, by name; none where nothing is."""
        named = {each.settings.policy or self.settings.policy for each in self.upstreams}
        return sorted(each for each in named if each)


def choose(session: Session, name: str, *, upstream: str = "") -> Chosen:
    """Look at the upstreams and pin what is taken: what the lock says where the mirror has one, else what the rules
    select. upstream: only this one, as the configuration writes its image, or :data:`ARTIFACTS`. Raises InputError (no
    such mirror or upstream, a lock that is not there or cannot be read)."""
    settings = session.mirror(name)
    upstreams = () if upstream == ARTIFACTS else tuple(upstreams_of(session, settings, upstream=upstream))
    via = session.places.registry(settings.via) if settings.via else None
    to = session.places.registry(settings.to) if settings.across == "network" else None
    if settings.lock is None or not upstreams:
        return Chosen(settings, upstreams, via, to, plan_mirror(upstreams))
    from registry_pipelines.mirror.locked import plan_locked

    lock = only(require_lock(settings), upstream)
    locked = plan_locked(lock, upstreams, first_stop=via or to)
    return Chosen(settings, upstreams, via, to, locked.plan, locked.changes)


def upstreams_of(session: Session, mirror: Mirror, *, upstream: str = "") -> Iterator[OpenUpstream]:
    """A mirror's upstreams, opened; only one of them where that is told. Raises InputError for an unknown one, and for
    the source of our own image: no policy is asked that way."""
    names = {each.image for each in mirror.upstreams}
    if upstream and upstream not in names:
        raise InputError(unknown(upstream, names, "upstream"), where=f"mirrors.{mirror.name}.upstreams")
    ours = {str(session.places.source(image)): image.name for image in session.config.images.values()}
    for each in mirror.upstreams:
        if upstream not in ("", each.image):
            continue
        place = session.places.place(each.image)
        if str(place) in ours:
            raise InputError(
                f"{each.image} is where releases of {ours[str(place)]} appear, no foreign image",
                where=f"mirrors.{mirror.name}.upstreams",
                do=f"List {ours[str(place)]} in `images` of the mirror: what is promoted is taken",
            )
        repository = check_repository(session.config.mirrored_repository(mirror, each))
        yield OpenUpstream(source=place, repository=repository, settings=each)


def pinned_at(mirror: Mirror, opened: Sequence[OpenUpstream]) -> MirrorPlan:
    """What a mirror takes, of upstreams that may be opened elsewhere, as at its DMZ registry: what its lock says where
    it has one, else what the rules select there. Raises InputError for a lock that is not there."""
    if mirror.lock is None:
        return plan_mirror(opened)
    from registry_pipelines.mirror.locked import plan_locked

    return plan_locked(require_lock(mirror), opened).plan


def asked(session: Session, mirror: Mirror) -> AbstractContextManager[Admit | None]:
    """What the mirror's policies ask; nothing where it has none, as most."""
    if mirror.policy is None and all(each.policy is None for each in mirror.upstreams):
        return nullcontext()
    from registry_pipelines.chain.mirror_policy import admission

    return admission(session, mirror)


def require_lock(mirror: Mirror) -> Lock:
    """The mirror's lock. Raises InputError where it has none, or that cannot be read: nothing is taken then."""
    lock = read_lock(mirror)
    if lock is None:
        raise InputError(
            f"the lock of the mirror {mirror.name} is not there, so it takes nothing",
            where=str(mirror.lock),
            do=f"Run `registry-pipelines mirror lock {mirror.name}`, and have the file reviewed",
        )
    return lock


def read_lock(mirror: Mirror) -> Lock | None:
    """The mirror's lock; None where the file is not there. Raises InputError where the mirror is to have none, and for
    a file that cannot be read or is another mirror's."""
    if mirror.lock is None:
        raise InputError(
            f"mirrors.{mirror.name} has no `lock`",
            do=f"Write `lock: {mirror.name}.lock` there, the file that is then reviewed",
        )
    from registry_pipelines.mirror.lock import MAX_LOCK_BYTES, Lock

    try:
        with mirror.lock.open("rb") as file:
            raw = file.read(MAX_LOCK_BYTES + 1)
        text = raw.decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the lock cannot be read: {error}", where=str(mirror.lock)) from error
    if len(raw) > MAX_LOCK_BYTES:
        raise InputError(f"the lock has more than {MAX_LOCK_BYTES} bytes", where=str(mirror.lock))
    lock = Lock.parse(text, where=str(mirror.lock))
    if lock.mirror != mirror.name:
        raise InputError(f"this is the lock of mirror {lock.mirror!r}, not of {mirror.name}", where=str(mirror.lock))
    return lock


def only(lock: Lock, upstream: str) -> Lock:
    """The lines of one upstream; all of them unless one is told."""
    return replace(lock, tags=tuple(each for each in lock.tags if upstream in ("", each.image)))


def change_lines(changes: Sequence[Difference]) -> list[str]:
    """What is otherwise upstream than in the lock, one sentence each."""
    return [f"{each.sentence} upstream since the lock was written; the lock's is taken" for each in changes]
