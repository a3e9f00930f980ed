"""One case of a drill: a client, its stand-ins, one fault, and the remedy where the client does not help itself."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from registry_pipelines.errors import LocalError
from registry_pipelines.oci.files import local_errors
from registry_pipelines.progress import Progress
from registry_pipelines.recover.failover.drill.authority import issue
from registry_pipelines.recover.failover.drill.faults import Fault
from registry_pipelines.recover.failover.drill.kinds import Scheme
from registry_pipelines.recover.failover.drill.model import (
    Attempt,
    Case,
    Client,
    Image,
    Outcome,
    PullFailed,
    Running,
    Waited,
)
from registry_pipelines.recover.failover.drill.stand_in import HOST, StandIn
from registry_pipelines.threads import Pool

CASES_AT_ONCE = 4
"""Each has a daemon of its own, which waits most of the time."""


def cases(
    clients: Sequence[Client], schemes: Sequence[Scheme], faults: Sequence[Fault], registries: Sequence[str]
) -> Iterator[Case]:
    """Everything to try: for each client and scheme the baseline, then each fault. Without TLS ``silent`` is what
    ``frozen`` is, and is left out beside it. registries: in order; of three and more, each client pulls once from each
    of the others alone, for one that lacks something is no help where the next one has it."""
    for client in clients:
        for scheme in schemes:
            yield Case(client, scheme, None)
            for fault in faults:
                if not (scheme == "http" and fault is Fault.SILENT and Fault.FROZEN in faults):
                    yield Case(client, scheme, fault)
        for alone in registries[1:] if len(registries) > 2 else ():
            yield Case(client, schemes[0], None, alone)


def try_all(
    wanted: Sequence[Case],
    image: Image,
    *,
    limit_s: float,
    rto_s: float,
    folder: Path,
    progress: Progress,
    at_once: int = CASES_AT_ONCE,
) -> list[Attempt]:
    """Try cases, some at a time; in their order what came of them. limit_s, rto_s: see :func:`try_case`. folder: for
    the clients' data; it must hold ``at_once`` copies of the image, packed and unpacked."""

    def act(case: Case) -> Attempt:
        progress.begin(case.text)
        attempt = try_case(case, image, limit_s=limit_s, rto_s=rto_s, folder=folder)
        progress.end(case.text, note=attempt.outcome)
        return attempt

    with Pool(at_once, "fail-over") as pool:
        return list(pool.map(act, wanted))


def try_case(case: Case, image: Image, *, limit_s: float, rto_s: float, folder: Path) -> Attempt:
    """Start a client that knows nothing, and pull while the first registry's stand-in is down; where that is not
    enough, take it out of the order and pull again, the fault going on. limit_s: ends the first pull; rto_s: one that
    nothing is in the way of."""
    if case.fault is None:
        limit_s = rto_s
    try:
        first, after = _tried(case, image, limit_s, rto_s, folder)
    except LocalError as error:
        first, after = _Pull(Outcome.NOT_TRIED, 0.0, str(error)), None
    return Attempt(
        client=case.client.kind,
        version=case.client.version,
        scheme=case.scheme,
        fault=case.fault,
        alone=case.alone,
        outcome=first.outcome,
        seconds=round(first.seconds, 2),
        limit_s=limit_s,
        said=first.said,
        remedied_s=round(after.seconds, 2) if after and after.outcome is Outcome.PULLED else None,
        remedy_said=after.said or str(after.outcome) if after and after.outcome is not Outcome.PULLED else "",
    )


class _Pull(NamedTuple):
    outcome: Outcome
    seconds: float
    said: str = ""


def _tried(case: Case, image: Image, limit_s: float, rto_s: float, folder: Path) -> tuple[_Pull, _Pull | None]:
    """The pull, and the one after the remedy where that was needed."""
    with ExitStack() as stack:
        data, sockets = _folder(stack, folder), _folder(stack, None)
        tls = issue(data, HOST) if case.scheme == "https" else None
        ca = tls.ca.read_bytes() if tls else b""
        stands = {
            name: stack.enter_context(StandIn(place, certificate=tls and tls.certificate, key=tls and tls.key))
            for name, place in image.places.items()
        }
        first, *others = stands
        form, reference = case.client.form, image.reference(case.client.form)
        running = stack.enter_context(case.client.started(data, sockets))
        asked = [case.alone] if case.alone else list(stands)
        running.order(image.files(form, {name: stands[name].url for name in asked}, ca))
        if case.fault is None:
            return _pull(running, reference, limit_s), None
        stands[first].inflict(case.fault)
        pulled = _pull(running, reference, limit_s)
        if pulled.outcome is Outcome.PULLED:
            if not any(stands[name].requests for name in others):
                raise LocalError(f"the stand-in was not {case.fault}: the client pulled from it", where=first)
            return pulled._replace(outcome=Outcome.FAILED_OVER), None
        running.order(image.files(form, {name: stands[name].url for name in others}, ca))
        return pulled, _pull(running, reference, rto_s)


def _folder(stack: ExitStack, parent: Path | None) -> Path:
    """A new folder. parent None: one with a short path, for sockets, whose paths have 107 bytes at most. What cannot be
    removed is no reason to fail."""
    with local_errors(parent or Path(tempfile.gettempdir())):
        made = tempfile.TemporaryDirectory(prefix="rp-drill-", dir=parent, ignore_cleanup_errors=True)
    return Path(stack.enter_context(made))


def _pull(running: Running, reference: str, limit_s: float) -> _Pull:
    began = time.monotonic()
    try:
        running.pull(reference, limit_s)
    except Waited:
        return _Pull(Outcome.WAITED, time.monotonic() - began)
    except PullFailed as error:
        return _Pull(Outcome.FAILED, time.monotonic() - began, str(error))
    return _Pull(Outcome.PULLED, time.monotonic() - began)


__all__ = ["CASES_AT_ONCE", "cases", "try_all", "try_case"]
