"""Who runs what, over the configuration: every source asked, and what of a registry is in use."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING

from registry_pipelines.chain.places import address, one_name
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.collect.live import Stop
from registry_pipelines.collect.rules import matches
from registry_pipelines.errors import InputError, ReferenceInvalid, RegistryPipelinesError, Unavailable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import age_text, count_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.settings import unknown

if TYPE_CHECKING:  # clouds are loaded where they are asked
    from registry_pipelines.config import RegistryPlace
    from registry_pipelines.config.usage import AwsUsage, GoogleUsage
    from registry_pipelines.inventory.usage.model import UsageSource, Use
    from registry_pipelines.oci.references import Reference
    from registry_pipelines.registry.ecr.calls import AwsCalls
    from registry_pipelines.registry.gar.access import GoogleAccess


def asked(session: Session, names: Iterable[str] = ()) -> tuple[list[Use], list[str], dict[str, str]]:
    """What the sources say (all of the configuration unless named), their notes, and by name why one did not answer.
    Raises InputError for an unknown name."""
    uses: list[Use] = []
    notes: list[str] = []
    failed: dict[str, str] = {}
    for name in list(names) or list(session.config.usage):
        source = open_source(session, name)
        try:
            uses += source.uses()
        except RegistryPipelinesError as error:
            failed[name] = f"{type(error).__name__}: {error}"
        notes += source.notes
    return uses, list(dict.fromkeys(notes)), failed


def in_use(session: Session, registry: str, repository: str = "") -> dict[Digest, str]:
    """As :func:`uses_of`, for who cannot go on without an answer. Raises Unavailable when a source that could speak of
    the repository (of any, unless told) does not answer: what runs is then not known, and nothing may go."""
    used, stops, _ = uses_of(session, registry)
    if held := [stop for stop in stops if not repository or matches(repository, stop.repositories)]:
        told = "; ".join(f"{stop.source}: {stop.why}" for stop in held)
        raise Unavailable(
            f"who runs what is not known: {told}", do="Nothing is deleted until every source of `usage` answers"
        )
    return used


def uses_of(session: Session, registry: str) -> tuple[dict[Digest, str], tuple[Stop, ...], tuple[str, ...]]:
    """Digests of a registry that something runs, each with who does; what could not be known; and notes. A use that
    names a tag alone counts for what the tag names now. Raises RegistryError: the registry itself does not answer."""
    if not session.config.usage:
        return {}, (), ()
    uses, notes, failed = asked(session)
    stops = [Stop(name, why) for name, why in failed.items()]
    names = names_of(session.config.registries[registry])
    found: dict[Digest, str] = {}
    for use in uses:
        named = use.reference()
        if named is None and any(use.image.lower().startswith(f"{name.removesuffix(':443')}/") for name in names):
            stops.append(Stop(use.source, f"{use.where} names no image that can be read: {use.image[:200]!r}"))
        if named is None or one_name(named.registry) not in names:
            continue
        repository = repository_of(session.config.registries[registry], named)
        digest = named.digest or digest_at(Place(session.places.registry(registry), repository), named.tag)
        if digest is not None and (digest not in found or not use.weak):
            found[digest] = use.sentence
    return found, tuple(dict.fromkeys(stops)), tuple(notes)


def names_of(settings: RegistryPlace) -> frozenset[str]:
    """All names that a place may have for a registry, each as :func:`one_name`: what runs by a private link, by a FIPS
    or an IPv6 name of ECR, or by a host of Container Registry, is in use all the same."""
    names = {address(settings), getattr(settings, "reachable_as", None) or ""}
    if settings.kind == "ecr":
        from registry_pipelines.registry.ecr.hosts import EcrHost

        forms = product((False, True), (False, True))
        names |= {EcrHost(settings.account, settings.region, *form).name for form in forms}
    elif settings.kind == "gar":
        from registry_pipelines.registry.gar.hosts import LEGACY

        own = {settings.location, LEGACY.get(settings.gcr_host or "", "")}
        names |= {f"{location}-docker.pkg.dev" for location in own if location}
        names |= {host for host, location in LEGACY.items() if location in own}
    return frozenset(one_name(name) for name in names if name)


def repository_of(settings: RegistryPlace, named: Reference) -> str:
    """The repository of a use as the registry itself has it. Container Registry's hosts have other names for theirs."""
    if settings.kind != "gar":
        return named.repository
    from registry_pipelines.registry.gar.hosts import locate, read_host

    own, written = read_host(settings.host), read_host(named.registry)
    if own is None or written is None or own == written:
        return named.repository
    try:
        there, image = locate(written, named.repository)
    except ReferenceInvalid:
        return named.repository
    project = there.project.replace(":", "/")
    return f"{project}/{image}" if own.legacy == there.repository else f"{project}/{there.repository}/{image}"


