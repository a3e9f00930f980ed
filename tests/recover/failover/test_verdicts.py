"""What attempts mean: what was promised, what helps, and what a client does otherwise than before."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.recover.failover.drill.faults import Fault
from registry_pipelines.recover.failover.drill.kinds import SCHEMES, Kind
from registry_pipelines.recover.failover.drill.model import Attempt, Outcome
from registry_pipelines.recover.failover.drill.settings import FailoverObjectives
from registry_pipelines.recover.failover.drill.verdicts import Verdict, attempt_text, changes, judge, next_steps
from registry_pipelines.settings import Duration

MINUTE = FailoverObjectives(rto=Duration(minutes=1))
OUTCOMES = st.sampled_from([*Outcome])
REMEDIED = st.one_of(st.none(), st.floats(0, 120))


def attempt(**fields: Any) -> Attempt:
    usual = {"client": Kind.KUBELET, "version": "2.1.9", "scheme": "https", "fault": Fault.SILENT}
    return Attempt(**{**usual, "outcome": Outcome.WAITED, "seconds": 60.0, "limit_s": 60.0, **fields})


@given(st.sampled_from([*Fault]), OUTCOMES, REMEDIED)
def test_nothing_passes_that_nobody_saw_pulled_in_time(
    fault: Fault, outcome: Outcome, remedied_s: float | None
) -> None:
    verdict = judge(attempt(fault=fault, outcome=outcome, remedied_s=remedied_s), MINUTE)
    over = outcome in (Outcome.PULLED, Outcome.FAILED_OVER)
    assert (verdict is Verdict.BY_ITSELF) == over
    helped = remedied_s is not None and remedied_s <= 60
    if not over:
        assert (verdict is Verdict.BY_HAND) == (helped and fault not in (Fault.STOPPED, Fault.UNAVAILABLE))


def test_a_client_that_goes_on_too_late_is_no_pass() -> None:
    """As `--limit 5m` shows containerd 1.6 with an unreachable registry."""
    late = attempt(fault=Fault.UNREACHABLE, outcome=Outcome.FAILED_OVER, seconds=120.2, limit_s=300.0)
    assert judge(late, MINUTE) is Verdict.MISSED
    assert judge(late, FailoverObjectives(rto=Duration(minutes=3))) is Verdict.BY_ITSELF


def test_each_remedy_is_told_once_with_who_needs_it() -> None:
    waits = [attempt(scheme=scheme, remedied_s=0.2) for scheme in SCHEMES]
    docker = attempt(client=Kind.DOCKER, version="20.10.24", fault=Fault.STALLED)
    far = attempt(fault=Fault.UNREACHABLE)
    [hosts, mirrors, dial] = next_steps([*waits, docker, far], 0)
    assert hosts.startswith("kubelet 2.1.9: ") and mirrors.startswith("docker 20.10.24: ") and "dial_timeout" in dial
    assert not any("dial_timeout" in each for each in next_steps([far], 2)), "which is in the file already"
    old = attempt(fault=Fault.UNREACHABLE, version="1.6.20")
    assert not any("dial_timeout" in each for each in next_steps([old], 0)), "which 1.6 does not know"
    assert not list(next_steps([attempt(outcome=Outcome.FAILED_OVER), attempt(fault=None, outcome=Outcome.PULLED)], 0))


def test_what_did_not_help_is_told() -> None:
    text = attempt_text(attempt(outcome=Outcome.FAILED, seconds=2.0, said="no such host", remedy_said="not found"))
    assert text == (
        "kubelet 2.1.9 over https, registry silent: failed after 2.0 s (no such host); without the registry in its "
        "file, too: not found"
    )


def test_a_client_that_does_otherwise_than_before_is_named() -> None:
    before = [attempt(version="1.7.0", outcome=Outcome.FAILED_OVER), attempt(fault=Fault.FROZEN)]
    [said] = changes(before, [attempt(), attempt(fault=Fault.FROZEN), attempt(fault=Fault.STALLED)])
    assert said == "kubelet 2.1.9 over https, registry silent: waited, the drill before: failed over (kubelet 1.7.0)"
