"""The engines that tests of Dockerfiles share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.build.dockerfile.kit import Kit
from tests.build.dockerfile.kit import kit as started


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
