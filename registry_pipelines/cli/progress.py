"""Progress for people, always on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from registry_pipelines.progress import Progress, Silent


@contextmanager
def shown_progress(*, quiet: bool) -> Iterator[Progress]:
    """The progress that fits where stderr goes; silent when asked."""
    if quiet:
        yield Silent()
    elif sys.stderr.isatty():
        from registry_pipelines.cli.bars import shown_bars  # what draws them is loaded where they are seen

        with shown_bars() as bars:
            yield bars
    else:
        from registry_pipelines.tally import bulletins

        with bulletins(lambda line: print(line, file=sys.stderr, flush=True)) as lines:
            yield lines
