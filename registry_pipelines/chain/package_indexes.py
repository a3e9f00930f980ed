"""The package indexes of a configuration, opened for a build or a command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from registry_pipelines.errors import InputError
from registry_pipelines.settings import unknown

if TYPE_CHECKING:
    from registry_pipelines.build.packages.opening import CarriedWheels, Opener
    from registry_pipelines.build.packages.sources import OpenIndex, Sources
    from registry_pipelines.chain.session import Session
    from registry_pipelines.evidence.keyless.trust_root import TrustRoot


@contextmanager
def open_sources(session: Session, names: Sequence[str]) -> Iterator[Sources | None]:
    """The indexes with these names, in this order; None for no name. Raises InputError for an unknown one, and as
    ``Opener.open``."""
    if not names:
        yield None
        return
    from registry_pipelines.build.cache import BuildCache  # builds without an index need none of this
    from registry_pipelines.build.packages.opening import Opener
    from registry_pipelines.build.packages.sources import Sources
    from registry_pipelines.build.wheel_store import WheelStore

    state = session.config.state / "build"
    told: dict[str, None] = {}
    with closing(BuildCache(state / "cache.sqlite")) as cache:
        store = WheelStore(state / "wheels", cache)
        opener = Opener(
            state, store, artifact=lambda text: _artifact(session, text), said=lambda text: told.update({text: None})
        )
        roots = (lambda: _trust_roots(session)) if session.config.signing.trust_root else None
        indexes = [open_named(session, opener, name) for name in names]
        sources = Sources(indexes, state=opener.documents, roots=roots, said=told)
        with closing(sources):
            yield sources


def open_named(session: Session, opener: Opener, name: str) -> OpenIndex:
    """One index. Raises as :func:`open_sources`."""
    settings = session.config.packages.get(name)
    if settings is None:
        said = unknown(name, session.config.packages, "package index")
        raise InputError(said, do="Name an index of `packages` in the configuration")
    return opener.open(settings)


def _artifact(session: Session, text: str) -> CarriedWheels:
    from registry_pipelines.build.packages.opening import CarriedWheels
    from registry_pipelines.chain.wheels import set_here  # only behind a gap

    folder, digest, predicate = set_here(session, text)
    return CarriedWheels(folder, digest, _origins(predicate.get("origins")))


def _origins(told: Any) -> dict[str, dict[str, str]]:
    """What ``wheels push`` signed of where each wheel came from; an older build wrote nothing."""
    files = told.items() if isinstance(told, dict) else ()
    return {
        str(filename): {str(name): value for name, value in about.items() if isinstance(value, str)}
        for filename, about in files
        if isinstance(about, dict)
    }


def _trust_roots(session: Session) -> Sequence[TrustRoot]:
    from registry_pipelines.evidence.keyless.trust_root import load_trust_roots  # brings the cryptography along

    path = session.config.signing.trust_root
    return load_trust_roots(path) if path else ()


__all__ = ["open_named", "open_sources"]
