"""Images that start from a hot pack: what is fetched, what is read, and what a wrong pack does."""

from __future__ import annotations

import random
from pathlib import Path

from registry_pipelines.stream.lazy.opened import open_image
from tests.evidence.parts import Counted, Key
from tests.stream.hot.packing import content, cut, recording
from tests.stream.lazy.starts import image
from tests.stream.releases import INDEXED, Streamer

MIB = 1 << 20


def test_what_was_recorded_comes_from_the_pack_and_the_rest_from_the_layers(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    release = image(counted.place, more_mib=4)
    streamer.index(release, INDEXED)
    told = recording(
        release.digest, {"data/1": MIB, "etc/motd": 6, "data/3": MIB}, [("data/1", 0, 256), ("etc/motd", 0, 1)]
    )
    made = cut(counted.place, streamer.state, key, told)
    assert made.pack and made.changed and (made.pages_found, made.parts) == (257, 1)
    noise = random.Random("v1").randbytes(4 * MIB)
    said: list[str] = []
    with open_image(counted.place, "v1", state=tmp_path / "node", verifier=key.verifier, log=said.append) as opened:
        assert content(opened, "data/1") == noise[MIB : 2 * MIB]
        assert content(opened, "etc/motd") == b"hello\n"
        note = opened.count(opened.note("v1", tmp_path))
        assert note.pack == made.pack.digest and note.lazy and not note.demand_bytes
        assert MIB < note.pack_bytes == note.fetched_bytes < MIB + 50_000
        assert content(opened, "data/3") == noise[3 * MIB :]
        note = opened.count(opened.note("v1", tmp_path))
        assert note.demand_bytes > 0 and note.layers_whole == 0
    assert not said
    again = cut(counted.place, streamer.state, key, told)
    assert not again.changed and again.pack == made.pack and again.parts_reused == 1 and not again.bytes_sent
