"""What attempts of a drill mean: whether they are what was promised, and what helps where a client does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum

from registry_pipelines.recover.failover.drill.faults import Fault
from registry_pipelines.recover.failover.drill.kinds import Kind
from registry_pipelines.recover.failover.drill.model import Attempt, Outcome
from registry_pipelines.recover.failover.drill.settings import FailoverObjectives

DOCKERS = (Kind.DOCKER, Kind.DOCKER_CONTAINERD)


class Verdict(StrEnum):
    """Of one attempt."""

    BY_ITSELF = "by itself"
    """The client pulled in time without help."""
    BY_HAND = "by hand"
    """It did not, which is accepted for this fault, and the remedy worked."""
    MISSED = "missed"
    """Neither; or the remedy worked, and this fault must not need one."""


def judge(attempt: Attempt, objectives: FailoverObjectives) -> Verdict:
    """Whether an attempt is what was promised. What was not tried is missed; so is a pull that a longer limit let come
    to its end after ``objectives.rto``, for no remedy was tried then."""
    rto_s = objectives.rto.total_seconds()
    if attempt.outcome in (Outcome.PULLED, Outcome.FAILED_OVER):
        return Verdict.BY_ITSELF if attempt.seconds <= rto_s else Verdict.MISSED
    if attempt.fault in objectives.by_hand and attempt.remedied_s is not None and attempt.remedied_s <= rto_s:
        return Verdict.BY_HAND
    return Verdict.MISSED


def attempt_text(attempt: Attempt) -> str:
    """What happened, a sentence without its end."""
    if attempt.outcome is Outcome.NOT_TRIED:
        return f"{attempt.text}: not tried, {attempt.said}"
    if attempt.outcome is Outcome.WAITED:
        what = f"waited {attempt.seconds:.0f} s, and would have gone on"
    elif attempt.outcome is Outcome.FAILED:
        what = f"failed after {attempt.seconds:.1f} s ({attempt.said})"
    else:
        what = f"{attempt.outcome} in {attempt.seconds:.1f} s"
    if attempt.remedied_s is not None:
        what += f"; without the registry in its file it pulled in {attempt.remedied_s:.1f} s"
    elif attempt.remedy_said:
        what += f"; without the registry in its file, too: {attempt.remedy_said}"
    return f"{attempt.text}: {what}"


def remedy(attempt: Attempt) -> str:
    """What a person does where the client does not help itself, in a few words; empty where it does."""
    if attempt.outcome not in (Outcome.WAITED, Outcome.FAILED) or attempt.fault is None:
        return ""
    return "registry-mirrors" if attempt.client in DOCKERS else "hosts.toml"


def next_steps(attempts: Sequence[Attempt], dial_s: int) -> Iterator[str]:
    """What to do while a registry is down so that a client waits, each once, with the clients that need it. dial_s:
    what the files said of ``dial_timeout``, 0 for nothing."""
    found: dict[str, dict[str, None]] = {}
    for each in attempts:
        if said := remedy(each):
            found.setdefault(said, {})[each.named] = None
    if clients := found.get("hosts.toml"):
        yield (
            f"{', '.join(clients)}: take the registry out of hosts.toml (`recover failover` writes one without it); it "
            "is read at each pull, so nothing is restarted, but pulls that hang go on hanging until they are ended"
        )
    if clients := found.get("registry-mirrors"):
        yield (
            f"{', '.join(clients)}: take the registry out of registry-mirrors in daemon.json and reload dockerd "
            "(SIGHUP), which restarts nothing; end pulls that hang"
        )
    waits = [each for each in attempts if each.fault is Fault.UNREACHABLE and remedy(each) == "hosts.toml"]
    if not dial_s and any(_new_enough(each.version) for each in waits):
        yield "containerd from 2.1: `dial_timeout: 2s` of the fail-over makes it leave an unreachable registry"


def _new_enough(version: str) -> bool:
    numbers = version.split(".")[:2]
    return all(each.isdecimal() for each in numbers) and tuple(map(int, numbers)) >= (2, 1)


def changes(before: Sequence[Attempt], now: Sequence[Attempt]) -> Iterator[str]:
    """Where a client does something else than in an earlier drill, a sentence each."""
    was = {(each.client, each.scheme, each.fault, each.alone): each for each in before}
    for each in now:
        earlier = was.get((each.client, each.scheme, each.fault, each.alone))
        if earlier and earlier.outcome is not each.outcome:
            yield f"{each.text}: {each.outcome}, the drill before: {earlier.outcome} ({earlier.named})"


__all__ = ["Verdict", "attempt_text", "changes", "judge", "next_steps", "remedy"]
