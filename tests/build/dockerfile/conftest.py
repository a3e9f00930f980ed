"""The engines that tests of Dockerfiles share."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.build.dockerfile.kit import Kit, shell_root
from tests.build.dockerfile.kit import kit as started
from tests.doubles.docker_daemon import Docker, own_docker


@pytest.fixture(scope="session")
def _kit(peer: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    with started(peer, tmp_path_factory.mktemp("kit")) as kit:
        yield kit


@pytest.fixture
def kit(_kit: Kit, monkeypatch: pytest.MonkeyPatch) -> Kit:
    """A real BuildKit that this process's programs find."""
    for name, value in _kit.environment.items():
        monkeypatch.setenv(name, value)
    return _kit


@pytest.fixture(scope="session")
def docker20(peer: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """Docker 20.10, whose image ``base:1`` is a shell."""
    folder = tmp_path_factory.mktemp("base")
    shell_root(folder / "root", peer("busybox"))
    subprocess.run(["tar", "-C", folder / "root", "-cf", folder / "base.tar", "."], check=True)
    with own_docker(peer) as client:
        client("import", str(folder / "base.tar"), "base:1")
        yield client
