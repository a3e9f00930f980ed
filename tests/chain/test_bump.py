"""One new wheel moves that wheel's layer, the config, the manifests and the evidence: at the source and everywhere."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.chain.result import StageResult
from registry_pipelines.release import Release
from tests.build.wheels import make_wheel
from tests.chain.fleet import Fleet, push, start

BULK_BYTES = 12_000_000
"""The wheels that stay."""

BUMPED_BYTES = 11_000_000
"""Enough for a layer of its own; small wheels share one."""

SMALL_BYTES = 150_000
"""Config, manifests and evidence of one release."""

BUILD = (
    "targets: [eu, gcp], build: {{version: {0}, base: 'us/team/tool:base', python: '3.11', libc: none, wheels: wheels,"
    " platforms: [linux/amd64], requirements: [bulk==1.0, arrays=={1}], application: application}}}}"
)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        push(fleet.chain.place("tool"), "base", package="base", provenance=False)
        wheels = tmp_path / "wheels"
        make_wheel(wheels, "bulk", "1.0", {"bulk/data.so": random.Random(1).randbytes(BULK_BYTES)}, level=1)
        for minor in (0, 1):
            content = random.Random(2 + minor).randbytes(BUMPED_BYTES)
            make_wheel(wheels, "arrays", f"1.{minor}", {"arrays/lib.so": content}, level=1)
        (tmp_path / "application").mkdir()
        (tmp_path / "application" / "app.py").write_text("print('hello')\n")
        yield fleet


def ship(chain: Chain) -> dict[str, StageResult]:
    """The release through every stage; what each said."""
    found = {"build": chain.build("app")}
    release = Release.parse(found["build"].subject)
    for act in (chain.sbom, chain.vulnerabilities, chain.sign, chain.judge, chain.promote):
        found[act.__name__] = act(release)
    for target in ("eu", "gcp"):
        found[target] = chain.replicate(release, target)
    found["mirror"] = chain.mirror_release(release, "airgap")
    assert all(result.ok for result in found.values()), {name: result.reasons for name, result in found.items()}
    return found


def stored(fleet: Fleet) -> dict[str, dict[str, int]]:
    """Blobs on each registry's disk by digest, with their sizes."""
    return {
        name: {
            path.name: path.stat().st_size
            for path in (fleet.config.state / "registries" / name).rglob("blobs/sha256/*")
            if path.is_file()
        }
        for name in fleet.config.registries
    }


def test_a_bumped_wheel_moves_alone_to_every_place(fleet: Fleet) -> None:
    ship(fleet.reload(("targets: [eu, gcp]}", BUILD.format("v1.0.0", "1.0"))))
    before = stored(fleet)
    moved = ship(fleet.reload(("version: v1.0.0", "version: v1.1.0"), ("arrays==1.0", "arrays==1.1")))
    after = stored(fleet)
    new = {name: {key: size for key, size in after[name].items() if key not in before[name]} for name in after}
    for name, blobs in new.items():
        large = sorted(size for size in blobs.values() if size > SMALL_BYTES)
        assert len(large) == 1 and large[0] == pytest.approx(BUMPED_BYTES, rel=0.01), name
        assert sum(blobs.values()) - large[0] < SMALL_BYTES, name
        assert sum(before[name].values()) > BULK_BYTES + BUMPED_BYTES, name
    for stage, places in (("build", 1), ("eu", 1), ("gcp", 1), ("mirror", 2)):
        assert moved[stage].bytes_moved == pytest.approx(places * BUMPED_BYTES, abs=places * SMALL_BYTES), stage
