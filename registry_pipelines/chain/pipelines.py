"""Pipelines of CI systems over a configuration: which files they are, and whether what is there is that."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path

from msgspec.structs import replace as changed

from registry_pipelines.build.requirement_lines import read_lines
from registry_pipelines.chain.releases import names_release, no_release_note
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Image, load
from registry_pipelines.config.registries import EmbeddedRegistry, LayoutRegistry
from registry_pipelines.errors import ConfigInvalid, EvidenceError, InputError
from registry_pipelines.evidence.predicates import Role
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.progress import count_text
from registry_pipelines.report.pipelines import cloud_build, code_build, github, gitlab
from registry_pipelines.report.pipelines.job import BRANCH_VERSION, Job
from registry_pipelines.report.pipelines.kept import MAX_BYTES, Line, renewed
from registry_pipelines.report.pipelines.settings import Pipelines, name_problem
from registry_pipelines.settings import unknown

_ODD = re.compile(r"[\x00-\x1f\x7f*?\[\]{}!+$\\]")
"""What a CI system takes for a pattern or a variable where a path is meant, or what ends a line of its file."""
_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)
_VARIABLE = re.compile(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\}")
_NEEDS: dict[str, tuple[Role, ...]] = {
    "build": ("builder",),
    "provenance": ("builder",),
    "index": ("builder", "indexer"),
    "sbom": ("builder", "indexer"),
    "scan": ("builder", "indexer", "scanner"),
    "sign": ("builder", "indexer", "scanner", "person"),
}
"""Whose keys the stages up to one sign with."""


@dataclass(frozen=True)
class _File:
    path: str
    lines: Sequence[Line]


def pipelines(
    session: Session, names: Sequence[str] = (), *, folder: Path | None = None, check: bool = False, over: bool = False
) -> StageResult:
    """Write the files of pipelines, a file for each image. What people wrote between its marks stays; whatever would be
    lost otherwise is an error, and then no file is written.

    names: of `pipelines`; all unless told. folder: the repository's root; the folder with ``.git`` above the
    configuration unless told. check: write nothing, and be not ``ok`` where a file is missing, other than it would be
    written, or not to be written. over: lines that were changed outside of the marks go. Raises InputError,
    ConfigInvalid with everything in the configuration that such a pipeline could not do, LocalError.
    """
    began = time.monotonic()
    chosen = _chosen(session, names)
    root = folder.resolve() if folder else _root(session.config.path)
    jobs = [job for settings in chosen.values() for job in _jobs(session, settings, root)]
    _refuse(session, chosen, jobs)
    files = _files(jobs)
    fresh, problems = _fresh(files, root, session.config.path.name, over=over, check=check)
    before = {each.path: _read(root / each.path) for each in files if each.path not in problems}
    different = [each.path for each in files if each.path in problems or fresh[each.path] != before[each.path]]
    if not check:
        for path in different:
            target = root / path
            with local_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                write_file(target, fresh[path].encode())
    wrong = different if check else []
    return StageResult(
        stage="pipelines",
        subject=", ".join(chosen),
        action=_said(different, len(files), check),
        changed=bool(different) and not check,
        seconds=time.monotonic() - began,
        facts={"files": len(files), "different": len(different), "root": str(root)},
        rows=[_row(each.path, before.get(each.path, ""), each.path in different, check) for each in files],
        reasons=[
            problems.get(path) or f"{path} is {'not there' if before[path] is None else 'not as it would be written'}"
            for path in wrong
        ],
        notes=list(_notes(chosen, jobs)),
        next_steps=list(_next_steps(jobs)),
        ok=not wrong,
        exit_code=EvidenceError.exit_code if wrong else 0,
    )


def _said(different: Sequence[str], count: int, check: bool) -> str:
    if not different:
        return f"{count_text(count, 'file')} as they are to be"
    return f"{len(different)} of {count_text(count, 'file')} {'would be ' if check else ''}written"


def _row(path: str, before: str | None, differs: bool, check: bool) -> dict[str, Scalar]:
    new = "missing" if check else "new"
    return {
        "file": path,
        "state": "same" if not differs else new if before is None else "other" if check else "renewed",
    }


def _chosen(session: Session, names: Sequence[str]) -> dict[str, Pipelines]:
    known = session.config.pipelines
    if not known:
        raise InputError("the configuration has no `pipelines`", do="Add them (docs/pipelines.md)")
    for name in names:
        if name not in known:
            raise InputError(unknown(name, known, "entry of pipelines"), do="Name one of the configuration")
    makers: dict[tuple[str, str], str] = {}
    for name, settings in known.items():  # all of them: who is not named now would be lost as well
        for image in _images(session, settings):
            if (other := makers.setdefault((settings.kind, image), name)) != name:
                raise InputError(
                    f"{other} and {name} of `pipelines` would write the same file, for {image}",
                    do="Name each image in one of a system alone",
                )
    return {name: known[name] for name in names or known}


def _images(session: Session, settings: Pipelines) -> Sequence[str]:
    images = session.config.images
    return settings.images or [name for name, image in images.items() if image.made_here is not None]


def _root(configuration: Path) -> Path:
    folder = configuration.resolve().parent
    found = next((each for each in (folder, *folder.parents) if (each / ".git").exists()), None)
    if found is None:
        raise InputError("this is in no git repository", where=str(folder), do="Name the repository's root with --to")
    return found


def _jobs(session: Session, settings: Pipelines, root: Path) -> Iterator[Job]:
    config = session.config
    names = _images(session, settings)
    if not names:
        raise InputError(
            "no image is built here, so there is no pipeline to write", do="Add `build` or `dockerfile` to one"
        )
    for name in names:
        image = config.images[name]
        paths = dict.fromkeys([*_paths(session, image, root), *settings.paths.get(name, ())])
        yield Job(
            image=name,
            configuration=_below(config.path.resolve(), root),
            paths=list(paths),
            package=settings.package
            or f"registry-pipelines{_extras(session, image)}=={version_of('registry-pipelines')}",
            settings=settings,
            needs_engine=image.dockerfile is not None,
            variables=settings.variables,
        )


def _extras(session: Session, image: Image) -> str:
    """What a pipeline of this image needs beside the core, in brackets."""
    found = {"ecr": "aws", "gar": "google"}
    kind = session.config.registries[image.registry].kind
    extras = {found[kind]} if kind in found else set()
    if _in_service(session):
        extras.add("kms")
    if image.dockerfile is not None and image.dockerfile.engine == "docker":
        extras.add("docker")
    return f"[{','.join(sorted(extras))}]" if extras else ""


def _in_service(session: Session) -> bool:
    signing = session.config.signing
    return any(each.kms for _, each in signing.told())


def _paths(session: Session, image: Image, root: Path) -> Iterator[str]:
    """What an image is made of: a push that touches none of it makes no release."""
    yield _below(session.config.path.resolve(), root)
    if image.made_here is None:
        raise InputError(
            f"{image.name} is not built here", do="Leave it out of `pipelines`, or add `build` or `dockerfile` to it"
        )
    if image.dockerfile is not None:
        yield f"{_below(image.dockerfile.context.resolve(), root)}/**".removeprefix("./")
        if image.dockerfile.file is not None:
            yield _below(image.dockerfile.file.resolve(), root)
    elif image.build is not None:
        for folder in (image.build.application, image.build.wheels):
            if folder is not None:
                yield f"{_below(folder.resolve(), root)}/**".removeprefix("./")
        if image.build.requirements_file is not None:
            yield _below(image.build.requirements_file.resolve(), root)
        lines = read_lines(image.build.requirements, image.build.requirements_file, folder=session.config.path.parent)
        for line in lines:  # files that files name, too
            file, named, _ = line.where.rpartition(", line ")
            if named and file != "requirements":
                yield _below(Path(file).resolve(), root)


def _below(path: Path, root: Path) -> str:
    if not path.is_relative_to(root):
        raise InputError(f"{path} is not in the repository", where=str(root), do="A pipeline has what is in it alone")
    found = path.relative_to(root).as_posix()
    if odd := _ODD.search(found):
        raise InputError(
            f"{found!r} has {odd[0]!r}, which CI systems take for a pattern, a variable or the end of a line",
            where=str(root),
            do="Give it another name",
        )
    return found


def _files(jobs: Iterable[Job]) -> list[_File]:
    return [each for job in jobs for each in _files_of(job)]


def _files_of(job: Job) -> list[_File]:
    kind = job.settings.kind
    if kind == "github":
        return [_File(github.path(job), github.lines(job))]
    if kind == "gitlab":
        return [_File(gitlab.path(job), gitlab.lines(job))]
    if kind == "codebuild":
        return [_File(code_build.path(job), code_build.lines(job))]
    events = ["branch", *(["tag"] if job.settings.git_tags else [])]
    triggers = [_File(cloud_build.trigger_path(job, on), cloud_build.trigger(job, on)) for on in events]
    return [_File(cloud_build.path(job), cloud_build.lines(job)), *triggers]


def _fresh(
    files: Iterable[_File], root: Path, configuration: str, *, over: bool, check: bool
) -> tuple[dict[str, str], dict[str, str]]:
    """Each file as it should be by its path, and, for a check, why those that have none may not be written."""
    found, problems = {}, {}
    for each in files:
        target = root / each.path
        try:
            found[each.path] = renewed(each.lines, configuration, _read(target), where=str(target), over=over)
        except InputError as error:
            if not check:
                raise
            problems[each.path] = str(error)
    return found, problems


def _read(path: Path) -> str | None:
    with local_errors(path):
        if not path.exists():
            return None
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"the file has more than {MAX_BYTES} bytes", where=str(path))
        try:
            return path.read_bytes().decode().replace("\r\n", "\n")  # a checkout on Windows is no change
        except UnicodeDecodeError as error:
            raise InputError("the file is no text", where=str(path), do="Move it away") from error


def _refuse(session: Session, chosen: dict[str, Pipelines], jobs: Sequence[Job]) -> None:
    problems = [f"{session.config.path}: {each}" for name in chosen for each in _problems(session, name, chosen[name])]
    for job in jobs:
        found = (*_home_problems(session, job), *_version_problems(session, job))
        problems += [f"{session.config.path}: {each}" for each in found]
    if problems:
        raise ConfigInvalid(list(dict.fromkeys(problems)))


def _problems(session: Session, name: str, settings: Pipelines) -> Iterator[str]:
    """What such a pipeline could not do."""
    at = f"pipelines.{name}"
    for secret in (*settings.secrets, *settings.variables):
        if why := name_problem(secret):
            yield f"{at}: {why}"
    text = _COMMENT.sub("", session.config.path.read_text(encoding="utf-8"))
    known = {settings.version, *settings.secrets, *settings.variables}
    missing = {found[1] for found in _VARIABLE.finditer(text) if found[2] is None} - known
    for each in sorted(missing):
        yield f"{at}: the configuration reads ${{{each}}}, which no pipeline has; name it in `secrets` or `variables`"
    if settings.kind in ("gitlab", "cloud-build") and settings.container is None:
        yield f"{at}.container: is needed, for steps of this system run in images; write REPOSITORY@sha256:..."
    if settings.kind == "cloud-build" and settings.aws is not None:
        yield f"{at}.aws: Cloud Build vouches for itself to Google alone; build for ECR with another system"
    if settings.kind == "codebuild" and (settings.google is not None or settings.aws is not None):
        yield f"{at}: a project of CodeBuild has its role itself; leave `aws` and `google` out"
    if settings.kind in ("github", "gitlab") and settings.google is not None and settings.google.provider is None:
        yield f"{at}.google.provider: is needed: who exchanges this system's identity for Google's"
    strange = sorted(settings.actions.keys() - github.ACTIONS.keys())
    if strange:
        yield f"{at}.actions: {strange[0]} is not used; known are {', '.join(github.ACTIONS)}"
    for role in _NEEDS[settings.until]:
        signing = session.config.signing
        key = signing.of(role) or signing
        if not key.kms:
            yield (
                f"{at}.until: the key of the {role} is a file, and a pipeline keeps none; name one in a key service "
                f"(signing.{role}.kms), or end at an earlier stage and let the rest be done where the key is"
            )


def _home_problems(session: Session, job: Job) -> Iterator[str]:
    """Whether what it makes outlives it: a registry of the machine where it runs goes with that machine, unless that is
    a runner of one's own."""
    registry = session.config.registries[session.config.images[job.image].registry]
    inside = isinstance(registry, LayoutRegistry) or (
        isinstance(registry, EmbeddedRegistry) and not registry.reachable_as
    )
    if inside and job.settings.runner is None:
        yield (
            f"images.{job.image}.registry: {registry.name} is on the machine where the pipeline runs, and goes with "
            "it; name a registry elsewhere, give it `reachable_as`, or name a runner of your own"
        )


