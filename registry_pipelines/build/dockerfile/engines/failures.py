"""The errors of a build, whichever engine it was."""

from __future__ import annotations

import re
from collections.abc import Iterable

from registry_pipelines.build.dockerfile.engines.protocol import Order
from registry_pipelines.errors import BuildFailed, DiskFull, RegistryPipelinesError
from registry_pipelines.progress import duration_text

_NO_IMAGE = re.compile(
    r"pull access denied|manifest unknown|repository does not exist|not found: manifest|no such host|"
    r"manifest for \S+ not found|connection refused|failed to resolve reference|image not known|"
    r"did not resolve to an alias|name unknown"
)


def too_long(order: Order, step: str, line: int, last_lines: Iterable[str]) -> BuildFailed:
    """A build that was ended at its time limit. step, line: what ran then; empty and 0 for nothing that is known."""
    limit = duration_text(order.spec.time_limit.total_seconds())
    return BuildFailed(
        f"the build took longer than {limit} and was ended" + (f", in step {step}" if step else ""),
        step=step,
        line=line,
        last_lines=list(last_lines),
        where=_where(order, line),
        do="Set a longer `time_limit`, or have that step do less",
    )


def step_failed(
    order: Order, message: str, step: str, line: int, last_lines: Iterable[str], free: str
) -> RegistryPipelinesError:
    """A build that an engine gave up. message: why, without values of secrets. free: what makes room on its disk."""
    if "no space left on device" in message:
        return DiskFull("the engine's disk is full", where=step or _where(order, line), do=f"Free some: {free}")
    if step.partition("] ")[2].upper().startswith(("FROM ", "COPY --FROM")) and _NO_IMAGE.search(message):
        return BuildFailed(
            f"an image cannot be had: {message}",
            step=step,
            line=line,
            where=_where(order, line),
            do="Look whether its registry has it, whether the name is right, and who may pull it",
        )
    what = f"step {step} failed: {message}" if step else message
    return BuildFailed(what, step=step, line=line, last_lines=list(last_lines), where=_where(order, line))


def _where(order: Order, line: int) -> str:
    return str(order.spec.path) + (f":{line}" if line else "")
