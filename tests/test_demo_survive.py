"""``make demo-survive``, whole."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.patience import patient

SCRIPT = Path(__file__).parents[1] / "deploy" / "demo-survive"


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_registry_is_destroyed_and_comes_back(tmp_path: Path) -> None:
    done = subprocess.run(
        [SCRIPT],
        env={**os.environ, "KEEP": str(tmp_path / "kept")},
        capture_output=True,
        text=True,
        timeout=patient(250),
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "there is no repository ml/forecaster" in done.stderr
    assert re.search(r"RTO [0-9.]+ s, until all was back; RPO ", done.stdout)
    assert re.search(r"signatures verified: 1; started: (forecaster:v1.0.0@\S+ in|not started: )", done.stdout)
