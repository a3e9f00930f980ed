"""``make demo-airgap``, whole: what it prints at its end is what the issue of the gap promises."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.patience import patient
from tests.stream.lazy.stacks import need_root

SCRIPT = Path(__file__).parents[1] / "deploy" / "demo-airgap" / "run.py"


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.peer("containerd", "ctr")
def test_images_cross_start_and_are_let_go(peer: Callable[[str], str], tmp_path: Path) -> None:
    need_root()
    assert peer("containerd") and peer("ctr")
    words = [sys.executable, str(SCRIPT), "--keep", str(tmp_path / "gap"), "--picture", str(tmp_path / "gap.svg")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=patient(1000))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    text = done.stdout
    assert text.startswith("The far side's routes: none")
    assert text.count("greetings 1.0, pulled as docker.io/library/greeting") == 2, "before it was let go, and after"
    assert "hello from behind the gap" in text and "good morning from behind the gap" in text
    rows = dict(re.findall(r"^(bundle 1|bundle 2|registry before|registry after) +([0-9.]+) MB$", text, re.MULTILINE))
    sizes = {name: float(size) for name, size in rows.items()}
    assert sizes["bundle 2"] < sizes["bundle 1"] / 50
    assert sizes["registry after"] < sizes["registry before"] - 15
    assert (tmp_path / "gap.svg").read_text().startswith("<svg")
    again = subprocess.run(words, capture_output=True, text=True, timeout=patient(60))
    assert again.returncode and "is not empty" in again.stderr
