"""Recordings and packs of the images of tests."""

from __future__ import annotations

import gzip
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.hot.cutting import PackResult, make_pack
from registry_pipelines.stream.hot.recording import PAGE_BYTES, RecordedFile, Recording
from registry_pipelines.stream.lazy.opened import OpenImage
from tests.evidence.parts import Key
from tests.stream.layers import pack
from tests.stream.lazy.starts import file, link
from tests.stream.releases import Layer, push

MIB = 1 << 20


def image(place: Place, *, tag: str = "v1", more_mib: int = 4) -> Descriptor:
    """Two layers: a few small files, and above them ``data/0`` and so on, 1 MiB each, which do not compress."""
    noise = random.Random(tag)
    data = [file(f"data/{number}", noise.randbytes(MIB)) for number in range(more_mib)]
    base = [file("etc/motd", b"old\n"), file("etc/gone", b""), *(file(f"lib/{n}.py", b"pass\n" * n) for n in range(40))]
    above = [file("etc/motd", b"hello\n"), file("etc/.wh.gone", b""), *data, link("motd", "etc/motd")]
    layers = [Layer(gzip.compress(tar, 1, mtime=0), tar) for tar in map(pack, (base, above))]
    return push(place, *layers, tag=tag)


def recording(image: Digest, files: Mapping[str, int], touches: Sequence[tuple[str, int, int]] = ()) -> Recording:
    """Of files by path with their sizes; each whole, unless pages are told."""
    names = list(files)
    told = touches or [(name, 0, -(-size // PAGE_BYTES)) for name, size in files.items()]
    return Recording(
        image=image,
        files=tuple(RecordedFile(name, size) for name, size in files.items()),
        touches=tuple((names.index(name), first, count) for name, first, count in told),
        command=("python3", "app.py"),
    )


def cut(
    place: Place, state: Path, key: Key, what: Recording, *, image: Digest | None = None, **more: Any
) -> PackResult:
    store = LayerStore(state / "layers")
    return make_pack(place, image or what.image, what, state=state, store=store, signer=key.signer, **more)


def content(opened: OpenImage, path: str) -> bytes:
    number = opened.find(path)
    assert number is not None
    return opened.read(number, 0, opened.node(number).size)
