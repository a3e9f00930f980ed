"""The forms of an image that ways of starting need, in the benchmark's own registry: what is measured is a copy, so any
image can be measured that can be read, and nothing is written where it came from."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.evidence.keys import FileSigner, generate_key, load_signer
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import MAX_CONFIG_BYTES, Descriptor, manifest_bytes
from registry_pipelines.progress import Progress
from registry_pipelines.registry.blobs import push_blob, read_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.bench.clocks import Failed
from registry_pipelines.stream.bench.serving import CountingRegistry
from registry_pipelines.stream.bench.traces import PlacedTrace, Trace, find_site, place_trace
from registry_pipelines.stream.hot.contents import image_files
from registry_pipelines.stream.hot.recording import Recording, decode
from registry_pipelines.stream.hot.touched import WINDOW_BYTES
from registry_pipelines.stream.lazy.blocks import BlockStore
from registry_pipelines.stream.lazy.image import NodeImage, image_for
from registry_pipelines.stream.lazy.program_root import gpu_devices
from registry_pipelines.stream.lazy.tables import image_tables
from registry_pipelines.stream.model import Stream
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine

OURS = (sys.executable, "-c", "from registry_pipelines.cli import main; main()")
"""Our own program."""
TAG = "v1"
BASELINE_PLACE = "baseline"
PLAIN, SPANS, ESTARGZ, PACK = "plain", "spans", "estargz", "pack"
FORMS = (PLAIN, SPANS, ESTARGZ, PACK)
"""As it is; with a SOCI index; its layers as eStargz; with an index and a hot pack. Each in a repository of its own."""
UNPACKED = "unpacked"
PART = "part"
"""Tag of the image that has the first layers alone: what a node has already."""
_CONFIG = """\
version: 1
state: {state}
registries:
  bench: {{kind: distribution, host: "{address}", plain_http: true}}
