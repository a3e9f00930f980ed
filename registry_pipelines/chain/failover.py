"""Fail-over over a configuration: what is where, and the files that lead nodes to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from registry_pipelines.chain.clusters import endpoint_at, routes_of
from registry_pipelines.chain.session import Session
from registry_pipelines.config.failover import below, images_of, repository_with
from registry_pipelines.errors import InputError
from registry_pipelines.mirror.clusters.forms import write_in_order
from registry_pipelines.mirror.clusters.model import Placed, Route, Written
from registry_pipelines.mirror.model import CLUSTER_FORMS, ClusterForm, host_path
from registry_pipelines.recover.failover.model import Failover
from registry_pipelines.settings import unknown


def failover_named(session: Session, name: str) -> Failover:
    """A section of `failover`; the only one where none is named. Raises InputError with the closest name."""
    known = session.config.failover
    if not name and len(known) == 1:
        return next(iter(known.values()))
    if name not in known:
        if not known:
            raise InputError("the configuration has no `failover`", do="Add one (docs/failover.md)")
        several = f"there are {len(known)} sections in `failover`: {', '.join(known)}"
        raise InputError(unknown(name, known, "fail-over") if name else several, do="Name one of `failover`")
    return known[name]


def placed(session: Session, settings: Failover, order: Sequence[str] = ()) -> list[Placed]:
    """Every registry of a fail-over, in an order, with the place of each image in it. order: registries' names; that of
    the configuration unless told. Raises LocalError, ReferenceInvalid."""
    first = session.config.registries[settings.registries[0].registry]
    primary = endpoint_at(first)
    ours = (primary.host, *((settings.dns.name,) if settings.dns else ()))
    hosts = dict.fromkeys((*ours, *settings.names))
    found = []
    for name in order or settings.stands:
        endpoint = endpoint_at(session.config.registries[name])
        routes = [
            *(Route(host, at_first, there) for at_first, there in _own(session, settings, name) for host in hosts),
            *_foreign(session, settings, name),
        ]
        trusted = replace(endpoint, ca_file=f"ca-{host_path(endpoint.host)}.crt")
        found.append(Placed(trusted, sorted(set(routes)), ours, settings.dial_s))
    return found


def _own(session: Session, settings: Failover, name: str) -> Iterator[tuple[str, str]]:
    for image, at_first in images_of(session.config, settings).items():
        yield at_first, repository_with(session.config, image, settings.stands[name], at_first)


def _foreign(session: Session, settings: Failover, name: str) -> Iterator[Route]:
    stand = settings.stands[name]
    for mirror in settings.mirrors:
        for route in routes_of(session, session.mirror(mirror)):
            yield replace(route, path=below(stand, route.path))


def files(session: Session, settings: Failover, order: Sequence[str] = ()) -> dict[ClusterForm, Written]:
    """What nodes are told, in every form; a form that cannot say it has no files, and says why in ``wrong``. Raises as
    :func:`placed`."""
    found = placed(session, settings, order)
    return {form: write_in_order(form, settings.name, found) for form in CLUSTER_FORMS}
