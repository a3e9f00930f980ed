"""Build a release from a Dockerfile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from registry_pipelines.build.dockerfile.builder import DockerfileBuilder, DockerfileResult
from registry_pipelines.build.dockerfile.context import Context, measure_context
from registry_pipelines.build.dockerfile.engines.protocol import CacheReference
from registry_pipelines.build.dockerfile.ignore_proposal import Proposal, propose_ignore
from registry_pipelines.build.dockerfile.logins import Login, docker_config
from registry_pipelines.build.dockerfile.model import DockerfileBuild, DockerfileSpec
from registry_pipelines.build.dockerfile.parsing import parse_dockerfile, read_dockerfile
from registry_pipelines.chain.build import built
from registry_pipelines.chain.places import address, client_of
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config import EmbeddedRegistry, Image, RegistryPlace
from registry_pipelines.errors import InputError
from registry_pipelines.oci.tags import read_version
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.client.origins import is_loopback
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release

LARGE_CONTEXT_BYTES = 100 * 1024 * 1024
"""From here on a build names the largest paths of its context."""

WORTH_SAVING_BYTES = 1024 * 1024


def build(session: Session, image: Image, settings: DockerfileBuild) -> StageResult:
    """Build an image from its Dockerfile and push it to its source registry, with provenance. Raises as
    :meth:`DockerfileBuilder.build`."""
    if read_version(settings.version) is None:
        from registry_pipelines.chain.moving import check_tag_moves  # most who load this build nothing

        check_tag_moves(session, image, settings.version)  # a second build could not be pushed
    with engine_login(session, image, settings) as (cache, folder):
        builder = DockerfileBuilder(
            session.config.state,
            engine=session.engine(receipts=False),
            signer=session.keys.at_hand("builder"),
            cache=cache,
            docker_config=folder,
        )
        spec = DockerfileSpec(name=image.name, **msgspec.structs.asdict(settings))
        result = builder.build(spec, session.places.source(image), progress=session.progress)
    return _told(Release(image.name, settings.version, result.descriptor.digest), result, cache)


def _told(release: Release, result: DockerfileResult, cache: CacheReference | None) -> StageResult:
    cached = sum(step.cached for step in result.steps)
    facts: dict[str, Scalar] = {
        "engine": result.engine,
        "steps": len(result.steps),
        "steps_cached": cached,
        "context_files": result.context.file_count,
        "context_bytes": result.context.byte_count,
        "provenance": result.provenance.digest,
        **({"cache": cache.reference} if cache else {}),
    }
    before = f"{count_text(len(result.steps), 'step')}, {cached} from the cache; "
    notes = [f"warning: {text}" for text in result.warnings]
    notes += [f"engine: {result.why}"] if result.why else []
    notes += context_notes(release.image, result.context, result.could_save)
    return built(release, result, facts, notes, before=before)


def proposed_ignore(session: Session, image: Image) -> tuple[Context, Proposal]:
    """What a build of the image would send, and what a ``.dockerignore`` could leave out of it; nothing is built.
    Raises InputError: the image has no ``dockerfile`` section, the Dockerfile is wrong, a file cannot be read."""
    if image.dockerfile is None:
        raise InputError(
            f"image {image.name} has no dockerfile section", do="A `.dockerignore` is for images from a Dockerfile"
        )
    spec = DockerfileSpec(name=image.name, **msgspec.structs.asdict(image.dockerfile))
    text = read_dockerfile(spec.path)
    dockerfile = parse_dockerfile(text, args=spec.args, where=str(spec.path))
    context = measure_context(spec.context, spec.path)
    return context, propose_ignore(context, dockerfile)


def context_notes(image: str, context: Context, could_save: int) -> list[str]:
    """Lines about a context: its largest paths where it is large, and what need not be sent."""
    notes = []
    if context.byte_count >= LARGE_CONTEXT_BYTES:
        largest = ", ".join(f"{path} {size_text(size)}" for path, size in context.largest())
        notes.append(f"the context is {size_text(context.byte_count)}, most of it in {largest}")
    if could_save >= WORTH_SAVING_BYTES:
        notes.append(
            f"a .dockerignore would keep {size_text(could_save)} out of the context: "
            f"registry-pipelines build {image} --propose-ignore prints it"
        )
    notes += [f"{path} is a socket: BuildKit makes an empty file of it" for path in context.sockets]
    return notes


@contextmanager
def engine_login(
    session: Session, image: Image, settings: DockerfileBuild
) -> Iterator[tuple[CacheReference | None, Path | None]]:
    """Where the cache is, and a folder with the log-in that the source registry needs for it; bases are pulled with the
    user's own. Nothing of either without a cache. Raises InputError for a registry that no engine can reach."""
    with ExitStack() as stack:
        if settings.cache is None:
            yield None, None
            return
        source = session.config.registries[image.registry]
        host = address(source)
        if not host:
            raise InputError(
                f"registry {image.registry} is a folder, and an engine keeps its cache in none",
                where=f"images.{image.name}.dockerfile.cache",
                do="Leave `cache` out, or take a registry that has an address",
            )
        client, folder = client_of(source), None
        found = client.login(settings.cache.repository) if isinstance(client, DistributionRegistry) else None
        if found is not None and not found.anonymous:
            login = Login(host, found.username or "<token>", found.password or found.identity_token)
            folder = stack.enter_context(docker_config([login], session.config.state / "build"))
        place = Place(session.places.registry(image.registry), settings.cache.repository)
        yield CacheReference(place, image.name, plain_http=_speaks_plain(source, host)), folder


def _speaks_plain(source: RegistryPlace, host: str) -> bool:
    if isinstance(source, EmbeddedRegistry):
        return source.tls_cert is None
    told = getattr(source, "plain_http", None)
    return is_loopback(host.rpartition(":")[0] or host) if told is None else bool(told)