"""


@dataclass
class Prepared:
    """An image in the benchmark's registry. why_not: for each form that is missing, the reason in one sentence."""

    work: Path
    reference: str
    """As a person wrote it, with its digest."""
    image: NodeImage
    size: int
    """Of its layers, compressed."""
    why_not: dict[str, str] = field(default_factory=dict)
    cached_share: float = 0.0
    """Of its bytes, those that ``part`` has; 0: there is no such image."""
    plain: str = PLAIN
    """Repository of the image as it is."""
    started: str = PACK
    """What is started, as a name: other programs have other recordings."""
    pack: str = PACK
    """Repository of the image with the hot pack of that, for mounts that read ahead so far."""
    placed: PlacedTrace | None = None
    """The recorded start that is replayed, found in this image."""

    @property
    def root(self) -> Path:
        """Of the registry."""
        return self.work / "registry"

    @property
    def unpacked(self) -> Path:
        """Where the image lies unpacked, for ``local``."""
        return self.work / UNPACKED

    @property
    def public_key(self) -> Path:
        """Whose signatures the nodes believe."""
        return self.work / "bench.pub"

    def name(self, form: str) -> str:
        """Repository and tag."""
        name = f"{self._folder(form)}/image:{TAG}"
        return f"{name}-estargz" if form == ESTARGZ else name

    def _folder(self, form: str) -> str:
        return {PLAIN: self.plain, PACK: self.pack}.get(form, form)

    def config(self, folder: Path, address: str) -> Path:
        """A configuration for our program: state in ``folder``, the registry as ``bench``."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "registry-pipelines.yaml"
        path.write_text(_CONFIG.format(state=folder / "state", address=address))
        return path

    def blobs(self, form: str) -> list[Path]:
        """Files of the registry that a form has."""
        folder = self.root / self._folder(form)
        return [path for path in folder.rglob("*") if path.is_file()]


def prepare(
    source: Place,
    selector: str,
    reference: str,
    work: Path,
    *,
    forms: Sequence[str] = FORMS,
    command: Sequence[str] = (),
    until: str = "",
    trace: Trace | None = None,
    window: int = WINDOW_BYTES,
    cached: float = 0.0,
    unpack: bool = False,
    plain: str = PLAIN,
    progress: Progress,
) -> Prepared:
    """Bring an image of this machine's platform into the registry below ``work`` and make the forms of it. What is
    there from a run before is not made again.

    command, until: what is recorded for the hot pack; trace: a start elsewhere in place of it. window: of that pack,
    see ``make_pack``. cached: the share of its bytes that a node of ``docker-cached`` has already. unpack: also into a
    folder. plain: repository of the image as it is. Raises LocalError, and what reading the image raises; a form that
    cannot be made is told in ``why_not``.
    """
    with local_errors(work):
        work.mkdir(parents=True, exist_ok=True)
    image = image_for(source, selector)
    size = sum(layer.size for layer, _ in image.layers)
    found = Prepared(work, f"{reference.partition('@')[0]}@{image.descriptor.digest}", image, size, plain=plain)
    started = ["trace", trace.workload, len(trace.order)] if trace else [*command, until]
    found.started = f"{PACK}-{Digest.of(json.dumps(started).encode()).hex[:12]}"
    found.pack = f"{found.started}-{window >> 10}k"
    signer = _signer(work)
    engine = Engine(state=work / "transfer")
    with CountingRegistry(found.root) as server:
        registry = DistributionRegistry(server.address, plain_http=True)
        maker = _Maker(found, signer, engine, server.address, command, until, window, progress)
        # What a trace touches is looked for by the records that indexing leaves.
        for form in dict.fromkeys((PLAIN, *([SPANS] if trace else []), *forms)):
            with _told(found, form):
                place = Place(registry, found.name(form).partition(":")[0])
                origin = source if form == PLAIN else Place(registry, f"{plain}/image")
                copy_closure(origin, str(image.descriptor.digest), [place], tags=[TAG], engine=engine)
                try:
                    maker.make(form, place)
                finally:
                    if trace and form == SPANS:
                        maker.place(trace, place)
        if cached:
            found.cached_share = _push_part(Place(registry, f"{plain}/image"), image, cached)
        if unpack and not found.unpacked.is_dir():
            with _told(found, UNPACKED):
                _unpack(found, server.address)
    return found


def _unpack(found: Prepared, address: str) -> None:
    config = found.config(found.work / "unpacking", address)
    target = f"bench/{found.name(PLAIN)}"
    try:
        run_ours(["stream", "pull", "--quiet", "--config", str(config), target, "--to", str(found.unpacked)])
    except Failed:
        shutil.rmtree(found.unpacked, ignore_errors=True)
        raise


@contextmanager
def _told(found: Prepared, form: str) -> Iterator[None]:
    """A form that fails is left out and told of; without the plain one there is nothing."""
    try:
        yield
    except RegistryPipelinesError as error:
        if form == PLAIN:
            raise
        found.why_not[form] = " ".join(str(error).split())


def _signer(work: Path) -> FileSigner:
    key = work / "bench.key"
    if not key.exists():
        generate_key(key)
    return load_signer(key)


@dataclass(frozen=True)
class _Maker:
    """Makes forms of an image that was copied."""

    found: Prepared
    signer: FileSigner
    engine: Engine
    address: str
    command: Sequence[str]
    until: str
    window: int
    progress: Progress

    @property
    def _state(self) -> Path:
        return self.found.work / "state"

    @property
    def _common(self) -> dict[str, Any]:
        store = LayerStore(self._state / "layers")
        return {
            "state": self._state,
            "store": store,
            "signer": self.signer,
            "engine": self.engine,
            "progress": self.progress,
        }

    def make(self, form: str, place: Place) -> None:
        """Raises what making it raises; Failed."""
        subject = place.registry.resolve(place.repository, TAG)
        if form in (SPANS, PACK):
            self._index(form, place, subject)
        if form == ESTARGZ:
            from registry_pipelines.stream.derive import convert_release

            if convert_release(place, subject, TAG, Stream(format="estargz"), **self._common).derived is None:
                raise Failed("no layer of it can be converted to eStargz (`stream convert` says why)")
        if form == PACK:
            self._pack(place, subject)

    def _index(self, form: str, place: Place, subject: Descriptor) -> None:
        from registry_pipelines.stream.publish import index_release

        result = index_release(place, subject, Stream(), **self._common)
        if form == SPANS and not any(each.index for each in result.platforms):
            raise Failed("no layer of it can be indexed (`stream check` says why)")

    def _pack(self, place: Place, subject: Descriptor) -> None:
        from registry_pipelines.stream.hot.cutting import make_pack

        recording = self.found.placed.recording if self.found.placed else self._record(place)
        if make_pack(place, subject.digest, recording, window=self.window, **self._common).pack is None:
            raise Failed("nothing that the start reads is in the image")

    def _record(self, place: Place) -> Recording:
        """What the program reads: it is run once, as `stream record` does it."""
        path = self.found.work / f"recording-{self.found.started}-{self.found.image.descriptor.digest.hex[:12]}"
        if not path.exists():
            config = self.found.config(self.found.work / "recording", self.address)
            until = f"line {self.until}" if self.until else "exit"
            said = ["--quiet", "--config", str(config), "--key", str(self.found.public_key)]
            target = f"bench/{place.repository}:{TAG}"
            said += ["--gpu"] if gpu_devices() else []
            run_ours(["stream", "record", *said, "--to", str(path), "--until", until, target, "--", *self.command])
        return decode(path.read_bytes(), where=str(path))

    def place(self, trace: Trace, place: Place) -> None:
        """Find what a trace touches in the image."""
        store, image = LayerStore(self._state / "layers"), self.found.image
        tables = image_tables(
            place,
            image.descriptor.digest,
            image.layers,
            verifier=None,
            records=store,
            blocks=BlockStore(self._state / "lazy" / "blocks"),
            folder=self._state / "lazy",
            own_tables_first=True,
        )
        sizes = {file.path: file.size for file in image_files(place, tables, image.layers, records=store)}
        self.found.placed = place_trace(trace, image.descriptor.digest, sizes.get, find_site(sizes))


def run_ours(words: Sequence[str]) -> None:
    """Run our own program to its end. Raises Failed with its last lines."""
    done = subprocess.run([*OURS, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"`{' '.join(words[:2])}` failed: {' / '.join(done.stderr.strip().splitlines()[-3:])}")


def _push_part(place: Place, image: NodeImage, share: float) -> float:
    """Push an image of the first layers, as many as make the share of all bytes at most, as PART; the share that it
    has. What has these layers in this order has them for every image that begins with them."""
    total, taken, count = sum(layer.size for layer, _ in image.layers), 0, 0
    for layer, _ in image.layers:
        if taken + layer.size > share * total:
            break
        taken, count = taken + layer.size, count + 1
    if not count:
        return 0.0
    config = json.loads(read_blob(place, image.manifest.config, limit=MAX_CONFIG_BYTES))
    config["rootfs"]["diff_ids"] = config["rootfs"]["diff_ids"][:count]
    config.pop("history", None)
    pushed = push_blob(place, json.dumps(config).encode(), media_type=image.manifest.config.media_type)
    part = replace(image.manifest, config=pushed, layers=image.manifest.layers[:count], annotations=None)
    place.registry.put_manifest(place.repository, manifest_bytes(part), tag=PART)
    return taken / total
