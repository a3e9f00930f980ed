"""Package indexes over a configuration: which there are, what they answer, and wheels published to them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.build.packages.model import (
    ArtifactIndex,
    CodeArtifactIndex,
    FolderIndex,
    GarIndex,
    PackageIndex,
    PipIndex,
    PythonPackage,
    SimpleIndex,
)
from registry_pipelines.chain.package_indexes import open_sources
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError, RegistryPipelinesError, WheelInvalid
from registry_pipelines.oci.files import disk_errors
from registry_pipelines.progress import count_text
from registry_pipelines.settings import unknown

if TYPE_CHECKING:  # listing asks nobody
    from registry_pipelines.build.packages.pages import Project
    from registry_pipelines.build.packages.publishing import Wheel
    from registry_pipelines.build.packages.sources import OpenIndex, Sources
    from registry_pipelines.build.wheel_store import WheelStore

EVERYWHERE = "pip"
"""A project that each public index has: a private one that has it passes on, or mirrors, a public one."""


def listed(session: Session) -> StageResult:
    """The indexes of the configuration, and who takes wheels from them; nothing is asked."""
    config = session.config
    rows: list[dict[str, Scalar]] = [
        {
            "index": name,
            "kind": index.kind,
            "at": _address(index),
            "public": index.public,
            "names": " ".join(index.names),
            "only": " ".join(index.only),
            "images": " ".join(each.name for each in config.images.values() if each.build and name in each.build.index),
            "packages": " ".join(each.name for each in config.python_packages.values() if each.to == name),
        }
        for name, index in config.packages.items()
    ]
    return StageResult(
        stage="packages:list", subject="packages", action=count_text(len(rows), "index", "indexes"), rows=rows
    )


def _address(index: PackageIndex) -> str:
    match index:
        case SimpleIndex():
            return index.url
        case PipIndex():
            return "pip's own index"
        case GarIndex():
            return index.base
        case CodeArtifactIndex():
            return f"{index.domain}/{index.repository} of {index.owner} in {index.region}"
        case FolderIndex():
            return str(index.folder)
        case ArtifactIndex():
            return index.artifact


def checked(session: Session, projects: Sequence[str], indexes: Sequence[str] = ()) -> StageResult:
    """Whether indexes answer with the log-ins that are known here, and what would come from where. projects: names to
    look for; with none, those that the indexes name exactly. indexes: which ones, in their order; all unless told.

    Not ok: an index that does not answer, and a project that no index may give. Raises InputError.
    """
    started = time.monotonic()
    config = session.config
    names = list(indexes) or list(config.packages)
    if not names:
        raise InputError("the configuration names no package index", do="Write one in `packages`")
    from registry_pipelines.build.packages.routing import normalised

    asked = [normalised(each) for each in projects]
    if not asked:
        told = [each for name in names if name in config.packages for each in config.packages[name].names]
        asked = list(dict.fromkeys(normalised(each) for each in told if not set("*?") & set(each)))
    reasons: list[str] = []
    notes: list[str] = []
    with open_sources(session, names) as sources:
        if sources is None:
            raise InputError("the configuration names no package index", do="Write one in `packages`")
        rows = [_answers(index, reasons, notes) for index in sources.indexes]
        found = [_comes_from(sources, project, reasons, notes) for project in asked]
    return StageResult(
        stage="packages:check",
        subject=" ".join(names),
        action=f"{sum(row['answer'] == 'yes' for row in rows)} of {count_text(len(rows), 'index', 'indexes')} answered",
        seconds=time.monotonic() - started,
        rows=rows,
        tables={"projects": found} if found else {},
        reasons=reasons,
        notes=notes,
        ok=not reasons,
    )


def _answers(index: OpenIndex, reasons: list[str], notes: list[str]) -> dict[str, Scalar]:
    row: dict[str, Scalar] = {"index": index.name, "public": index.rules.public, "answer": "yes"}
    try:
        project = index.project(EVERYWHERE)
    except RegistryPipelinesError as error:
        reasons.append(str(error))
        return {**row, "answer": type(error).__name__}
    if project is not None and not index.rules.public:
        notes.append(
            f"{index.name} has {EVERYWHERE}: where it passes on a public index, write `public: true`, or strangers' "
            "projects come from it as your own"
        )
    return row


def _comes_from(sources: Sources, project: str, reasons: list[str], notes: list[str]) -> dict[str, Scalar]:
    """Where a project comes from, and who else has its name."""
    from registry_pipelines.build.packages.routing import asked_for

    row: dict[str, Scalar] = {"project": project, "index": "", "newest": "", "wheels": 0, "status": ""}
    try:
        found = sources.project(project)
    except RegistryPipelinesError as error:
        reasons.append(str(error))
        return row
    if found is None:
        asked, reserved = asked_for(project, sources.indexes)
        kept = f"; it is named by {asked[0].name} alone, so no other is asked" if reserved else ""
        reasons.append(f"no index has {project}{kept}")
        return row
    notes += _namesakes(sources, found.index, project)
    return {
        **row,
        "index": found.index.name,
        "newest": newest(found.project),
        "wheels": len(found.project.files),
        "status": found.project.said,
    }


def _namesakes(sources: Sources, index: OpenIndex, project: str) -> Iterator[str]:
    """Public indexes that have a private index's name: somebody's accident, or an attack that comes to nothing."""
    for other in sources.indexes:
        if other is not index and other.rules.public and not index.rules.public:
            try:
                theirs = other.project(project)
            except RegistryPipelinesError:
                continue  # said already, where it was asked whether it answers
            if theirs is not None:
                yield f"{other.name} has a project {project}, too (newest {newest(theirs)}); it is never taken"


def newest(project: Project) -> str:
    """The highest version among a project's wheels; empty without any."""
    from packaging.version import Version

    versions = {Version(file.filename.split("-")[1]) for file in project.files}
    return str(max(versions)) if versions else ""


