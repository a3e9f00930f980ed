"""The disk that a node's images need: arithmetic, and what registries tell of sizes."""

from __future__ import annotations

import gzip
import json
import math
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.cli import main
from registry_pipelines.errors import ContentError, IndexInvalid, InputError, NotFound
from registry_pipelines.node.image_sizes import unwrapped
from registry_pipelines.node.sizing import GIB, WAYS, ImageSize, LayerSize, Way, bytes_of, disk, read_size
from registry_pipelines.oci.digest import Digest
from registry_pipelines.stream.model import Stream
from registry_pipelines.stream.ztoc import HEAD_BYTES, tar_bytes
from tests.evidence.parts import Counted, Key
from tests.stream.layers import pack
from tests.stream.lazy.stacks import entry
from tests.stream.releases import INDEXED, Layer, Streamer, push
from tests.ztoc_vectors import files, vectors


def layer(number: int, compressed: int, unpacked: int) -> LayerSize:
    digest = Digest(f"sha256:{number:064x}")
    return LayerSize(digest=digest, diff_id=digest, compressed=compressed, unpacked=unpacked, exact=True)


layers = st.tuples(st.integers(0, 9), st.integers(0, 40 * GIB), st.integers(0, 90 * GIB))


@st.composite
def fleets(draw: st.DrawFn) -> list[ImageSize]:
    """Images that share layers."""
    pool = {number: layer(number, *rest) for number, *rest in draw(st.lists(layers, max_size=10))}
    found = []
    for number in range(draw(st.integers(0, 4))):
        own = draw(st.lists(st.sampled_from(list(pool.values())), max_size=5, unique=True)) if pool else []
        form = draw(st.sampled_from(["", "soci-v1", "estargz"]))
        first = sum(each.unpacked for each in own) // 10 if form else 0
        digest = Digest(f"sha256:{number:064x}")
        found.append(ImageSize(name=f"i{number}", digest=digest, layers=tuple(own), form=form, first=first))
    return found


@given(fleets(), st.sampled_from(list(WAYS)), st.integers(0, 100 * GIB))
def test_what_a_node_needs_stays_and_a_release_beside_it_fits(images: list[ImageSize], way: Way, writable: int) -> None:
    found = disk(images, way=way, writable=writable)
    volume = found.volume_gib * GIB
    kept = found.images + writable
    assert found.gc_low_percent < found.gc_high_percent < 100 - found.evicted_percent
    assert kept + found.largest <= volume * found.gc_high_percent / 100
    # Where nothing new comes, kubelet clears down to what is needed at the least.
    assert kept <= volume * found.gc_low_percent / 100 or found.gc_low_percent == found.gc_high_percent - 1
    assert found.fits
    given_ = disk(images, way=way, writable=writable, given_gib=found.volume_gib)
    assert given_ == found
    needed_gib = math.ceil((kept + found.largest) * 100 / found.gc_high_percent / GIB)
    for smaller in {12, found.volume_gib - 1}:
        assert disk(images, way=way, writable=writable, given_gib=smaller).fits is (smaller >= needed_gib)
    if found.volume_gib > 20:
        assert not disk(images, way=way, writable=writable, given_gib=found.volume_gib - 1).fits


@given(fleets())
def test_each_layer_counts_once_and_lazily_never_costs_more(images: list[ImageSize]) -> None:
    whole, filled, lazy = (bytes_of(images, way) for way in WAYS)
    assert lazy <= filled
    assert bytes_of([*images, *images], "whole") == whole
    if all(each.form for each in images):
        assert filled <= whole
        assert filled == sum({each.diff_id: each.unpacked for image in images for each in image.layers}.values())


@given(st.integers(1, 1 << 25).map(lambda blocks: 512 * blocks), st.floats(0.051, 1.0))
def test_the_last_bytes_of_a_layer_tell_its_size_or_nothing(unpacked: int, share: float) -> None:
    """For tars of up to 16 GiB."""
    assert unwrapped(unpacked % (1 << 32), max(int(unpacked * share), 18)) in (unpacked, None)