def open_source(session: Session, name: str) -> UsageSource:
    """A source of the configuration; nothing is asked yet. Raises InputError."""
    settings = session.config.usage.get(name)
    if settings is None:
        raise InputError(unknown(name, session.config.usage, "source of usage"), do="Name one of `usage`")
    match settings.kind:
        case "ecs":
            from registry_pipelines.inventory.usage.ecs import EcsSource

            return EcsSource(name, _aws(settings), settings.clusters)
        case "lambda":
            from registry_pipelines.inventory.usage.functions import LambdaSource

            return LambdaSource(name, _aws(settings))
        case "sagemaker":
            from registry_pipelines.inventory.usage.sagemaker import SageMakerSource

            return SageMakerSource(name, _aws(settings))
        case "inspector":
            from registry_pipelines.inventory.usage.inspector import InspectorSource

            return InspectorSource(name, _aws(settings))
        case "pulls":
            return _pulls(session, name)
        case "cloud-run":
            from registry_pipelines.inventory.usage import cloud_run
            from registry_pipelines.inventory.usage.google_rest import GoogleRest

            rest = GoogleRest(_google(settings), cloud_run.SERVICE)
            return cloud_run.CloudRunSource(name, rest, settings.project, settings.locations)
        case "vertex":
            from registry_pipelines.inventory.usage import vertex
            from registry_pipelines.inventory.usage.google_rest import GoogleRest

            rests = {each: GoogleRest(_google(settings), vertex.service(each)) for each in settings.locations}
            return vertex.VertexSource(name, rests, settings.project)


def _pulls(session: Session, name: str) -> UsageSource:
    from registry_pipelines.config.clouds import EcrRegistry
    from registry_pipelines.config.usage import PullUsage
    from registry_pipelines.inventory.usage.pulls import PullSource
    from registry_pipelines.registry.ecr.images import EcrImages

    settings = session.config.usage[name]
    registry = session.config.registries[settings.registry] if isinstance(settings, PullUsage) else None
    if not isinstance(settings, PullUsage) or not isinstance(registry, EcrRegistry):
        raise InputError(f"usage.{name}: {getattr(settings, 'registry', name)} is no registry of kind ecr")
    calls = _aws(settings)
    return PullSource(
        name,
        EcrImages(registry.account, calls.access, calls=calls),
        registry.host,
        within=settings.within,
        scanners=settings.scanners,
        now=session.now(),
    )


def _aws(settings: AwsUsage) -> AwsCalls:
    from registry_pipelines.registry.ecr.access import AwsAccess
    from registry_pipelines.registry.ecr.calls import AwsCalls

    return AwsCalls(
        AwsAccess(
            region=settings.region,
            profile=settings.profile,
            role=settings.role,
            external_id=settings.external_id,
            endpoint=settings.endpoint or "",
        )
    )


def _google(settings: GoogleUsage) -> GoogleAccess:
    from registry_pipelines.registry.gar.access import GoogleAccess

    return GoogleAccess(
        project=settings.project,
        credentials_file=settings.credentials,
        impersonate=settings.impersonate,
        endpoint=settings.endpoint or "",
    )


def told(session: Session, names: Sequence[str] = ()) -> StageResult:
    """What every source says, as a result; not ``ok`` when one did not answer. Raises InputError: without any, too."""
    started = time.monotonic()
    if not names and not session.config.usage:
        raise InputError(
            "no source of `usage` is configured: who runs what is not known", do="Name one: docs/inventory.md"
        )
    uses, notes, failed = asked(session, names)
    rows: list[dict[str, Scalar]] = [
        {
            "source": use.source,
            "image": use.image,
            "digest": str(named.digest or "") if (named := use.reference()) else "",
            "where": use.where,
            "since": f"{age_text((session.now() - use.since).total_seconds())} ago" if use.since else "",
            "how": "pulled" if use.weak else "runs" if use.running else "may start",
        }
        for use in uses
    ]
    sources = list(names) or list(session.config.usage)
    missing = f"; {count_text(len(failed), 'source')} did not answer" if failed else ""
    return StageResult(
        stage="usage",
        subject=", ".join(sources),
        action=f"{count_text(len(rows), 'use')} of {count_text(len({row['image'] for row in rows}), 'image')}{missing}",
        seconds=time.monotonic() - started,
        facts={"sources": len(sources), "uses": len(rows), "unanswered": len(failed)},
        rows=rows,
        reasons=[f"{name}: {why}" for name, why in failed.items()],
        notes=notes,
        ok=not failed,
        exit_code=Unavailable.exit_code if failed else 0,
    )
