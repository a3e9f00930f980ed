"""AWS's own preview of a lifecycle policy, and where an evaluation of ours says otherwise.

StartLifecyclePolicyPreview and GetLifecyclePolicyPreview of ECR's API: AWS evaluates a policy that it is given, or the
repository's own, and deletes nothing. A preview is of one repository.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from registry_pipelines.errors import RegistryError, Stalled
from registry_pipelines.lifecycle.evaluation import DELETING, Evaluation, Outcome
from registry_pipelines.lifecycle.words import outcome_text, rule_text

PAGE = 100
"""Most results of a page (LifecyclePreviewMaxResults)."""
LONGEST_S = 600.0
"""Of one preview; AWS gives no time."""


class Call(Protocol):
    """One call of ECR's API, with retries and translated errors. operation: boto3's name of it; parameters by AWS's."""

    def __call__(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """The answer. Raises RegistryError."""
        ...


@dataclass(frozen=True)
class Act:
    """What AWS would do to an image. tags: for people. action: ``EXPIRE`` or ``TRANSITION``."""

    digest: str
    action: str
    priority: int
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class AwsPreview:
    """AWS's answer for one repository. policy: the text that it evaluated."""

    repository: str
    acts: tuple[Act, ...]
    policy: str = ""


@dataclass(frozen=True)
class Difference:
    """An image of which AWS says otherwise. open: we had called it undecided, so that AWS answers the question."""

    digest: str
    aws: str
    ours: str
    open: bool
    bytes_ours: int = 0


def preview(
    call: Call,
    repository: str,
    *,
    registry_id: str = "",
    policy: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> AwsPreview:
    """Ask AWS. policy: a text in place of the repository's own. Raises RegistryError (a preview that fails, a
    repository without a policy), Stalled."""
    named = {"repositoryName": repository, **({"registryId": registry_id} if registry_id else {})}
    call("start_lifecycle_policy_preview", **named, **({"lifecyclePolicyText": policy} if policy else {}))
    first = _finished(call, named, repository, sleep)
    acts = tuple(_act(each) for page in _pages(call, named, first) for each in page.get("previewResults", ()))
    return AwsPreview(repository, acts, first.get("lifecyclePolicyText", ""))


def _finished(call: Call, named: dict[str, str], repository: str, sleep: Callable[[float], None]) -> Mapping[str, Any]:
    waited, pause = 0.0, 0.5
    while True:
        page = call("get_lifecycle_policy_preview", **named, maxResults=PAGE)
        status = page.get("status", "")
        if status == "COMPLETE":
            return page
        if status != "IN_PROGRESS":
            raise RegistryError(f"AWS's preview ended as {status or 'nothing'}", where=repository, do="Ask once more")
        if waited >= LONGEST_S:
            raise Stalled(f"AWS's preview was not ready after {LONGEST_S:.0f} s", where=repository)
        sleep(pause)
        waited, pause = waited + pause, min(pause * 2, 10.0)


def _pages(call: Call, named: dict[str, str], first: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    page = first
    yield page
    while token := page.get("nextToken"):
        page = call("get_lifecycle_policy_preview", **named, maxResults=PAGE, nextToken=token)
        yield page


def _act(result: Mapping[str, Any]) -> Act:
    action = result.get("action", {}).get("type", "")
    tags = tuple(result.get("imageTags", ()))
    return Act(result.get("imageDigest", ""), action, int(result.get("appliedRulePriority", 0)), tags)


def differences(ours: Evaluation, aws: AwsPreview) -> list[Difference]:
    """Where AWS and we say otherwise of an image, for the repository of the preview alone. What follows its subject is
    no difference: AWS deletes it after the subject, and its preview lists what rules do."""
    acts = {act.digest: act for act in aws.acts}
    codes, names = ours.images.words("repository")
    mine = np.flatnonzero(codes == names.index(aws.repository)) if aws.repository in names else np.zeros(0, dtype=int)
    found: list[Difference] = []
    seen: set[str] = set()
    for at in map(int, mine):
        row = ours.images.row(at)
        act = acts.get(row["digest"])
        seen.add(row["digest"])
        outcome = Outcome(int(ours.outcome[at]))
        if _same(outcome, rule_text(ours, at), act):
            continue
        said = f"{outcome_text(ours, at)} ({rule_text(ours, at) or 'no rule'})"
        open_ = bool(ours.questions[at])
        size = int(row["size_bytes"] or 0) if outcome in DELETING else 0
        found.append(Difference(row["digest"], _said(act), said, open_, size))
    absent = [act for act in aws.acts if act.digest not in seen]
    return [*found, *(Difference(act.digest, _said(act), "not in the inventory", False) for act in absent)]


def _same(outcome: Outcome, rule: str, act: Act | None) -> bool:
    if act is None:
        return outcome in (Outcome.KEEP, Outcome.FOLLOWS)
    wanted = Outcome.TRANSITION if act.action == "TRANSITION" else Outcome.EXPIRE
    return outcome == wanted and rule == f"rule {act.priority}"


def _said(act: Act | None) -> str:
    if act is None:
        return "stays"
    return f"{'archived' if act.action == 'TRANSITION' else 'goes'} (rule {act.priority})"
