"""Rechunking that is killed, or has no room: the next run goes on, and nothing stays behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from registry_pipelines.anatomy.rechunk.engine import rechunk
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.patience import patient
from tests.scan.images import dist_info, push_image
from tests.stream.lazy.stacks import need_root

SITE = "usr/lib/python3/site-packages"
RANDOM = os.urandom(1 << 20)

RUN = """
import os, signal, sys
from pathlib import Path
from registry_pipelines.anatomy.rechunk.engine import rechunk
from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.progress import Silent
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place

class Deadly(Silent):
    # Dies after n pieces, or at the end of the first task of a name.
    left = int(sys.argv[3]) if sys.argv[3].isdigit() else 0
    def advance(self, *arguments, **more):
        Deadly.left -= 1
        if not Deadly.left:
            os.kill(os.getpid(), signal.SIGKILL)
    def end(self, task, *arguments, **more):
        if task.partition(" ")[0] == sys.argv[3]:
            os.kill(os.getpid(), signal.SIGKILL)

folder = Path(sys.argv[1])
place = Place(LayoutRegistry(folder / "registry"), "team/app")
try:
    made = rechunk(place, sys.argv[2], place, state=folder / "state", progress=Deadly())
except RegistryPipelinesError as error:
    sys.exit(f"{type(error).__name__}: {error}")
print(made.derived, made.bytes_sent)
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(LayoutRegistry(tmp_path / "registry"), "team/app")


def run(folder: Path, image: str, death: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN, str(folder), image, death]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=patient(60))


def test_it_is_killed_at_many_points_and_goes_on(place: Place, tmp_path: Path) -> None:
    packages = {f"p{number}": RANDOM * 4 for number in range(2)}
    files = {f"{SITE}/{name}/_native.so": content for name, content in packages.items()}
    infos = [dist_info(name, "1") for name in packages]
    image = push_image(place, [{**files, **infos[0], **infos[1]}, {"app/main.py": "1"}])
    whole = rechunk(place, image.digest, Place(place.registry, "team/whole"), state=tmp_path / "other")
    for death in ("3", "read", "layer"):
        assert run(tmp_path, image.digest, death).returncode == -9
    done = run(tmp_path, image.digest, "never")
    derived, sent = done.stdout.split()
    # A layer that was there before the last kill is not made again.
    assert derived == whole.derived and 0 < int(sent) < whole.bytes_sent
    left = {path.name for path in (tmp_path / "state" / "rechunk").iterdir()}
    assert all(name.startswith("layers.sqlite") for name in left)


def test_a_full_disk_is_said_and_nothing_names_what_was_begun(place: Place, tmp_path: Path) -> None:
    need_root()
    image = push_image(place, [{"app/model.bin": RANDOM * 6}])
    (tmp_path / "state" / "rechunk").mkdir(parents=True)
    room = f"mount -t tmpfs -o size=3m none {tmp_path}/state/rechunk"
    mounted = f'{room} && exec {sys.executable} -c "$1" {tmp_path} $2 never'
    ran = subprocess.run(
        ["unshare", "-m", "sh", "-c", mounted, "sh", RUN, image.digest],
        capture_output=True,
        text=True,
        check=False,
        timeout=patient(60),
    )
    assert ran.returncode == 1 and ran.stderr.startswith("DiskFull: ") and "state/rechunk" in ran.stderr
    blobs = sum(path.is_file() for path in (tmp_path / "registry").rglob("blobs/sha256/*"))
    assert blobs == 3  # the image's own: manifest, config, layer
    assert run(tmp_path, image.digest, "never").returncode == 0
