"""Start fast: index a release, derive one that starts fast of what was pushed, and say what keeps one from it."""

from __future__ import annotations

import time

from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.errors import ContentError
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.check import SEVERITIES, check_release
from registry_pipelines.stream.check_kinds import CheckRow


def check(place: Place, selector: str, *, subject: str) -> StageResult:
    """What keeps an image from starting before it is fetched whole, a row for each thing, the worst first; read only.
    ``ok``: nothing that was made for streaming is broken or missing. A layer that a node fetches whole is a warning.

    selector: digest or tag. subject: what it is called in the answer. Raises RegistryError: not found, or no answer.
    """
    started = time.monotonic()
    found = check_release(place, selector)
    counts = {severity: found.count(severity) for severity in SEVERITIES}
    worst = [row for row in found.rows if row.severity == "error"]
    return StageResult(
        stage="check",
        subject=subject,
        action=", ".join(count_text(count, severity) for severity, count in counts.items() if count) or "all well",
        digest=found.release,
        seconds=time.monotonic() - started,
        facts={f"{severity}s": count for severity, count in counts.items()},
        rows=[_check_row(row) for row in found.rows],
        reasons=list(dict.fromkeys(f"{row.layer or row.platform or subject}: {row.what}; {row.do}" for row in worst)),
        ok=not worst,
        exit_code=ContentError.exit_code if worst else 0,
    )


def _check_row(row: CheckRow) -> dict[str, Scalar]:
    return {
        "severity": row.severity,
        "reader": row.reader,
        "platform": row.platform,
        "layer": row.layer,
        "what": row.what,
        "why": row.why,
        "do": row.do,
        "name": row.name,
        "source": row.source,
    }
