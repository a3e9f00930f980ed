"""The guide from an image with baked weights, on 1 GiB of them: bytes that move and times until a program has read its
weights, under containerd, before and after. Prints the guide's table."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.anatomy.baked_images import MIB, safetensors
from tests.doubles.containerd import Containerd, containerd
from tests.needs import missing
from tests.scan.images import Files, make_tar, push_image

SHARDS = 8
SHARD_BYTES = 128 * MIB


def push_baked(place: Place, tag: str, busybox: bytes, model: Files) -> None:
    """One COPY of code and model, as many Dockerfiles have it."""
    base = make_tar({"bin/busybox": busybox, "bin/sh": "->busybox", "bin/cat": "->busybox"}, executable=["bin/busybox"])
    push_image(place, [base, {**model, "app/main.py": f"version = {tag!r}\n"}], tag=tag)


def sizes(place: Place, tag: str) -> dict[str, int]:
    """Stored bytes by blob."""
    content = place.registry.get_manifest(place.repository, tag).content()
    assert isinstance(content, Manifest)
    return {str(each.digest): each.size for each in (content.config, *content.layers)}


def start(ctr: Containerd, image: str, *more: str) -> float:
    """Seconds of a pull and a program that reads all its weights."""
    began = time.monotonic()
    ctr("images", "pull", "--plain-http", image)
    told = ctr(
        *("run", "--rm", "--env", "PATH=/bin", *more, image, f"c{time.monotonic_ns()}"),
        *("sh", "-c", "cat /models/llama/*.safetensors | busybox wc -c"),
    )
    assert int(told) >= SHARDS * SHARD_BYTES
    return time.monotonic() - began


@pytest.mark.long
def test_bytes_and_start_times_before_and_after(
    peer: Callable[[str], str], installed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if os.geteuid() != 0:
        missing("containerd needs root")
    program, client, busybox = peer("../containerd2/containerd"), peer("../containerd2/ctr"), peer("busybox")
    assert peer("runc")
    model: Files = {
        **{f"models/llama/model-{n}.safetensors": safetensors(SHARD_BYTES, seed=n, tensors=8) for n in range(SHARDS)},
        "models/llama/config.json": "{}",
    }

    def run(*command: str) -> None:
        done = subprocess.run([installed, *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    with (
        EmbeddedServer(tmp_path / "registry") as server,
        tempfile.TemporaryDirectory(prefix="c-") as short,
        containerd(program, client, Path(short), version=3) as ctr,
    ):
        host, folder = server.address, tmp_path / "node"
        place = Place(DistributionRegistry(host), "ml/server")
        for tag in ("v1", "v2"):
            push_baked(place, tag, Path(busybox).read_bytes(), model)
        name = f"{host}/ml/server"
        before = [start(ctr, f"{name}:{tag}") for tag in ("v1", "v2")]
        run("weights", "out", f"{name}:v1", "--to", f"{host}/models/llama:1")
        run("rechunk", f"{name}:v1", "--drop", "weights", "--to", f"{name}:v1-code")
        run("rechunk", f"{name}:v2", "--drop", "weights", "--to", f"{name}:v2-code", "--previous", f"{name}:v1-code")
        mount = ("--mount", f"type=bind,src={folder},dst=/models/llama,options=rbind:ro")
        began = time.monotonic()
        run("weights", "pull", f"{host}/models/llama:1", "--to", str(folder))
        pulled = time.monotonic() - began
        after = [pulled + start(ctr, f"{name}:v1-code", *mount), start(ctr, f"{name}:v2-code", *mount)]
        stored = {tag: sizes(place, tag) for tag in ("v1", "v2", "v1-code", "v2-code")}
        weights = sum(sizes(Place(DistributionRegistry(host), "models/llama"), "1").values())
    moved = {
        new: sum(size for digest, size in stored[new].items() if digest not in stored[old])
        for old, new in (("v1", "v2"), ("v1-code", "v2-code"))
    }
    row = {
        "first bytes": (sum(stored["v1"].values()), sum(stored["v1-code"].values()) + weights),
        "next release bytes": (moved["v2"], moved["v2-code"]),
        "first start s": (round(before[0], 1), round(after[0], 1)),
        "weights pull s": round(pulled, 1),
        "next release start s": (round(before[1], 1), round(after[1], 1)),
    }
    with capsys.disabled():
        print(json.dumps(row, indent=1))
    assert moved["v2"] > SHARDS * SHARD_BYTES * 0.9 and moved["v2-code"] < 100_000
