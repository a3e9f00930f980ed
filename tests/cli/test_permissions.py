"""What the user may not read or write: told as that, or done without; never as a fault of the program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.oci import media_types
from registry_pipelines.oci.manifests import Manifest, manifest_bytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.cli.test_bad_input import PROGRAM
from tests.needs import missing

RIGHTS = "-dac_override,-dac_read_search"
"""By which root may do everything, and the user of a test in a container is root."""


def as_user() -> list[str]:
    """What to put before a command so that files' rights hold for it."""
    if os.geteuid():
        return []
    if not (program := shutil.which("setpriv")):
        missing("there is no setpriv")
    return [program, f"--bounding-set={RIGHTS}", f"--inh-caps={RIGHTS}", "--"]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A registry with an image."""
    with EmbeddedServer(tmp_path / "registry") as server:
        registry = DistributionRegistry(server.address)
        place = Place(registry, "app")
        config = push_blob(place, json.dumps({"os": "linux"}).encode(), media_type=media_types.OCI_CONFIG)
        layer = push_blob(place, b"layer", media_type=media_types.OCI_LAYER_GZIP)
        image = Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=(layer,))
        registry.put_manifest("app", manifest_bytes(image), tag="v1")
        registry.close()
        yield server.address


@pytest.mark.parametrize("target", ["copied", "app"], ids=["new", "unchanged"])
@pytest.mark.parametrize(("name", "mode", "code"), [(".", 0o000, 9), (".", 0o444, 9), ("couriers", 0o555, 0)])
def test_a_state_folder_that_may_not_be_used(
    name: str, mode: int, code: int, target: str, address: str, tmp_path: Path
) -> None:
    folder = tmp_path / "registry-pipelines" / "transfer" / name
    folder.mkdir(parents=True)
    folder.chmod(mode)
    try:
        done = subprocess.run(
            [*as_user(), *PROGRAM, "copy", f"{address}/app:v1", f"{address}/{target}:v1"],
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        folder.chmod(0o755)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "fault of the program" not in done.stderr


@pytest.mark.parametrize("mode", [0o000, 0o444])
@pytest.mark.parametrize("command", [["logout", "{0}"], ["login", "{0}", "-u", "me"]], ids=str)
def test_docker_s_folder_that_may_not_be_looked_into(
    command: list[str], mode: int, address: str, tmp_path: Path
) -> None:
    """A container's user with the home of another."""
    folder = tmp_path / "docker"
    folder.mkdir(mode=mode)
    folder.chmod(mode)
    more = ["--password-stdin"] if command[0] == "login" else []
    done = subprocess.run(
        [*as_user(), *PROGRAM, *(part.format(address) for part in command), *more],
        env={**os.environ, "DOCKER_CONFIG": str(folder)},
        input="secret",
        capture_output=True,
        text=True,
        check=False,
    )
    folder.chmod(0o755)
    assert done.returncode in (8, 9) and "Permission denied" in done.stderr and str(folder) in done.stderr
    assert "fault of the program" not in done.stderr


LOADING = """
import importlib.abc, sys

class Interrupts(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "registry_pipelines.cli.images":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupts())
from registry_pipelines.cli import main
main(["copy", "a", "b"])
"""


def test_an_interrupt_while_a_command_is_loaded_ends_as_any_other() -> None:
    done = subprocess.run([PROGRAM[0], "-c", LOADING], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
