"""What takes minutes: every family to every other one, and syncs that are killed at many requests and go on."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.verify import compare
from tests.doubles.families import FAMILIES, Family
from tests.families.content import SIGNED_TAG
from tests.families.matrix import Matrix
from tests.patience import patient
from tests.scan.images import push_image

pytestmark = pytest.mark.long
KILLS = 8
LAYER_BYTES = 20_000_000
"""So that it goes in several chunks where a registry takes chunks."""
COMMAND = [sys.executable, "-c", "from registry_pipelines.cli import main; main()", "sync", "deliver", "--quiet"]
WRITABLE = [family for family in FAMILIES if not family.read_only]


@pytest.fixture(scope="module")
def matrices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Matrix]]:
    found: dict[str, Matrix] = {}
    yield found
    for matrix in found.values():
        matrix.__exit__()


def opened(family: Family, matrices: dict[str, Matrix], folder: Path) -> Matrix:
    if family.name not in matrices:
        matrices[family.name] = Matrix(family, folder).__enter__()
    return matrices[family.name]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param(source, target, id=f"{source.name}-to-{target.name}")
        for source, target in itertools.product(FAMILIES, WRITABLE)
        if source is not target
    ],
)
def test_from_each_family_to_each_other(
    source: Family, target: Family, matrices: dict[str, Matrix], tmp_path_factory: pytest.TempPathFactory
) -> None:
    here, there = (
        opened(each, matrices, tmp_path_factory.mktemp(each.name.replace(".", "-"))) for each in (source, target)
    )
    name = f"from-{source.name}"
    if target.needs_repositories:
        there.layout_here(name).create()
    place, copied = Place(here.here, here.name("signed")), Place(there.here, there.name(name))
    for tag in (SIGNED_TAG, *source.tags):
        copy_closure(place, tag, [copied], engine=Engine(state=there.folder / "pairs"))
    assert compare(place, copied, SIGNED_TAG, content=True) == []
    there.check_same(here.layout_here("signed"), there.layout_here(name))
    again = copy_closure(place, SIGNED_TAG, [copied], engine=Engine(state=there.folder / "pairs"))
    assert not again.changed


@pytest.mark.parametrize("family", WRITABLE, ids=lambda family: family.name)
def test_a_sync_that_is_killed_again_and_again_goes_on(family: Family, tmp_path: Path) -> None:
    picks = random.Random(family.name)
    with Matrix(family, tmp_path) as matrix:
        push_image(Place(matrix.there, "sibling"), [picks.randbytes(LAYER_BYTES)], tag="large")
        killed = 0
        for _ in range(KILLS):
            left = picks.randrange(1, 40)
            process = subprocess.Popen(
                [*COMMAND, "--config", str(tmp_path / "registry-pipelines.yaml")],
                env={**os.environ, "FAMILY_PASSWORD": matrix.password},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            countdown = itertools.count(1)

            def watch(_: object, process: subprocess.Popen[bytes] = process, left: int = left, countdown=countdown):  # type: ignore[no-untyped-def]
                if next(countdown) == left:
                    process.send_signal(signal.SIGKILL)

            matrix.server.watch = watch
            killed += process.wait(patient(120)) == -signal.SIGKILL
        matrix.server.watch = lambda _: None
        done = matrix.chain.sync("deliver")
        assert done.ok, done.reasons
        assert killed
        for name in ("signed", "sibling"):
            matrix.check_same(matrix.layout_there(name), matrix.layout_here(f"to/{name}"))
