"""kill -9 while a bundle is made: the same command finishes it, and the bytes are those of a run without a kill."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.mirror.bundle.format import read_bundle
from registry_pipelines.mirror.bundle.parts import HALF
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import Size
from tests.evidence.parts import Key
from tests.mirror.bundle.gap import far_layout, publish, whole
from tests.mirror.bundle.nearside import stream_of_parts
from tests.patience import patient
from tests.scan.images import push_image

CONFIG = """
state: {here}/state-{name}
registries:
  dmz: {{kind: layout, root: {here}/dmz}}
  private: {{kind: layout, root: {here}/unreachable}}
mirrors:
  upstreams:
    via: dmz
    to: private
    across: bundle
    upstreams: [{{image: example.com/library/app, tags: [latest]}}, {{image: example.com/library/big}}]
signing: {{promoter: {{key: {key}}}}}
"""
RUN = "from registry_pipelines.cli import main; main()"
KILLED = """
import sys, threading
from registry_pipelines.cli import main
from registry_pipelines.mirror.bundle import parts
most, sync_folder = int(sys.argv.pop(1)), parts.sync_folder
def named(folder):
    sync_folder(folder)
    if len(list(folder.glob("*.part????"))) == most:
        threading.Event().wait()
parts.sync_folder = named
main()
"""
"""Goes no further than so many parts: on a busy machine all would be there before the test looks again."""


class Command:
    """``bundle create`` in a process of its own, with its own state and medium."""

    def __init__(self, here: Path, name: str, key: Path) -> None:
        self.disk = here / name
        config = here / f"{name}.yaml"
        config.write_text(CONFIG.format(here=here, name=name, key=key))
        words = ["bundle", "create", "upstreams", "--to", str(self.disk), "--part-size", "64KiB", "--quiet"]
        self.words = [*words, "--config", str(config)]

    def finish(self) -> None:
        subprocess.run([sys.executable, "-c", RUN, *self.words], check=True, capture_output=True, timeout=patient(60))

    def kill_after(self, parts: int) -> bool:
        """Whether it was killed in the middle, with so many parts there, or up to four more."""
        words = [sys.executable, "-c", KILLED, str(parts + 4), *self.words]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while process.poll() is None and len(list(self.disk.glob("*.part????"))) < parts:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
        finally:
            process.wait(timeout=patient(60))
        return not list(self.disk.glob("*.json"))


@pytest.mark.parametrize("kills", [(3,), pytest.param((1, 5, 12, 25), marks=pytest.mark.long)])
def test_killed_it_is_the_bundle_of_a_run_without_a_kill(
    tmp_path: Path, make_key: Callable[[str], Key], kills: Sequence[int]
) -> None:
    dmz = LayoutRegistry(tmp_path / "dmz")
    publish(dmz, 1)
    push_image(Place(dmz, "library/big"), [{"weights": random.Random(3).randbytes(2_500_000)}], tag="1")
    key = make_key("near").path
    one, other = Command(tmp_path, "one", key), Command(tmp_path, "other", key)
    Chain(load(tmp_path / "one.yaml")).create_bundle("upstreams", [one.disk], part_size=Size(64 * 1024))
    for parts in kills:
        assert other.kill_after(parts)
    other.finish()
    bundles = [read_bundle((each.disk / "upstreams-0001.bundle.json").read_bytes()).bundle for each in (one, other)]
    assert bundles[0].parts == bundles[1].parts and len(bundles[0].parts) > 30
    assert not list(other.disk.glob(f"*{HALF}"))
    stream_of_parts(bundles[1], other.disk)
    far = far_layout(tmp_path / "far")
    far.load(other.disk)
    assert whole(far.registry, ["library/big"]) == whole(dmz, ["library/big"])
