"""What is on a disk while others write to it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path


def bytes_below(folder: Path) -> int:
    """Bytes of all files, finished or not; files and folders may come and go meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):  # which passes over a folder that is gone
        for name in names:
            with suppress(FileNotFoundError):
                facts = Path(place, name).stat()
                total += facts.st_size if stat.S_ISREG(facts.st_mode) else 0
    return total