@dataclass(frozen=True)
class _Tools:
    index: OpenIndex
    store: WheelStore
    scratch: Path


@contextmanager
def _opened(session: Session, name: str) -> Iterator[_Tools]:
    with open_sources(session, [name]) as sources, _scratch(session) as (store, folder):
        if sources is None:
            raise InputError("no index is named", do="Give --to")
        yield _Tools(sources.indexes[0], store, folder)


@contextmanager
def _scratch(session: Session) -> Iterator[tuple[WheelStore, Path]]:
    from registry_pipelines.build.wheel_store import SCRATCH, WheelStore

    root = session.config.state / "build" / "wheels"
    with disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=SCRATCH) as folder:
            yield WheelStore(root), Path(folder)


def published(session: Session, places: Sequence[Path], to: str) -> StageResult:
    """Publish wheels (files, or all of folders) to an index. Raises InputError, WheelInvalid, Refused, Unauthorized,
    Forbidden, Unavailable; what was sent before stays there."""
    from registry_pipelines.build.packages.publishing import publish, read_wheel, wheels_of

    started = time.monotonic()
    wheels = [read_wheel(path) for path in wheels_of(places)]
    rows: list[Mapping[str, Scalar]] = []
    with _opened(session, to) as tools:
        for wheel in wheels:
            rows.append(_row(wheel, sent=publish(tools.index, wheel, tools.store, tools.scratch)))
    return _told(to, rows, wheels, started, subject=to)


def _row(wheel: Wheel, *, sent: bool) -> dict[str, Scalar]:
    return {
        "package": wheel.name,
        "version": wheel.version,
        "file": wheel.path.name,
        "sha256": wheel.sha256,
        "bytes": wheel.size,
        "attestations": len(wheel.attestations),
        "how": "sent" if sent else "present",
    }


def _told(
    to: str, rows: Sequence[Mapping[str, Scalar]], wheels: Sequence[Wheel], started: float, *, subject: str
) -> StageResult:
    sent = [wheel for wheel, row in zip(wheels, rows, strict=True) if row["how"] == "sent"]
    return StageResult(
        stage="packages:publish",
        subject=subject,
        action=f"{count_text(len(sent), 'wheel')} sent to {to}" if sent else "unchanged",
        digest=f"sha256:{wheels[0].sha256}" if len(wheels) == 1 else "",
        changed=bool(sent),
        bytes_moved=sum(wheel.size for wheel in sent),
        seconds=time.monotonic() - started,
        facts={"index": to, "wheels": len(wheels), **({"version": wheels[0].version} if len(wheels) == 1 else {})},
        rows=rows,
    )


def package_made(session: Session, name: str) -> StageResult:
    """Build the wheel of a package of ours and publish it to its index; an unchanged source changes nothing there.

    Raises InputError, RequirementsInvalid (its build fails), Refused (its version is there with another content).
    """
    from packaging.version import Version

    from registry_pipelines.build.packages.making import make_wheel
    from registry_pipelines.build.packages.publishing import publish, read_wheel

    started = time.monotonic()
    package = package_named(session, name)
    with (
        open_sources(session, package.built_with) as backend,
        _opened(session, package.to) as tools,
        _scratch(session) as (store, folder),
    ):
        wheel = read_wheel(make_wheel(package.source, folder, sources=backend, store=store))
        if package.version and Version(wheel.version) != Version(package.version):
            raise WheelInvalid(
                f"its source makes version {wheel.version}, and {package.version} is wanted",
                where=f"python_packages.{name}",
                do="Correct the version in its source, or `version`",
            )
        rows = [_row(wheel, sent=publish(tools.index, wheel, tools.store, tools.scratch))]
    return _told(package.to, rows, [wheel], started, subject=name)


def package_stands(session: Session, name: str, made: StageResult) -> StageResult:
    """Whether the index has the wheel that was made, by its hash. made: what :func:`package_made` gave."""
    from registry_pipelines.build.packages.publishing import Wheel, there

    started = time.monotonic()
    package = package_named(session, name)
    [row] = made.rows
    wheel = Wheel(
        Path(str(row["file"])), str(row["package"]), str(row["version"]), str(row["sha256"]), int(row["bytes"]), ()
    )
    reasons = []
    with _opened(session, package.to) as tools:
        try:
            if not there(tools.index, wheel, tools.store, tools.scratch):
                reasons.append(f"{package.to} does not list {wheel.path.name} (yet)")
        except RegistryPipelinesError as error:
            reasons.append(str(error))
    return StageResult(
        stage="packages:check",
        subject=name,
        action="there" if not reasons else "not there",
        digest=made.digest,
        seconds=time.monotonic() - started,
        facts={"index": package.to, "file": wheel.path.name, "sha256": wheel.sha256},
        reasons=reasons,
        ok=not reasons,
    )


def package_named(session: Session, name: str) -> PythonPackage:
    """A package of the configuration. Raises InputError with the closest name."""
    package = session.config.python_packages.get(name)
    if package is None:
        said = unknown(name, session.config.python_packages, "Python package")
        raise InputError(said, do="Name one of `python_packages`")
    return package


__all__ = ["checked", "listed", "newest", "package_made", "package_named", "package_stands", "published"]
