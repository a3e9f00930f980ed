"""Recordings and packs of the images of tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.hot.cutting import PackResult, make_pack
from registry_pipelines.stream.hot.recording import PAGE_BYTES, RecordedFile, Recording
from registry_pipelines.stream.lazy.opened import OpenImage
from tests.evidence.parts import Key


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