@pytest.mark.parametrize(
    ("told", "compressed", "unpacked"),
    [
        (1024, 45, None),  # 23 to 1
        (10_240, 1_000, 10_240),
        (512 << 20, 100 << 20, 512 << 20),
        (512 << 20, 600 << 20, None),  # wrapped once or twice: 7 or 14 to 1
        (512 << 20, 400 << 20, None),  # not wrapped, or once
        (100, 80, None),  # no tar
        (512, 100_000, None),  # the last of several members
    ],
)
def test_sizes_that_are_known(told: int, compressed: int, unpacked: int | None) -> None:
    assert unwrapped(told, compressed) == unpacked


def test_a_ztoc_tells_the_size_in_its_first_bytes() -> None:
    """Those of the official builder."""
    stored = files()
    for vector in vectors("golden"):
        raw = stored[vector["ztoc"]]
        assert tar_bytes(raw[:HEAD_BYTES]) == vector["uncompressed_archive_size"]
    with pytest.raises(IndexInvalid):
        tar_bytes(b"\xff" * 64)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_ztoc_or_refused(raw: bytes) -> None:
    with suppress(IndexInvalid):
        assert tar_bytes(raw) >= 0


def noise(name: str, size: int) -> bytes:
    return pack([entry(name, content=random.Random(name).randbytes(size // 2) + bytes(size // 2))])


def told(*arguments: str, code: int = 0) -> dict[str, Any]:
    done = CliRunner().invoke(main, ["node", "size", "--platform", "linux/amd64", "--json", *arguments])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)["result"] or {}


def test_sizes_are_those_of_the_layers(counted: Counted, streamer: Streamer, key: Key, tmp_path: Path) -> None:
    """Of gzip by its last bytes, of an indexed layer by its ztoc, of eStargz by its annotation."""
    tars = [noise("a", 3 << 20), noise("b", 1 << 20)]
    made = [Layer(gzip.compress(tar, 6, mtime=0), tar) for tar in tars]
    release = push(counted.place, *made, tag="v1")
    plain = told(f"{counted.place}:v1")
    assert [each["unpacked"] for each in plain["images"][0]["layers"]] == [len(tar) for tar in tars]
    assert [each["compressed"] for each in plain["images"][0]["layers"]] == [len(each.blob) for each in made]
    assert plain["images"][0]["form"] == ""

    streamer.index(release, INDEXED)
    indexed = told(f"{counted.place}:v1", "--key", str(key.public))
    assert indexed["images"][0]["form"] == "soci-v1"
    for each, tar in zip(indexed["images"][0]["layers"], tars, strict=True):
        assert each["exact"] and 0 <= len(tar) - each["unpacked"] < 10_240  # tar pads its end
    assert 0 < indexed["images"][0]["first"] < sum(map(len, tars))

    streamer.convert(release, Stream(format="estargz"))
    chunked = told(f"{counted.place}:v1-estargz", "--key", str(key.public))["images"][0]
    assert chunked["form"] == "estargz" and all(each["exact"] for each in chunked["layers"])
    assert told(f"{counted.place}:v1-estargz")["images"][0]["form"] == ""  # nodes would not believe it

    both = tmp_path / "images.txt"
    both.write_text(f"# of a cluster\n{counted.place}:v1\n\n{counted.place}@{release.digest}\n")
    twice = told("--from", str(both), "--way", "whole")
    saved = {"schema": 1, "at": "2026-11-29T10:00:00Z", "uses": [{"image": f"{counted.place}@{release.digest}"}]}
    both.write_text(json.dumps(saved))
    assert told("--from", str(both), "--way", "whole")["disk"] == twice["disk"]
    assert twice["disk"]["images"] == sum(len(tar) for tar in tars) + sum(len(each.blob) for each in made)
    assert {each["way"] for each in twice["others"]} == {"filled", "lazy"}


def test_what_it_writes_is_what_setup_takes(counted: Counted, tmp_path: Path) -> None:
    tar = noise("a", 1 << 20)
    push(counted.place, Layer(gzip.compress(tar, 6, mtime=0), tar), tag="v1")
    done = CliRunner().invoke(
        main,
        ["node", "size", f"{counted.place}:v1", "--platform", "linux/amd64", "--writable", "60GiB", "--json"],
    )
    (tmp_path / "size.json").write_text(done.stdout)
    assert (
        read_size(tmp_path / "size.json").disk.volume_gib
        == json.loads(done.stdout)["result"]["disk"]["volume_gib"]
        > 70
    )
    words = ["node", "setup", "karpenter", "--to", str(tmp_path), "--size", str(tmp_path / "size.json")]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert "volumeSize: 71Gi" in (tmp_path / "ec2nodeclass.yaml").read_text()


def test_images_that_are_gone_are_said_and_the_others_counted(counted: Counted, tmp_path: Path) -> None:
    """A cluster's list has old ones, some that no account opens, and what is no reference."""
    tar = noise("a", 1 << 20)
    push(counted.place, Layer(gzip.compress(tar, 6, mtime=0), tar), tag="v1")
    there = told(f"{counted.place}:v1")
    listed = tmp_path / "list"
    listed.write_text(f"{counted.place}:gone\n{counted.place}:v1\nUPPER//\n")
    found = told("--from", str(listed), code=ContentError.exit_code)
    assert found["disk"] == there["disk"] and found["images"] == there["images"]
    errors = {each["name"]: each["error"] for each in found["unread"]}
    assert errors == {"UPPER//": "ReferenceInvalid", f"{counted.place}:gone": "NotFound"}

    words = ["--from", str(listed), "--platform", "linux/amd64"]
    shown = CliRunner().invoke(main, ["node", "size", *words])
    assert shown.exit_code == ContentError.exit_code and f"{counted.place}:gone could not be read" in shown.output
    (tmp_path / "size.json").write_text(CliRunner().invoke(main, ["node", "size", *words, "--json"]).stdout)
    written = ["node", "setup", "kubelet", "--to", str(tmp_path), "--size", str(tmp_path / "size.json")]
    said = CliRunner().invoke(main, written)
    assert said.exit_code == 0 and f"no room is computed for {counted.place}:gone" in said.stderr


def test_where_no_image_can_be_read_nothing_is_computed(counted: Counted) -> None:
    names = [f"{counted.place}:{number}" for number in range(23)]
    done = CliRunner().invoke(main, ["node", "size", *names, "--json"])
    assert done.exit_code == NotFound.exit_code
    answer = json.loads(done.stdout)
    assert answer["result"] is None and answer["error"]["error"] == "NotFound"
    assert len(answer["error"]["notes"]) == 21 and "2 more" in answer["error"]["notes"][-1]


def test_a_person_reads_what_was_estimated_and_what_is_not_served(counted: Counted) -> None:
    tar = noise("a", 1 << 20)
    several = gzip.compress(tar[:4096]) + gzip.compress(tar[4096:])
    push(counted.place, Layer(several + gzip.compress(b""), tar), tag="v1")
    words = ["node", "size", f"{counted.place}:v1", "--platform", "linux/amd64", "--disk", "1"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert "size of 1 image is estimated" in done.output and "cannot be served lazily" in done.output
    assert "too small" in done.output and "they do not fit" in done.output


@pytest.mark.parametrize("raw", [b"", b"{", b"{}", b'{"schema": 9}', b"# nothing\n \n", b"UPPER//\xff\n"])
def test_a_list_without_an_image_is_refused(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(raw)
    assert told("--from", str(tmp_path / "list"), code=InputError.exit_code) == {}


@pytest.mark.parametrize("arguments", [[], ["--from", "nowhere"], ["a.example/UPPER"], ["--disk", "0", "a.example/b"]])
def test_bad_input_is_refused(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["node", "size", *arguments])
    assert done.exit_code in (InputError.exit_code, 2, 9), done.output


def test_more_images_than_a_node_has_are_none_of_a_node(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("\n".join(f"a.example/{number}" for number in range(1001)))
    assert told("--from", str(tmp_path / "list"), code=InputError.exit_code) == {}
