"""Random images, mounted before they are fetched, are to the kernel what they are unpacked."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import Size
from registry_pipelines.stream.lazy.opened import open_image
from tests.evidence.parts import Key
from tests.stream.layers import pack
from tests.stream.lazy.mounts import mounted, need_fuse
from tests.stream.lazy.stacks import Entry, described, layers, unpack
from tests.stream.releases import INDEXED, Layer, Streamer, push

INDEXED_ALL = msgspec.structs.replace(INDEXED, min_layer_size=Size(1))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stack=st.lists(layers(), min_size=1, max_size=3), indexed=st.booleans())
def test_a_mounted_image_is_what_unpacking_it_makes(
    place: Place, key: Key, stack: list[list[Entry]], indexed: bool
) -> None:
    need_fuse()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tars = [pack(entries) for entries in stack]
        image = push(place, *(Layer(gzip.compress(tar, 1), tar) for tar in tars))
        if indexed:
            Streamer(place, folder / "state", key.signer).index(image, INDEXED_ALL)
        expected = unpack(stack, folder / "unpacked")
        with (
            open_image(place, image.digest, state=folder / "node", verifier=key.verifier, log=print) as opened,
            mounted(opened, folder / "mount"),
        ):
            top = folder / "mount"
            found = {path.relative_to(top).as_posix(): described(path) for path in top.rglob("*")}
        assert found == expected
