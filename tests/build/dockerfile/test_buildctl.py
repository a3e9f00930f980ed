"""The same by ``buildctl``, with a BuildKit of its own (its Go module's, outside CI)."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import structs

from registry_pipelines.build.dockerfile.builder import DockerfileBuilder
from registry_pipelines.build.dockerfile.engines.protocol import CacheReference
from registry_pipelines.errors import BuildFailed, ToolMissing
from tests.build.dockerfile.kit import SECRET, Kit, processes, project, spec
from tests.needs import missing
from tests.patience import patient

pytestmark = pytest.mark.long


@contextmanager
def buildkitd(program: str, buildctl: str) -> Iterator[str]:
    """A daemon of its own, and what BUILDKIT_HOST is for it."""
    if os.getuid() != 0:
        missing("buildkitd needs root")
    with tempfile.TemporaryDirectory(prefix="buildkitd-") as name:
        address = f"unix://{name}/b.sock"
        command = [program, "--root", f"{name}/root", "--addr", address, "--containerd-worker=false"]
        command += ["--oci-worker-net=host", "--allow-insecure-entitlement=network.host"]
        with Path(name, "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + patient(60)
            while subprocess.run([buildctl, "--addr", address, "debug", "workers"], capture_output=True).returncode:
                assert process.poll() is None and time.monotonic() < deadline, Path(name, "log").read_text()[-2000:]
                time.sleep(0.1)
            yield address
        finally:
            process.terminate()
            process.wait(patient(30))


def test_buildctl_makes_the_same_image_and_takes_its_steps_from_the_cache_of_the_other(
    kit: Kit, peer: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon, client = peer("../buildkit/buildkitd"), peer("../buildkit/buildctl")
    wanted, place = spec(kit, project(tmp_path / "context")), kit.place("ctl/app")
    cache = CacheReference(kit.place("ctl/cache"), "app", plain_http=True)
    first = DockerfileBuilder(tmp_path / "first", cache=cache).build(wanted, place)
    assert first.engine.startswith("buildx")

    monkeypatch.setenv("PATH", f"{Path(client).parent}:{os.environ['PATH']}")
    by_buildctl = structs.replace(wanted, engine="buildctl")
    with pytest.raises(ToolMissing, match="buildctl"):
        monkeypatch.setenv("BUILDKIT_HOST", f"unix://{tmp_path}/none.sock")
        DockerfileBuilder(tmp_path / "none").build(by_buildctl, kit.place("ctl/none"))
    with buildkitd(daemon, client) as address:
        monkeypatch.setenv("BUILDKIT_HOST", address)
        # It takes every step of the other daemon's from the cache. The files are the same to the bit; the digests are
        # not, since another BuildKit compresses in another way what it gives new times.
        cached = DockerfileBuilder(tmp_path / "second", cache=cache).build(by_buildctl, kit.place("ctl/cached"))
        assert cached.engine.startswith("buildctl")
        assert [row.diff_id for row in cached.layers] == [row.diff_id for row in first.layers]
        assert all(step.cached for step in cached.steps if "] RUN" in step.name)
        failing = project(tmp_path / "failing", "ARG BASE\nFROM ${BASE}\nRUN echo so far && cat /nowhere\n")
        with pytest.raises(BuildFailed) as caught:
            DockerfileBuilder(tmp_path / "third").build(
                structs.replace(by_buildctl, context=failing, version="v2"), kit.place("ctl/failing")
            )
        assert caught.value.line == 3 and caught.value.last_lines[0] == "so far"
        assert SECRET not in str(caught.value)
        assert not processes([client, "build"])
