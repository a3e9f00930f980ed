"""The clouds' own scanners beside our advisories: the registry that has the image is asked, once for each platform.

Nothing that goes wrong there ends a scan: it becomes an unknown of the report, and the policy decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry_pipelines.chain.session import Session
from registry_pipelines.config import EcrRegistry, GarRegistry
from registry_pipelines.config.scanning import Scanner
from registry_pipelines.errors import RegistryPipelinesError, ToolMissing, Unavailable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.platforms import Entry, images_of, read_entries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.scan.clouds.states import OTHER_PLATFORM, End
from registry_pipelines.scan.clouds.waiting import Waiting
from registry_pipelines.scan.other_scanners import Opinion, about_scanner
from registry_pipelines.scan.report import OtherScanner, PlatformPackages, UnknownKind

if TYPE_CHECKING:
    from registry_pipelines.scan.clouds.components import Components


@dataclass(frozen=True)
class _Asked:
    """One image that a scanner is asked about. first_linux: whether it is the first linux/amd64 of its release."""

    session: Session
    scanner: Scanner
    settings: EcrRegistry | GarRegistry
    place: Place
    release: Release
    digest: Digest
    components: Components
    first_linux: bool

    @property
    def waiting(self) -> Waiting:
        return Waiting(self.scanner.timeout.total_seconds())


def cloud_opinions(
    session: Session, place: Place, release: Release, packages: Sequence[PlatformPackages]
) -> list[Opinion]:
    """What each of the configured clouds' scanners says about each image of a release that its registry has; about
    images elsewhere it is not asked. Raises RegistryError; whatever is wrong with a scanner is an unknown."""
    scanners = {kind: scanner for kind, scanner in session.config.scanners.items() if kind in _KINDS}
    if not scanners:
        return []
    from registry_pipelines.scan.clouds.components import Components

    top = place.registry.get_manifest(place.repository, release.digest)
    images = images_of(read_entries(place, top, configs=False))
    by_digest = {each.manifest.digest: each.components for each in packages}
    first = _first_linux(images, packages)
    said: list[Opinion] = []
    for kind, scanner in scanners.items():
        settings = _settings(session, release, scanner)
        if not isinstance(settings, _WANTED[kind]):
            continue  # of images elsewhere this cloud knows nothing
        said += [
            _opinion(
                kind,
                _Asked(
                    session,
                    scanner,
                    settings,  # type: ignore[arg-type]  # one of the two, see above
                    place,
                    release,
                    entry.digest,
                    Components(by_digest.get(entry.digest, ())),
                    entry.digest == first,
                ),
            )
            for entry in images
        ]
    return said


def _settings(session: Session, release: Release, scanner: Scanner) -> object:
    return session.config.registries[scanner.registry or session.image(release.image).registry]


def _first_linux(images: Sequence[Entry], packages: Sequence[PlatformPackages]) -> Digest | None:
    platforms = {each.manifest.digest: each.platform for each in packages}
    for entry in images:
        platform = platforms.get(entry.digest)
        if platform is not None and (platform.os, platform.architecture) == ("linux", "amd64"):
            return entry.digest
    return None


def _opinion(kind: str, asked: _Asked) -> Opinion:
    try:
        return _KINDS[kind](asked)
    except RegistryPipelinesError as error:
        unknown: UnknownKind = "pending" if isinstance(error, Unavailable) else "incomplete"
        what = error.what if isinstance(error, ToolMissing) else str(error)
        return _nothing(kind, End(unknown, f"{asked.digest.short}: {what}"))


def _nothing(kind: str, end: End) -> Opinion:
    return Opinion(OtherScanner(name=kind, covers=()), unknowns=(about_scanner(end.kind, kind, end.reason),))


def _ecr(asked: _Asked) -> Opinion:
    from registry_pipelines.scan.clouds.ecr import read_ecr
    from registry_pipelines.scan.clouds.ecr_scan import EcrScan

    assert isinstance(asked.settings, EcrRegistry)  # noqa: S101  for mypy; see _WANTED
    scan = EcrScan(asked.session.places.aws(asked.settings), asked.settings.account, asked.settings.region)
    answer = scan.ask(asked.place.repository, asked.digest, asked.waiting)
    return read_ecr(answer, asked.digest, asked.components, scanner="ecr")


def _inspector(asked: _Asked) -> Opinion:
    from registry_pipelines.scan.clouds.ecr import EcrAnswer, read_ecr
    from registry_pipelines.scan.clouds.ecr_scan import EcrScan

    assert isinstance(asked.settings, EcrRegistry)  # noqa: S101
    scan = EcrScan(asked.session.places.aws(asked.settings), asked.settings.account, asked.settings.region)
    waiting = asked.waiting
    end = scan.coverage(asked.place.repository, asked.digest)
    while end is not None and end.kind == "pending" and waiting.again():
        end = scan.coverage(asked.place.repository, asked.digest)
    answer = scan.ask(asked.place.repository, asked.digest, waiting, start=False)
    if end is None and answer.enhanced is None and answer.end is None:
        end = End("uncovered", "the registry has a basic scan of it, and none of Inspector")
    if end is not None:
        answer = EcrAnswer(findings=answer.findings, enhanced=answer.enhanced or (), end=end)
    return read_ecr(answer, asked.digest, asked.components, scanner="inspector")


def _resource(asked: _Asked, digest: Digest) -> str:
    return f"https://{asked.settings.host}/{asked.place.repository}@{digest}"


def _google(asked: _Asked) -> Opinion:
    from registry_pipelines.scan.clouds.google import read_google
    from registry_pipelines.scan.clouds.google_scan import ask_google

    settings = asked.settings
    assert isinstance(settings, GarRegistry)  # noqa: S101
    several = asked.digest != asked.release.digest
    if several and not asked.first_linux:
        return _nothing("google", End(OTHER_PLATFORM.kind, f"{asked.digest.short}: {OTHER_PLATFORM.reason}"))
    names = [asked.digest, *([asked.release.digest] if several else [])]
    resources = [_resource(asked, digest) for digest in names]
    found = ask_google(asked.session.places.google(settings), settings.project, resources, asked.waiting)
    return read_google(*found, asked.digest, asked.components)


def _on_demand(asked: _Asked) -> Opinion:
    from registry_pipelines.scan.clouds.google import opinion
    from registry_pipelines.scan.clouds.on_demand import OnDemandScan, package_data

    settings, name = asked.settings, "google-on-demand"
    assert isinstance(settings, GarRegistry)  # noqa: S101
    sent, left = package_data(asked.components.all)
    ends = []
    if left:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(left.items()))
        ends.append(End("uncovered", f"components that it cannot compare: {counts}"))
    scan = OnDemandScan(asked.session.places.google(settings).access, settings.project, settings.location)
    found, end = scan.ask(_resource(asked, asked.digest), sent, asked.waiting)
    ends += [end] if end else []
    now = asked.session.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    return opinion(found, asked.digest, asked.components, scanner=name, ends=ends, newest="" if end else now)


_KINDS: dict[str, Callable[[_Asked], Opinion]] = {
    "ecr": _ecr,
    "inspector": _inspector,
    "google": _google,
    "google-on-demand": _on_demand,
}
_WANTED: dict[str, type] = {
    "ecr": EcrRegistry,
    "inspector": EcrRegistry,
    "google": GarRegistry,
    "google-on-demand": GarRegistry,
}
