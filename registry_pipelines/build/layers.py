"""The ``layers`` builder: from requirements and a folder to an image in a registry, without a container daemon."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from registry_pipelines.build.application import application_entries
from registry_pipelines.build.application_warnings import pointer_warnings, script_warnings
from registry_pipelines.build.bases import Base, OpenPlace, base_of, bring_layers, describe_base
from registry_pipelines.build.builder import (
    BUILDER_ID,
    INTERPRETER_BASES,
    SILENT,
    BuildResult,
    BuildSpec,
    LayerRow,
)
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.compiling import CORES
from registry_pipelines.build.content import LayerEntry
from registry_pipelines.build.images import image_config, image_index, image_manifest, wanted_tags
from registry_pipelines.build.interpreter import interpreter_programs, interpreter_warnings
from registry_pipelines.build.links.check import LINKS_FORMAT, check_links
from registry_pipelines.build.links.image import known_links, layer_links, refuse_missing
from registry_pipelines.build.links.report import LinkReport
from registry_pipelines.build.planning import (
    PlatformPlan,
    check_spec,
    gather,
    plan_platforms,
    settled_conflicts,
    wheel_notes,
)
from registry_pipelines.build.provenance import provenance
from registry_pipelines.build.publishing import attach_provenance, check_version, choose_tags
from registry_pipelines.build.pushing import LayerJob, ensure_layer, layer_descriptor, layer_row, measure_layer
from registry_pipelines.build.recording import Keeping
from registry_pipelines.build.repeats import base_warnings, marked, stands_in
from registry_pipelines.build.revision import Revision, read_revision
from registry_pipelines.build.splice import LayerDigests
from registry_pipelines.build.wheel_store import WheelStore
from registry_pipelines.errors import InputError, ManifestInvalid
from registry_pipelines.evidence.model import Signer
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.linkage import LayerLinks, LinkStore
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes, decode_json, encode_json
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.oci.references import Reference
from registry_pipelines.oci.times import CLOCKS_DIFFER
from registry_pipelines.progress import Progress, count_text
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.remote import remote_registry
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.uploads import Brought, Uploads, UploadsStopped

if TYPE_CHECKING:  # builds without an index of the configuration load none of it
    from registry_pipelines.build.packages.sources import Sources

T = TypeVar("T")

RESOLVE = "resolve requirements"
"""The task of pip, with the bytes that it brings."""

WORKERS = min(4, CORES) + 1
"""Layers made at a time. Inflating and hashing keep a core busy; one more than cores, because a registry needs its time
to store a layer. Each takes about 10 MB of memory."""


class LayersBuilder:
    """See ``builder.Builder``.

    state: folder for the wheel store and the build cache; safe for several processes, may be deleted. engine: what
    layers are uploaded and bases copied with; without it one with its state in ``state``, and no limits. open_place:
    how references of base images become places; public registries with docker's credentials unless told. signer: signs
    the provenance, before the version tag moves; without one it is left unsigned. keeping: what is written down of each
    layer that is made, on the way. packages: the indexes that ``BuildSpec.index`` names.
    """

    def __init__(
        self,
        state: Path,
        *,
        engine: Engine | None = None,
        open_place: OpenPlace | None = None,
        builder_id: str = BUILDER_ID,
        signer: Signer | None = None,
        keeping: Keeping | None = None,
        packages: Sources | None = None,
    ) -> None:
        self._state = state / "build"
        self._links = LinkStore(state)
        self._signer = signer
        self._keeping = keeping
        self._packages = packages
        self._engine = engine or Engine(state=state / "transfer")
        self._open_anywhere = open_place or _open_anywhere
        self._builder_id = builder_id

    def _open_place(self, text: str) -> tuple[Place, str]:
        place, selector = self._open_anywhere(text)
        return self._engine.place(place), selector

    def build(self, spec: BuildSpec, place: Place, *, progress: Progress = SILENT) -> BuildResult:
        """Build, push, attach provenance, tag; the version tag moves last and never away from other content.

        Everything that can be wrong with requirements, wheels and folders is found before the first byte is sent, and a
        version that is something else; but for contents that differ from RECORD, which come to light as they pass: then
        layers may be there, and no manifest or tag.
        """
        started = time.monotonic()
        platforms = check_spec(spec)
        if spec.index and self._packages is None:
            raise InputError("`index` names package indexes, and none is open", where=spec.name, do="Give `packages`")
        place = self._engine.place(place)
        with (
            Pool(1, "revision") as pool,
            closing(BuildCache(self._state / "cache.sqlite")) as cache,
            self._engine.opened() as state,
        ):
            # Git's six answers are waited for beside the rest.
            asked = pool.submit(read_revision, spec.application) if spec.application else None
            application = application_entries(spec.application, spec.workdir) if spec.application else None
            store = WheelStore(self._state / "wheels", cache)
            progress.begin(RESOLVE)
            given = [
                gather(
                    *(spec, platform, application),
                    store=store,
                    cache=cache,
                    open_place=self._open_place,
                    fetched=partial(progress.advance, RESOLVE),
                    packages=self._packages if spec.index else None,
                )
                for platform in platforms
            ]
            wheels = count_text(sum(len(ingredients.wheels) for ingredients in given), "wheel")
            progress.end(RESOLVE, note=wheels)
            plans = plan_platforms(spec, given, store)
            revision = asked.result() if asked else None
            said = _warnings(spec, revision, application, plans)
            uploads = Uploads(state, place, progress)
            result = _Build(self, spec, place, uploads, cache, progress, revision, said).run(plans, started)
            state.cancel_abandoned([place.registry])
            return result


@dataclass
class _Build:
    """One run: pushes what the plans need and counts it."""

    builder: LayersBuilder
    spec: BuildSpec
    place: Place
    uploads: Uploads
    cache: BuildCache
    progress: Progress
    revision: Revision | None
    warnings: tuple[str, ...]
    in_base: dict[str, None] = field(default_factory=dict)
    """What is said of layers that were left out."""
    sent: int = 0
    changed: bool = False

    def run(self, plans: Sequence[PlatformPlan], started: float) -> BuildResult:
        jobs = [job for plan in plans for job in plan.jobs]
        self._check_version(plans, jobs)
        made, brought = self._upload_layers(plans, jobs)
        images = [self._image(plan, made, brought) for plan in plans]
        links = {str(image.platform): self._links(plan, image) for plan, image in zip(plans, images, strict=True)}
        if self.spec.links == "error":
            refuse_missing(links.values(), where=self.spec.name)
        top = self._top(images)
        tags, missing = self._check_tags(top)
        for manifest in dict.fromkeys([*(image.manifest for image in images), top]):
            self._put(manifest)
        attached = self._attach(plans, images, top, links)
        for tag in reversed(missing):
            self.place.registry.put_manifest(self.place.repository, top, tag=tag)
            self.changed = True
        rows = [row for image in images for row in image.rows]
        return BuildResult(
            descriptor=top.descriptor,
            manifests=tuple(image.manifest.descriptor for image in images),
            tags=tags,
            layers=tuple(rows),
            lock={str(plan.platform): plan.lock for plan in plans},
            bytes_uploaded=self.sent + sum(row.bytes_uploaded for row in rows),
            seconds=time.monotonic() - started,
            warnings=(*self.warnings, *self.in_base, *_future(self.revision), *_now(self.builder._packages)),
            provenance=attached,
            changed=self.changed or any(not row.reused for row in rows),
            targets=_targets(plans),
            conflicts=tuple(conflict for plan in plans for conflict in settled_conflicts(plan)),
            notes=wheel_notes(plans),
            links=links,
        )

    def _links(self, plan: PlatformPlan, image: _Image) -> LinkReport:
        """What does not link in one platform's image; of its base nothing but what it brings is asked."""
        environment = json.loads(image.config)["config"].get("Env") or ()
        layers = [(*_layer_of(row), row.key) for row in image.rows[len(image.base.rows) :]]
        store, jobs = self.builder._links, {job.key: job for each in plan.jobs for job in (each, marked(each))}
        # An application is seldom more than its own lines, of which a loader sees nothing: it changes no answer.
        silent = {row.key for row in image.rows if row.contents == "application" and _says_nothing(store, row)}
        keys = [key for *_, key in layers if key not in silent]
        identity = [LINKS_FORMAT, str(plan.platform), environment, image.base.diff_ids, keys]
        identity += [layer.digest for layer in image.base.descriptors]
        note = f"links {hashlib.sha256(encode_json(identity)).hexdigest()}"
        with suppress(ManifestInvalid):
            return decode_json(json.dumps(self.cache.fact(note)).encode(), LinkReport)
        own = known_links(
            [(layer, diff_id) for layer, diff_id, _ in layers],
            store,
            lambda number: self._measure(jobs[layers[number][2]], anew=True),
        )
        below: list[LayerLinks | None] = []
        if plan.base and any(each is None or each.files for each in own):
            # At the place, where they are now; nobody's base is read for an image without a library.
            brought = list(zip(plan.base.manifest.layers, plan.base.diff_ids, strict=True))
            below = layer_links(self.place, brought, store, progress=self.progress)
        report = check_links(
            [*below, *own],
            platform=str(plan.platform),
            architecture=plan.platform.architecture,
            environment=environment,
            own=lambda number: number >= len(below),
        )
        if not any(finding.kind == "unread" for finding in report.findings):
            self.cache.remember_fact(note, json.loads(encode_json(report)))
        return report

    def _check_version(self, plans: Sequence[PlatformPlan], jobs: Sequence[LayerJob]) -> None:
        """Where the version is there already, find out before anything is sent whether it is this image: layers that
        no earlier build made are made and thrown away. Raises TagImmutable."""
        if not self.spec.version or (there := digest_at(self.place, self.spec.version)) is None:
            return
        digests = self._for_each(jobs, self._measure)
        images = []
        for plan in plans:
            rows = self._own_rows(plan, partial(self._measured, digests, str(plan.platform)))
            images.append(self._compose(plan, describe_base(plan.base, plan.platform) if plan.base else _NO_BASE, rows))
        check_version(self.place, self.spec.version, there, self._top(images).digest, self.warnings)

    def _measure(self, job: LayerJob, *, anew: bool = False) -> LayerDigests:
        return measure_layer(
            job,
            cache=self.cache,
            progress=self.progress,
            keeping=self.builder._keeping,
            links=self.builder._links,
            anew=anew,
        )

    def _measured(self, known: dict[str, LayerDigests], platform: str, job: LayerJob) -> LayerRow:
        digests = known.get(job.key) or self._measure(job)
        return layer_row(job, digests, platform=platform)

    def _own_rows(self, plan: PlatformPlan, row_of: Callable[[LayerJob], LayerRow]) -> list[LayerRow]:
        """Our layers above the base: one that the base has already is left out, or made anew where it must stand above
        what changed it, for no image has a layer twice."""
        rows = []
        for job in plan.jobs:
            row = row_of(job)
            there = stands_in(plan.base, row, self.cache) if plan.base else None
            if there:
                where = f"the base for {plan.platform}"
                self.in_base[f"layer {job.contents} is in {where} already and not put on top again"] = None
            else:
                rows.append(row if there is None else row_of(marked(job)))
        return rows

    def _top(self, images: Sequence[_Image]) -> ManifestBytes:
        if len(images) == 1:
            return images[0].manifest
        return image_index(self.spec, [(image.platform, image.manifest) for image in images], self.revision)

    def _upload_layers(
        self, plans: Sequence[PlatformPlan], jobs: Sequence[LayerJob]
    ) -> tuple[dict[str, LayerRow], dict[Digest, Brought]]:
        """Our own layers by key, those of bases by digest: made and brought at the same time. What fails ends both."""
        platform = str(plans[0].platform)
        bases = [plan.base for plan in plans if plan.base]
        with Pool(1, "base") as pool:
            bringing = pool.submit(bring_layers, bases, self.uploads, self.cache) if bases else None
            try:
                made = self._for_each(jobs, lambda job: self._ensure(job, platform))
            except UploadsStopped:
                if bringing:
                    bringing.result()  # it failed, and says why
                raise
            except BaseException:
                self.uploads.stop()
                raise
            return made, bringing.result() if bringing else {}

    def _for_each(self, jobs: Sequence[LayerJob], work: Callable[[LayerJob], T]) -> dict[str, T]:
        """Every distinct layer once, by key, largest first; the first failure stops what has not begun."""
        with Pool(WORKERS, "layers") as pool:
            futures: dict[str, Future[T]] = {}
            for job in sorted(jobs, key=lambda job: -job.effort):
                if job.key not in futures:
                    futures[job.key] = pool.submit(work, job)
            done, waiting = wait(futures.values(), return_when=FIRST_EXCEPTION)
            for future in waiting:
                future.cancel()
            for future in done:
                future.result()
            return {key: future.result() for key, future in futures.items()}

    def _ensure(self, job: LayerJob, platform: str) -> LayerRow:
        return ensure_layer(
            job,
            self.uploads,
            platform=platform,
            cache=self.cache,
            progress=self.progress,
            keeping=self.builder._keeping,
            links=self.builder._links,
        )

    def _image(self, plan: PlatformPlan, made: dict[str, LayerRow], brought: dict[Digest, Brought]) -> _Image:
        """Bring the config; the manifest is composed and not sent yet."""
        base = base_of(plan.base, plan.platform, brought) if plan.base else _NO_BASE

        def row_of(job: LayerJob) -> LayerRow:
            row = made.get(job.key) or self._ensure(job, str(plan.platform))
            if row.platform != str(plan.platform):
                row = msgspec.structs.replace(row, platform=str(plan.platform), how="present", bytes_uploaded=0)
            return row

        image = self._compose(plan, base, self._own_rows(plan, row_of))
        self._push_config(image.config)
        return image

    def _compose(self, plan: PlatformPlan, base: Base, own: Sequence[LayerRow]) -> _Image:
        rows = (*base.rows, *own)
        content = image_config(self.spec, plan.platform, base, rows, self.revision)
        config = Descriptor(media_type=media_types.OCI_CONFIG, digest=Digest.of(content), size=len(content))
        manifest = image_manifest(self.spec, config, base, rows, self.revision)
        return _Image(plan.platform, base, rows, content, manifest)

    def _push_config(self, content: bytes) -> None:
        if self.place.registry.blob_size(self.place.repository, Digest.of(content)) != len(content):
            self.sent += len(content)
            self.changed = True
            push_blob(self.place, content, media_type=media_types.OCI_CONFIG, made_now=True)

    def _check_tags(self, top: ManifestBytes) -> tuple[tuple[str, ...], list[str]]:
        """Tags that will name the image, and those that do not yet. A version that names something else is an error;
        a commit's tag that does (other wheels, same commit) stays where it is."""
        wanted = wanted_tags(self.spec, top.digest, self.revision)
        return choose_tags(self.place, wanted, top.digest, self.warnings)

    def _put(self, manifest: ManifestBytes) -> None:
        if digest_at(self.place, manifest.digest) is None:
            self.place.registry.put_manifest(self.place.repository, manifest)
            self.sent += len(manifest.raw)
            self.changed = True

    def _attach(
        self,
        plans: Sequence[PlatformPlan],
        images: Sequence[_Image],
        top: ManifestBytes,
        links: Mapping[str, LinkReport],
    ) -> Descriptor:
        content = provenance(
            self.spec,
            self.place,
            builder_id=self.builder._builder_id,
            top=top.descriptor,
            manifests=[image.manifest.descriptor for image in images],
            bases={str(image.platform): image.base for image in images},
            lock={str(plan.platform): plan.lock for plan in plans},
            conflicts=[conflict for plan in plans for conflict in settled_conflicts(plan)],
            notes=wheel_notes(plans),
            rows=[row for image in images for row in image.rows],
            revision=self.revision,
            warnings=(*self.warnings, *self.in_base),
            targets=_targets(plans),
            links=links,
        )
        attached, sent, changed = attach_provenance(self.place, top.descriptor, content, self.builder._signer)
        self.sent += sent
        self.changed |= changed
        return attached


