"""The ``dockerfile`` builder: an engine runs the Dockerfile, and what it made goes to the registry as copies do."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from registry_pipelines.build.builder import PROVENANCE_ARTIFACT, SILENT, BuildResult, LayerRow
from registry_pipelines.build.dockerfile.choosing import choose_engine
from registry_pipelines.build.dockerfile.context import Context, measure_context
from registry_pipelines.build.dockerfile.engines.buildah import Buildah
from registry_pipelines.build.dockerfile.engines.buildctl import Buildctl
from registry_pipelines.build.dockerfile.engines.buildx import Buildx
from registry_pipelines.build.dockerfile.engines.docker import Docker
from registry_pipelines.build.dockerfile.engines.protocol import CACHE_LAYOUT, CacheReference, Engine, Order, Step
from registry_pipelines.build.dockerfile.ignore_proposal import propose_ignore
from registry_pipelines.build.dockerfile.image import MadeImage, PlatformImage, read_image
from registry_pipelines.build.dockerfile.inputs import check_leaves_out, input_digest, packing, secret_values
from registry_pipelines.build.dockerfile.instructions import Dockerfile
from registry_pipelines.build.dockerfile.leaks import check_cache_leaks, check_leaks
from registry_pipelines.build.dockerfile.model import DockerfileSpec
from registry_pipelines.build.dockerfile.parsing import parse_dockerfile, read_dockerfile
from registry_pipelines.build.dockerfile.provenance import BUILDER_ID, provenance, stated_inputs
from registry_pipelines.build.dockerfile.work_folder import work_folder
from registry_pipelines.build.entries import FIXED_TIME
from registry_pipelines.build.images import image_index, labels, wanted_tags
from registry_pipelines.build.links.image import image_links, refuse_missing
from registry_pipelines.build.links.report import LinkReport, link_parameters
from registry_pipelines.build.publishing import attach_provenance, check_version, choose_tags
from registry_pipelines.build.revision import Revision, read_revision
from registry_pipelines.errors import TagImmutable
from registry_pipelines.evidence.artifacts import Attached, attached
from registry_pipelines.evidence.model import Signer
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layout import Layout
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import Progress, count_text, size_text
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.delivery.plan import BlobStep
from registry_pipelines.transfer.engine import Engine as TransferEngine

ENGINES: tuple[type[Engine], ...] = (Buildx, Buildctl, Buildah, Docker)
"""In the order in which ``auto`` tries them."""

MEASURED = "context"
"""The task of progress whose end says how much is sent, and where most of it is."""


class DockerfileResult(BuildResult, frozen=True, kw_only=True):
    """What a build from a Dockerfile made, or found made. ``lock`` is empty: an engine tells of no wheels."""

    engine: str
    """Who ran it, with versions; empty where nothing had to run."""
    steps: tuple[Step, ...]
    context: Context
    """What the engine could read."""
    why: str = ""
    """Why it was this engine; empty where nothing had to run."""
    could_save: int = 0
    """Bytes of the context that nothing names, and a ``.dockerignore`` would leave out."""


class DockerfileBuilder:
    """Runs Dockerfiles, pushes what comes out by digest, attaches provenance, sets tags.

    state: folder for what an engine leaves behind until it is pushed. engine: what it is pushed with. signer: signs the
    provenance, before the version tag moves; without one it is left unsigned. cache, docker_config: see
    ``engines.protocol.Order``. engines: what may run it, in the order of preference.
    """

    def __init__(
        self,
        state: Path,
        *,
        engine: TransferEngine | None = None,
        signer: Signer | None = None,
        builder_id: str = BUILDER_ID,
        cache: CacheReference | None = None,
        docker_config: Path | None = None,
        engines: Sequence[Engine] | None = None,
    ) -> None:
        self._state = state
        self._work = state / "build" / "dockerfile"
        self._transfer = engine or TransferEngine(state=state / "transfer")
        self._signer = signer
        self._builder_id = builder_id
        self._cache = cache
        self._docker_config = docker_config
        self._engines = [make() for make in ENGINES] if engines is None else list(engines)

    def build(self, spec: DockerfileSpec, place: Place, *, progress: Progress = SILENT) -> DockerfileResult:
        """Build, push by digest, attach provenance, tag; the version tag comes last and never moves.

        Nothing runs where the version is there already: it is this build when its provenance says that it was made of
        the same inputs, else it is in the way. Raises InputError (DockerfileInvalid), ToolMissing, BuildFailed,
        DiskFull, TagImmutable, ContentError (an image that holds a secret) and the RegistryError family.
        """
        started = time.monotonic()
        question = _question(spec, self._state, progress)
        run = _Run(self, spec, self._transfer.place(place), progress, question, started)
        if (there := digest_at(run.place, spec.version)) is not None and (known := run.known(there)):
            return known
        return run.make(there)


@dataclass(frozen=True)
class _Question:
    """A build with everything decided before an engine is asked."""

    text: str
    dockerfile: Dockerfile
    context: Context
    platforms: tuple[Platform, ...]
    labels: Mapping[str, str]
    source_date: int
    revision: Revision | None
    inputs: Digest
    secrets: tuple[str, ...]


def _question(spec: DockerfileSpec, state: Path, progress: Progress) -> _Question:
    text = read_dockerfile(spec.path)
    dockerfile = parse_dockerfile(text, args=spec.args, where=str(spec.path))
    context = measure_context(spec.context, spec.path)
    # Told before anything is sent.
    progress.begin(MEASURED)
    largest = ", ".join(f"{path} {size_text(size)}" for path, size in context.largest(3))
    told = f"{count_text(context.file_count, 'file')}, {size_text(context.byte_count)}"
    progress.end(MEASURED, note=f"{told}: {largest}" if largest else told)
    check_leaves_out(context, state)
    revision = read_revision(spec.context, packing(context))
    source_date = spec.source_date
    if source_date is None:
        source_date = int(revision.time.timestamp()) if revision and revision.time else FIXED_TIME
    wanted = {**labels(spec, revision), **spec.labels}
    platforms = tuple(dict.fromkeys(spec.platforms)) or (Platform.here(),)
    inputs = input_digest(spec, text, context, platforms=platforms, labels=wanted, source_date=source_date)
    return _Question(text, dockerfile, context, platforms, wanted, source_date, revision, inputs, secret_values(spec))


@dataclass
class _Run:
    """One build."""

    builder: DockerfileBuilder
    spec: DockerfileSpec
    place: Place
    progress: Progress
    question: _Question
    started: float

    @property
    def said(self) -> tuple[str, ...]:
        """What Git does not tell of the context."""
        return self.question.revision.warnings if self.question.revision else ()

    def known(self, there: Digest) -> DockerfileResult | None:
        """The result where the version was made of the same inputs, without running anything; None where nobody says
        what it was made of. Raises TagImmutable where it was made of others."""
        stated = [
            (each, inputs)
            for each in attached(self.place, there, artifact_type=PROVENANCE_ARTIFACT)
            if (inputs := stated_inputs(each.content))
        ]
        for each, inputs in stated:
            if inputs == self.question.inputs:
                return self._unchanged(there, each)
        if stated:
            raise TagImmutable(
                f"version {self.spec.version} is {there}, and it was built of other files or settings",
                where=f"{self.place}:{self.spec.version}",
                do="; ".join(["Give the build a new version: versions never move", *self.said]),
            )
        return None

    def _unchanged(self, there: Digest, by: Attached) -> DockerfileResult:
        wanted = wanted_tags(self.spec, there, self.question.revision)
        tags = tuple(tag for tag in wanted if digest_at(self.place, tag) == there)
        top = self.place.registry.resolve(self.place.repository, there)
        note = "the version was built of the same files and settings: nothing ran, whatever its bases are by now"
        return self._result(top, (), tags, (), by.descriptor, engine="", steps=(), sent=0, changed=False, notes=(note,))

    def make(self, there: Digest | None) -> DockerfileResult:
        """Run an engine, and push."""
        spec, question = self.spec, self.question
        choice = choose_engine(spec, question.dockerfile, self.builder._engines)
        with work_folder(self.builder._work) as folder:
            order = Order(
                spec=spec,
                platforms=question.platforms,
                labels=question.labels,
                source_date=question.source_date,
                folder=folder,
                deadline=time.monotonic() + spec.time_limit.total_seconds(),
                secret_values=question.secrets,
                cache=self.builder._cache if choice.found.buildkit else None,
                docker_config=self.builder._docker_config,
                progress=self.progress,
            )
            built = choice.engine.build(order)
            made = read_image(folder, question.platforms)
            top = self._top(made)
            links = self._links(made)
            content = provenance(
                spec,
                self.place,
                made,
                top=top.descriptor,
                inputs=question.inputs,
                dockerfile=Digest.of(question.text.encode()),
                engine=built.engine,
                source_date=question.source_date,
                revision=question.revision,
                builder_id=self.builder._builder_id,
                ran=[step.name for step in built.steps],
                internal={"links": link_parameters(links)},
            )
            check_leaks(made, content, question.secrets, self.progress)
            check_cache_leaks(folder / CACHE_LAYOUT, question.secrets, self.progress)
            check_version(self.place, spec.version, there, top.digest, self.said)
            made.place.registry.put_manifest(made.place.repository, top)
            rows, sent = self._push(made, top)
            sent += self._push_cache(folder, order.cache)
        attached_to, bytes_attached, changed = attach_provenance(
            self.place, top.descriptor, content, self.builder._signer
        )
        wanted = wanted_tags(spec, top.digest, question.revision)
        tags, missing = choose_tags(self.place, wanted, top.digest, self.said)
        for tag in reversed(missing):
            self.place.registry.put_manifest(self.place.repository, top, tag=tag)
        return self._result(
            top.descriptor,
            tuple(image.stored.descriptor for image in made.images),
            tags,
            rows,
            attached_to,
            engine=built.engine,
            steps=built.steps,
            why=choice.why,
            sent=sent + bytes_attached,
            changed=bool(sent or changed or missing),
            notes=built.warnings,
            links=links,
        )

    def _push_cache(self, folder: Path, cache: CacheReference | None) -> int:
        """Send the cache that BuildKit left here to be read for secrets; it wrote any other itself."""
        left = list(Layout(folder / CACHE_LAYOUT).manifests())
        if cache is None or not left:
            return 0
        source, tags = Place(LayoutRegistry(folder), CACHE_LAYOUT), (cache.tag,)
        return copy_closure(source, left[0], [cache.place], tags=tags, engine=self.builder._transfer).bytes_moved

    def _links(self, made: MadeImage) -> dict[str, LinkReport]:
        """By platform, what does not link. Raises LibraryMissing where that is an error."""
        reports = {
            str(image.platform): image_links(
                made.place, image.stored.digest, image.platform, state=self.builder._state, progress=self.progress
            )
            for image in made.images
        }
        if self.spec.links == "error":
            refuse_missing(reports.values(), where=str(self.spec.path))
        return reports

    def _top(self, made: MadeImage) -> ManifestBytes:
        """The platform's manifest, or an index over those of several: BuildKit's own names its attestations, too."""
        if len(made.images) == 1:
            return made.images[0].stored
        manifests = [(image.platform, image.stored) for image in made.images]
        return image_index(self.spec, manifests, self.question.revision)

    def _push(self, made: MadeImage, top: ManifestBytes) -> tuple[tuple[LayerRow, ...], int]:
        """Bring everything but tags."""
        copied = copy_closure(made.place, top.digest, [self.place], tags=(), engine=self.builder._transfer)
        result = copied.per_target[0]
        steps = {step.descriptor.digest: step for step in result.delivery.blobs}
        rows = [row for image in made.images for row in layer_rows(image, steps)]
        put = result.manifests_put
        return tuple(rows), result.bytes_moved + (len(top.raw) if put else 0)

    def _result(
        self,
        top: Descriptor,
        manifests: tuple[Descriptor, ...],
        tags: tuple[str, ...],
        rows: tuple[LayerRow, ...],
        by: Descriptor,
        *,
        engine: str,
        steps: tuple[Step, ...],
        sent: int,
        changed: bool,
        notes: tuple[str, ...],
        links: Mapping[str, LinkReport] | None = None,
        why: str = "",
    ) -> DockerfileResult:
        return DockerfileResult(
            descriptor=top,
            manifests=manifests or (top,),
            tags=tags,
            layers=rows,
            lock={},
            bytes_uploaded=sent,
            seconds=time.monotonic() - self.started,
            warnings=(*self.said, *notes),
            provenance=by,
            changed=changed,
            links=links or {},
            engine=engine,
            steps=steps,
            context=self.question.context,
            why=why,
            could_save=propose_ignore(self.question.context, self.question.dockerfile).byte_count,
        )


_HOW = {"upload": "uploaded", "mount": "mounted", "shared": "present", "present": "present"}


def layer_rows(image: PlatformImage, steps: Mapping[Digest, BlobStep]) -> list[LayerRow]:
    """The layers of a platform, with the instruction that made each, and how they came to the registry."""
    history = [each or {} for each in image.config.history or ()]
    made_by = [str(each.get("created_by", "")) for each in history if not each.get("empty_layer")]
    rows = []
    for number, (layer, diff_id) in enumerate(zip(image.manifest.layers, image.config.diff_ids, strict=False)):
        how = _HOW[steps[layer.digest].action] if layer.digest in steps else "present"
        by = made_by[number] if len(made_by) == len(image.manifest.layers) else f"layer {number + 1}"
        rows.append(
            LayerRow(
                platform=str(image.platform),
                contents=" ".join(by.split())[:4000],
                key="",
                digest=layer.digest,
                diff_id=diff_id,
                size=layer.size,
                how=how,
                bytes_uploaded=layer.size if how == "uploaded" else 0,
            )
        )
    return rows
