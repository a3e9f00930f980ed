"""Opens the logs of ``report: audit: sources``: each with the client of its cloud, or its files. Nothing is asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from registry_pipelines.chain.places import address, one_name
from registry_pipelines.chain.session import Session
from registry_pipelines.config import EcrRegistry, EmbeddedRegistry, GarRegistry
from registry_pipelines.errors import InputError
from registry_pipelines.registry.client.origins import is_loopback
from registry_pipelines.settings import unknown
from registry_pipelines.shared.documents import Documents

if TYPE_CHECKING:  # clouds are loaded where they are asked
    from registry_pipelines.registry.embedded.http_server import HttpServer
    from registry_pipelines.report.audit.model import LogSource, Names
    from registry_pipelines.report.audit.settings import CloudTrailFilesSource, NotificationsSource, SourceSettings

_R = TypeVar("_R", EcrRegistry, GarRegistry, EmbeddedRegistry)

NAMING = ("cloudtrail", "cloudtrail-files", "cloudtrail-lake", "google-logs", "notifications", "access-log")
"""Kinds of logs that say who did it."""


def settings_of(session: Session, name: str) -> SourceSettings:
    """A source of the configuration. Raises InputError."""
    sources = session.config.report.audit.sources
    if name not in sources:
        raise InputError(unknown(name, sources, "source of the audit"), do="Name one of `report.audit.sources`")
    return sources[name]


def open_source(session: Session, name: str) -> LogSource:
    """A log. Raises InputError (a registry of another kind), ToolMissing."""
    settings, names = settings_of(session, name), names_of(session)
    match settings.kind:
        case "cloudtrail":
            from registry_pipelines.events.cloudtrail_api import CloudTrailHistory

            ecr = _ecr(session, name, settings.registry)
            return CloudTrailHistory(name, session.places.aws(ecr), ecr.region, names=names)
        case "cloudtrail-lake":
            from registry_pipelines.events.cloudtrail_api import CloudTrailLake

            ecr = _ecr(session, name, settings.registry)
            return CloudTrailLake(name, session.places.aws(ecr), ecr.region, settings.store, names=names)
        case "cloudtrail-files":
            return _files(session, name, settings, names)
        case "google-logs":
            from registry_pipelines.events.google_audit import SERVICE, GoogleLogs
            from registry_pipelines.inventory.usage.google_rest import GoogleRest

            gar = _expect(session, name, settings.registry, GarRegistry, "gar")
            return GoogleLogs(name, GoogleRest(gar.access(), SERVICE), gar.project, gar.location, names=names)
        case "events":
            from registry_pipelines.chain.events import folder_of
            from registry_pipelines.chain.events import settings_of as events_of
            from registry_pipelines.events.heard import HeardEvents

            events_of(session, settings.registry)
            return HeardEvents(name, folder_of(session, settings.registry))
        case "notifications":
            from registry_pipelines.events.notifications import Notifications, received_lines

            kept = _written(session, settings.files) if settings.files else received_lines(received(session, settings))
            return Notifications(name, settings.registry, kept)
        case "access-log":
            from registry_pipelines.events.access_log import AccessLog

            own = _expect(session, name, settings.registry, EmbeddedRegistry, "embedded")
            if own.access_log is None:
                raise InputError(
                    f"the registry {settings.registry!r} writes no access log",
                    do=f"Name its file: registries.{settings.registry}.access_log",
                )
            return AccessLog(name, settings.registry, own.access_log)


def received(session: Session, settings: NotificationsSource) -> Documents:
    """Where notifications are kept that ``report receive`` takes."""
    return session.documents.under(f"report/audit/received/{settings.name}")


def receiver(session: Session, name: str) -> HttpServer:
    """See ``Chain.receiver``."""
    from registry_pipelines.events.notifications import Receiver
    from registry_pipelines.registry.embedded.http_server import HttpServer

    settings = settings_of(session, name)
    if settings.kind != "notifications" or settings.files is not None:
        raise InputError(f"the log {name!r} is not received", do="Name one of kind notifications without `files`")
    host, _, port = settings.listen.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(
            f"{settings.listen!r} has no port", do=f"Write host:port in report.audit.sources.{name}.listen"
        )
    if not settings.token.reveal() and not is_loopback(host):
        raise InputError(
            f"whoever reaches {settings.listen} could tell of what never was, and no token is asked for",
            do=f"Set report.audit.sources.{name}.token as ${{VARIABLE}}, or listen on 127.0.0.1",
        )
    take = Receiver(received(session, settings), token=settings.token.reveal())
    return HttpServer(take, host=host, port=int(port))


def names_of(session: Session) -> Names:
    """What the configuration calls a registry's host; the host itself where it has none."""
    known = {one_name(host): name for name, each in session.config.registries.items() if (host := address(each))}
    cache: dict[str, str] = {}

    def name_of(host: str) -> str:
        if host not in cache:
            cache[host] = known.get(one_name(host), host)
        return cache[host]

    return name_of


def name_in_logs(session: Session) -> dict[str, str]:
    """Of each registry of the configuration the name that events have: of several with one host the one of them."""
    name_of = names_of(session)
    return {
        name: name_of(host) if (host := address(each)) else name for name, each in session.config.registries.items()
    }


def registries_that_name_callers(session: Session) -> frozenset[str]:
    """Registries of which a log says who did it; of log files of a trail every registry of kind ecr."""
    found: set[str] = set()
    for each in session.config.report.audit.sources.values():
        if each.kind == "cloudtrail-files":
            found |= {name for name, one in session.config.registries.items() if isinstance(one, EcrRegistry)}
        elif each.kind in NAMING:
            found.add(each.registry)
    return frozenset(found)


def _files(session: Session, name: str, settings: CloudTrailFilesSource, names: Names) -> LogSource:
    from registry_pipelines.events.cloudtrail_files import CloudTrailFiles
    from registry_pipelines.stores.store import open_store

    where = settings.store if "://" in settings.store else _written(session, Path(settings.store))
    if "://" not in where and not Path(where).is_dir():
        raise InputError("there is no such folder of log files", where=where, do="Name the folder CloudTrail")
    store = open_store(
        where, region=settings.bucket_region, endpoint=settings.endpoint or "", aws_profile=settings.profile
    )
    return CloudTrailFiles(name, store, names=names, regions=settings.regions)


def _written(session: Session, path: Path) -> str:
    """A path of the file, which is relative to its folder."""
    return str(session.config.path.parent / path)


def _ecr(session: Session, name: str, registry: str) -> EcrRegistry:
    return _expect(session, name, registry, EcrRegistry, "ecr")


def _expect(session: Session, name: str, registry: str, kind: type[_R], word: str) -> _R:
    settings = session.config.registries[registry]
    if not isinstance(settings, kind):
        raise InputError(
            f"the log {name!r} needs a registry of kind {word}, and {registry!r} is of kind {settings.kind}",
            do=f"Name another in report.audit.sources.{name}.registry",
        )
    return settings
