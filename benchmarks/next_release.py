"""The next release of an image on a node that has the last one: what ``benchmarks/start.py next`` measures.

The next release has one other layer: the one with numpy, of whose Python files every tenth has a line more, as a small
version step makes it. Its hot pack is cut from the last release's recording.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

from isal import igzip
from msgspec.structs import replace

from benchmarks.start_images import Hashing, MadeLayer
from registry_pipelines.evidence.keys import generate_key, load_signer, verifier_of
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import MAX_CONFIG_BYTES, Descriptor, manifest_bytes
from registry_pipelines.oci.media_types import OCI_LAYER_GZIP
from registry_pipelines.registry.blobs import push_blob, read_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.bench.preparing import PLAIN, Prepared, run_ours
from registry_pipelines.stream.bench.serving import CountingRegistry
from registry_pipelines.stream.hot.cutting import PackResult, make_pack
from registry_pipelines.stream.hot.packs import find_packs, read_head
from registry_pipelines.stream.hot.recording import PAGE_BYTES, Recording, decode
from registry_pipelines.stream.lazy.image import NodeImage, image_for
from registry_pipelines.stream.model import Stream
from registry_pipelines.stream.publish import index_release
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine

CHANGED = b"site-packages/numpy/__init__.py"
EVERY = 10
PROGRAM = ("/usr/local/bin/python3", "/app/matmul.py")
REPOSITORY = "next"


def measure_next(work: Path) -> dict[str, Any]:
    """Make both releases and measure; see the module. work: of ``benchmarks/start.py``, with its image."""
    state = work / "next"
    for old in (state, work / "registry" / REPOSITORY):
        shutil.rmtree(old, ignore_errors=True)
    state.mkdir()
    if not (work / "bench.key").exists():
        generate_key(work / "bench.key")
    with CountingRegistry(work / "registry") as server:
        registry = DistributionRegistry(server.address, plain_http=True)
        place, engine = Place(registry, f"{REPOSITORY}/image"), Engine(state=work / "transfer")
        copy_closure(Place(registry, f"{PLAIN}/image"), "v1", [place], tags=["v1"], engine=engine)
        first = image_for(place, "v1")
        number, layer = _changed(place, first, state)
        second = _push(place, first, number, layer)
        releases = _Releases(work, state, server, place, engine)
        old_recording = releases.record("v1")
        one = releases.cut(first, old_recording)
        two = releases.cut(second, old_recording, first)
        starts = [releases.start(tag) for tag in ("v1", "v2")]
        covered = _covered(releases, second, releases.record("v2"))
        share = releases.stored_of(second, number)
        registry.close()
    return {
        "image": str(first.descriptor.digest),
        "layer_bytes": layer.descriptor.size,
        "cut_s": [one.seconds, two.seconds],
        "cut_read_bytes": [one.bytes_read, two.bytes_read],
        "parts": [one.parts, two.parts],
        "parts_reused": two.parts_reused,
        "pack_bytes": two.stored_bytes,
        "layer_pack_bytes": share,
        "fetched_bytes": starts,
        "covered": covered,
    }


def table(said: dict[str, Any]) -> str:
    """What came out, in words."""
    one, two = said["cut_s"]
    fetched, beside = said["fetched_bytes"][1], said["fetched_bytes"][1] - said["layer_pack_bytes"]
    return "\n".join(
        [
            "| | |",
            "|---|---|",
            f"| first pack cut | {one:.1f} s, {said['cut_read_bytes'][0] / 1e6:,.0f} MB of layers read |",
            f"| next release's pack cut, no new recording | {two:.1f} s: **{two / one:.2f}** of the first; "
            f"{said['parts_reused']} of {said['parts'][1]} blobs of frames taken over |",
            f"| of the pages of the next release's own start in its pack | **{said['covered']:.1%}** |",
            f"| fetched by a node that has the last release, for the whole start | **{fetched / 1e6:.2f} MB** "
            f"({said['fetched_bytes'][0] / 1e6:,.0f} MB with nothing there); the changed layer's frames are "
            f"{said['layer_pack_bytes'] / 1e6:.2f} MB, so {beside / 1e6:.2f} MB beside them |",
        ]
    )


class _Releases:
    """What is done with each release."""

    def __init__(self, work: Path, state: Path, server: CountingRegistry, place: Place, engine: Engine) -> None:
        self._work, self._state, self._server, self._place, self._engine = work, state, server, place, engine
        self.signer = load_signer(work / "bench.key")
        self.records = LayerStore(work / "state" / "layers")

    def cut(self, image: NodeImage, recording: Recording, *earlier: NodeImage) -> PackResult:
        """Index it, which reads a layer that nobody has read, and cut its pack."""
        common = {"store": self.records, "signer": self.signer, "engine": self._engine}
        index_release(self._place, image.descriptor, Stream(), state=self._state, **common)  # type: ignore[arg-type]
        lenders = tuple(each.descriptor.digest for each in earlier)
        digest = image.descriptor.digest
        return make_pack(self._place, digest, recording, state=self._state, earlier=lenders, **common)  # type: ignore[arg-type]

    def record(self, tag: str) -> Recording:
        """What a start of it reads."""
        path = self._state / f"recording-{tag}"
        until = ["--until", "exit", f"bench/{self._place.repository}:{tag}"]
        said = ["--to", str(path), *until, "--", *PROGRAM]
        run_ours(["stream", "record", *self._common(f"record-{tag}"), *said])
        return decode(path.read_bytes())

    def start(self, tag: str) -> int:
        """Start it on the one node; what the registry gave."""
        self._server.take()
        said = ["--no-fill", f"bench/{self._place.repository}:{tag}", "--", *PROGRAM]
        run_ours(["stream", "run", *self._common("node"), *said])
        return self._server.take().bytes

    def stored_of(self, image: NodeImage, number: int) -> int:
        """Bytes of the frames of a layer in its pack."""
        [found] = find_packs(self._place, image.descriptor.digest, verifier_of(self.signer)).believed
        return sum(part.size for part in read_head(self._place, found).parts if part.layer == number)

    def extents(self, image: NodeImage) -> dict[int, list[tuple[int, int]]]:
        """By layer, from and to of what its pack has."""
        [found] = find_packs(self._place, image.descriptor.digest, verifier_of(self.signer)).believed
        rows: dict[int, list[tuple[int, int]]] = {}
        for part in read_head(self._place, found).parts:
            for frame in part.frames:
                rows.setdefault(part.layer, []).extend((start, start + size) for start, size in frame.extents)
        return rows

    def tree(self, image: NodeImage) -> Any:
        """Of its pack."""
        [found] = find_packs(self._place, image.descriptor.digest, verifier_of(self.signer)).believed
        return read_head(self._place, found).open_tree()

    def _common(self, node: str) -> list[str]:
        found = Prepared(self._work, "", None, 0)  # type: ignore[arg-type]
        config = found.config(self._state / node, self._server.address)
        return ["--quiet", "--config", str(config), "--key", str(self._work / "bench.pub")]


def _covered(releases: _Releases, image: NodeImage, recording: Recording) -> float:
    """Share of a recording's pages that an image's pack has."""
    tree, there = releases.tree(image), releases.extents(image)
    blocks = {
        number: {block for start, stop in rows for block in range(start // 512, stop // 512)}
        for number, rows in there.items()
    }
    had = wanted = 0
    for number, first, count in recording.touches:
        file = tree.find(os.fsencode(recording.files[number].path))
        inode = tree.node(file)
        for page in range(first, first + count):
            start = inode.position + page * PAGE_BYTES
            stop = min(start + PAGE_BYTES, inode.position + inode.size)
            wanted += 1
            had += all(block in blocks.get(inode.layer, ()) for block in range(start // 512, stop // 512))
    return had / wanted


def _changed(place: Place, image: NodeImage, folder: Path) -> tuple[int, MadeLayer]:
    """The number of the layer to change, and the layer that stands for it."""
    for number, (descriptor, _) in sorted(enumerate(image.layers), key=lambda each: each[1][0].size):
        with (
            place.registry.open_blob(place.repository, descriptor.digest) as blob,
            igzip.IGzipFile(fileobj=io.BufferedReader(_Raw(blob))) as plain,
            tarfile.open(fileobj=plain, mode="r|") as names,  # type: ignore[call-overload]
        ):
            found = any(os.fsencode(each.name).endswith(CHANGED) for each in names)
        if found:
            return number, _rewritten(place, descriptor, folder / "layer")
    raise SystemExit("the image has no numpy")


def _rewritten(place: Place, layer: Descriptor, path: Path) -> MadeLayer:
    with path.open("wb") as file, place.registry.open_blob(place.repository, layer.digest) as blob:
        packed = Hashing(file)
        with igzip.IGzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as gzip:
            plain = Hashing(gzip)
            with (
                igzip.IGzipFile(fileobj=io.BufferedReader(_Raw(blob))) as source,
                tarfile.open(fileobj=source, mode="r|") as old,  # type: ignore[call-overload]
                tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT) as new,
            ):
                scripts = 0
                for member in old:
                    content = old.extractfile(member).read() if member.isreg() else b""  # type: ignore[union-attr]
                    if member.isreg() and member.name.endswith(".py"):
                        scripts += 1
                        content += b"# next\n" if scripts % EVERY == 0 else b""
                        member.size = len(content)
                    new.addfile(member, io.BytesIO(content))
    descriptor = Descriptor(media_type=OCI_LAYER_GZIP, digest=packed.digest, size=packed.size)
    return MadeLayer(path, descriptor, plain.digest)


class _Raw(io.RawIOBase):
    """A blob as a file."""

    def __init__(self, blob: Any) -> None:
        self._blob = blob

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return int(self._blob.readinto(buffer))


def _push(place: Place, image: NodeImage, number: int, layer: MadeLayer) -> NodeImage:
    """The same image with another layer, as v2."""
    with layer.path.open("rb", buffering=0) as stream:
        place.registry.upload_blob(place.repository, layer.descriptor, stream)  # type: ignore[arg-type]
    config = json.loads(read_blob(place, image.manifest.config, limit=MAX_CONFIG_BYTES))
    config["rootfs"]["diff_ids"][number] = str(layer.diff_id)
    pushed = push_blob(place, json.dumps(config).encode(), media_type=image.manifest.config.media_type)
    layers = list(image.manifest.layers)
    layers[number] = layer.descriptor
    changed = manifest_bytes(replace(image.manifest, config=pushed, layers=tuple(layers)))
    place.registry.put_manifest(place.repository, changed, tag="v2")
    return image_for(place, "v2")


__all__ = ["measure_next", "table"]
