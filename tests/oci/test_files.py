"""Files that several processes agree by."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from registry_pipelines.errors import StateLocked
from registry_pipelines.oci import files


def test_a_lock_that_its_holder_took_away_is_held_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who holds it may remove the folder when he is done; who opened it before then would hold a file that is gone,
    beside one who makes it anew."""
    lock, locked = tmp_path / "staging" / "lock", files._locked

    def ended(descriptor: int) -> bool:
        monkeypatch.setattr(files, "_locked", locked)
        shutil.rmtree(lock.parent)
        return locked(descriptor)

    monkeypatch.setattr(files, "_locked", ended)
    with files.held_alone(lock, "another"), pytest.raises(StateLocked), files.held_alone(lock, "another"):
        pass