def _warnings(
    spec: BuildSpec,
    revision: Revision | None,
    application: Sequence[LayerEntry] | None,
    plans: Sequence[PlatformPlan],
) -> tuple[str, ...]:
    """What is said of this build, now and in its provenance: the same for equal builds."""
    entries = application or ()
    said = [*(revision.warnings if revision else ()), *pointer_warnings(entries)]
    if application is not None and not entries:
        said.append("the application folder has nothing that is packed, so the image has no layer of it")
    said += [text for plan in plans if plan.base for text in base_warnings(plan.base, plan.platform)]
    if spec.base in INTERPRETER_BASES:
        said += [*script_warnings(entries, interpreter_programs()), *interpreter_warnings()]
    return tuple(said)


def _future(revision: Revision | None) -> list[str]:
    """Not for the provenance: it depends on the clock."""
    if revision and revision.time and revision.time > datetime.now(UTC) + CLOCKS_DIFFER:
        return [f"the commit's time, which images and tags carry, is in the future: {revision.rfc3339}"]
    return []


def _now(packages: Sources | None) -> list[str]:
    """Not for the provenance either: what an index did not answer today."""
    return list(packages.said) if packages else []


def _says_nothing(store: LinkStore, row: LayerRow) -> bool:
    """Whether a layer is known to hold nothing that decides what is loaded."""
    return store.get(row.diff_id, row.digest) == LayerLinks()


def _layer_of(row: LayerRow) -> tuple[Descriptor, Digest]:
    return layer_descriptor(row), row.diff_id


@dataclass(frozen=True)
class _Image:
    platform: Platform
    base: Base
    rows: tuple[LayerRow, ...]
    config: bytes
    manifest: ManifestBytes


_NO_BASE = Base((), (), ())
"""The interpreter base's layers are made like the others."""


def _targets(plans: Sequence[PlatformPlan]) -> dict[str, str]:
    """By platform, what wheels were chosen for."""
    return {str(plan.platform): str(plan.target) for plan in plans if plan.lock}


def _open_anywhere(text: str) -> tuple[Place, str]:
    reference = Reference.parse(text)
    return Place(remote_registry(reference.registry), reference.repository), reference.selector
