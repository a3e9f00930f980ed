"""SIGKILL of the real command line while thirty layers go into a repository that does not exist yet.

Bytes are counted per request, behind the link that breaks: a blob that the registry confirmed must never be sent again,
and of an upload under way at most one part.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.verify import compare
from tests.doubles.families import FAMILIES, FamilyServer
from tests.doubles.fault_registry import FaultRegistry, Seen
from tests.doubles.link import Link

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

LAYERS = [PART_BYTES * 2 + 40_000 * each for each in range(4)] + [150_000 + 9_000 * each for each in range(26)]
COMMAND = [sys.executable, "-c", "from registry_pipelines.cli import main; main()", "copy", "--quiet"]
FRAMES_BYTES = 10_000
"""Of chunked content, in all."""


FAMILIES_BY_NAME = {family.name: family for family in FAMILIES}


@pytest.fixture(
    params=[
        pytest.param("docker-registry", marks=pytest.mark.peer("docker-registry")),
        "embedded",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("zot", "distribution-2.8", "distribution-3-s3")),
    ]
)
def there(
    request: pytest.FixtureRequest, connect: Callable[..., DistributionRegistry], tmp_path: Path
) -> Iterator[Place]:
    """A repository that does not exist yet."""
    if request.param == "embedded":
        yield request.getfixturevalue("start_embedded")().place("new")
    elif request.param == "docker-registry":
        yield Place(connect(request.getfixturevalue("start_docker_registry")()), "new")
    else:
        with FamilyServer(FAMILIES_BY_NAME[request.param], tmp_path / "family") as server:
            yield Place(connect(server.address), "new")


@pytest.fixture
def counting(there: Place) -> Iterator[FaultRegistry]:
    with FaultRegistry(there.registry.name) as faults:
        yield faults


@pytest.fixture
def link(counting: FaultRegistry) -> Iterator[Link]:
    with Link(counting.address) as link:
        yield link


def stored(seen: list[Seen]) -> Counter[str]:
    """Digest to how often the registry confirmed it."""
    return Counter(one.target.rpartition("digest=")[2] for one in seen if one.method == "PUT" and one.status == 201)


def left_open(seen: list[Seen]) -> int:
    """Uploads in several requests that were not finished."""
    begun = {one.target.partition("?")[0] for one in seen if one.method == "PATCH"}
    return len(begun - {one.target.partition("?")[0] for one in seen if one.method == "PUT" and one.status == 201})


def not_again(finished: Counter[str], seen: list[Seen]) -> Counter[str]:
    """What the registry has confirmed by now; of that which it had confirmed before nothing once more."""
    now = stored(seen)
    assert {digest: now[digest] for digest in finished} == finished
    return now


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_a_blob_that_is_finished_is_not_sent_again(
    source: Counted, there: Place, counting: FaultRegistry, link: Link, graphs: Graphs, tmp_path: Path, kills: int
) -> None:
    here = source.place("app")
    graphs.image(here, *(graphs.noise(size, at) for at, size in enumerate(LAYERS)), tag="v1")
    manifest = here.registry.get_manifest("app", "v1").content()
    assert isinstance(manifest, Manifest)

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*COMMAND, f"{here}:v1", f"{link.address}/{there.repository}"],
            stdout=subprocess.DEVNULL,
            cwd=tmp_path,
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        )

    picks, step, torn = random.Random(11), sum(LAYERS) // kills, 0
    finished: Counter[str] = Counter()
    for kill in range(kills):
        link.break_at("up", kill * step + picks.randrange(step), "silent")
        began, process = len(counting.seen), start()
        link.wait_until_broken(lambda process=process: process.poll() is not None)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        torn += left_open(counting.seen[began:])
        finished = not_again(finished, counting.seen)
        link.mend()
    end = start()
    assert end.wait() == 0
    assert compare(here, there, "v1", content=True) == []

    uploads = [one for one in counting.seen if "/blobs/uploads/" in one.target]
    blobs = {blob.digest: blob.size for blob in (manifest.config, *manifest.layers)}
    assert stored(uploads).keys() == blobs.keys()
    not_again(finished, uploads)
    large = sum(size for size in blobs.values() if size > PART_BYTES)
    assert sum(one.bytes_up for one in uploads if one.method == "PATCH") <= large + torn * PART_BYTES + FRAMES_BYTES