def _version_problems(session: Session, job: Job) -> Iterator[str]:
    """Whether each run makes a version of its own, and one that the sensor takes for a release."""
    name = job.settings.version
    probes = [BRANCH_VERSION, *([job.settings.git_tags.replace("*", "1.2.3")] if job.settings.git_tags else [])]
    for probe in probes:
        config = load(session.config.path, {**os.environ, name: probe})
        image = config.images[job.image]
        made = image.made_here
        if made is None or made.version != probe:
            yield (
                f"images.{job.image}.{image.section}.version: does not read ${{{name}}}, so that every run would make "
                f"the same release; write `version: ${{{name}:-dev}}`"
            )
            return
        own = changed(image, build=None, dockerfile=None)  # its own version always counts; other runs' must, too
        if not names_release(own, image.released_tag(probe)):
            yield f"images.{job.image}.tags: {no_release_note(own, image.released_tag(probe))}"


def _notes(chosen: dict[str, Pipelines], jobs: Sequence[Job]) -> Iterator[str]:
    for job in jobs:
        if job.needs_engine and job.settings.container:
            yield f"{job.image} is built from a Dockerfile: the container needs an engine (docker-in-docker, buildkitd)"
        if job.needs_engine and job.settings.kind == "codebuild":
            yield f"{job.image} is built from a Dockerfile: the project needs `privilegedMode`"
    if any(settings.kind == "codebuild" for settings in chosen.values()):
        yield "no schema of AWS's says what a buildspec may hold; the files follow its reference"


def _next_steps(jobs: Sequence[Job]) -> Iterator[str]:
    for job in jobs:
        kind = job.settings.kind
        if kind == "gitlab":
            yield f"In .gitlab-ci.yml: include: {{local: {gitlab.path(job)}}}"
        elif kind == "cloud-build":
            yield f"gcloud builds triggers import --source={cloud_build.trigger_path(job, 'branch')}"
        elif kind == "codebuild":
            yield code_build.webhook(job)


__all__ = ["pipelines"]
