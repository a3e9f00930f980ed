"""A sync that is stopped in the middle of one large layer, by any signal, and what the next run sends again."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from registry_pipelines.config import EmbeddedRegistry, load
from registry_pipelines.errors import NotFound
from registry_pipelines.oci import media_types
from registry_pipelines.oci.manifests import Manifest, manifest_bytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.verify import compare
from tests.chain.fleet import Fleet
from tests.disk import bytes_below
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import HoldContent
from tests.patience import patient

LAYER_BYTES = 6 * PART_BYTES
PARTS_BEFORE = 3
"""Parts that the target has when the signal comes."""
HELD_AT = PARTS_BEFORE * PART_BYTES + PART_BYTES // 2
"""The source gives nothing from this byte on while the first run lives: the signal comes in the middle for sure."""
LIMIT_S = patient(60)

SYNC = """\
syncs:
  big: {source: near, repositories: [big/app], targets: [away]}
"""


def push_large(place: Place) -> None:
    """An image with one large layer, tagged v1."""
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    made = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            config=push_blob(place, json.dumps(config).encode(), media_type=media_types.OCI_CONFIG),
            layers=(push_blob(place, random.Random(4).randbytes(LAYER_BYTES), media_type=media_types.OCI_LAYER_GZIP),),
        )
    )
    place.registry.put_manifest(place.repository, made, tag="v1")


def configure(fleet: Fleet, source: FaultRegistry, target: FaultRegistry) -> None:
    """A sync `big` from `near` (us behind a proxy) to `away` (eu behind another)."""
    text = fleet.path.read_text()
    for name, proxy in (("near", source), ("away", target)):
        entry = f'  {name}: {{kind: distribution, host: "{proxy.address}"}}\n'
        text = text.replace("registries:\n", f"registries:\n{entry}", 1)
    text = text.replace("targets:\n", "targets:\n  away: {registry: away}\n", 1)
    fleet.path.write_text(text + SYNC)
    load(fleet.path, {})


def sent(faults: FaultRegistry) -> int:
    """Bytes of content that went up to the target."""
    return sum(each.bytes_up for each in faults.seen if "/blobs/uploads/" in each.target)


def stop_and_run_again(
    fleet: Fleet,
    proxies: tuple[FaultRegistry, FaultRegistry],
    command: Sequence[str],
    how: signal.Signals,
    env: Mapping[str, str],
) -> tuple[int, int]:
    """Run the command until the target has PARTS_BEFORE parts, send the signal, then run it again to its end.

    Returns the exit code of the stopped run, and the bytes that were sent in all beyond the layer's own.
    """
    log = fleet.folder / "stopped.log"
    with (
        held_in_the_middle(proxies[0]),
        log.open("wb") as output,
        subprocess.Popen(command, env=dict(env), stdout=output, stderr=output) as stopped,
    ):
        try:
            wait_for_parts(fleet, lambda: stopped.poll() is not None, log)
            stopped.send_signal(how)
            code = stopped.wait(LIMIT_S)
        finally:
            stopped.kill()
    return code, run_again(fleet, proxies, command, env)


@contextmanager
def held_in_the_middle(source: FaultRegistry) -> Iterator[None]:
    """The source gives the layer's beginning only."""
    release = threading.Event()
    source.play("GET", r".*/blobs/sha256.*", HoldContent(release, HELD_AT))
    try:
        yield
    finally:
        release.set()


def wait_for_parts(fleet: Fleet, ended: Callable[[], bool], log: Path) -> None:
    """Until the target has PARTS_BEFORE parts; fails with the log when the run ended before."""
    until = time.monotonic() + LIMIT_S
    while bytes_at(fleet, "eu") < PARTS_BEFORE * PART_BYTES:
        assert not ended() and time.monotonic() < until, log.read_text()
        time.sleep(0.01)


def run_again(
    fleet: Fleet, proxies: tuple[FaultRegistry, FaultRegistry], command: Sequence[str], env: Mapping[str, str]
) -> int:
    """The next run does the rest; the bytes that were sent in all beyond the layer's own."""
    source, target = proxies
    source.clear()
    there = Place(fleet.chain.registry("eu"), "big/app")
    with pytest.raises(NotFound):
        there.registry.resolve(there.repository, "v1")
    again = subprocess.run(command, env=dict(env), capture_output=True, text=True, timeout=LIMIT_S * 2)
    assert again.returncode == 0, again.stdout + again.stderr
    assert compare(Place(fleet.chain.registry("us"), "big/app"), there, "v1", content=True) == []
    return sent(target) - LAYER_BYTES


def bytes_at(fleet: Fleet, name: str) -> int:
    """What an embedded registry has on its disk, half received content included."""
    settings = fleet.config.registries[name]
    assert isinstance(settings, EmbeddedRegistry)
    return bytes_below(fleet.config.root(settings))


def address(fleet: Fleet, name: str) -> str:
    """Where an embedded registry listens."""
    settings = fleet.config.registries[name]
    assert isinstance(settings, EmbeddedRegistry)
    return settings.address
