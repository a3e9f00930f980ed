"""Which events are alerts: moves, deletions and pushes against evidence that is given."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from registry_pipelines.errors import Unavailable
from registry_pipelines.report.audit.alerts import Evidence, Judge, Judgement, alert_id, deeds
from registry_pipelines.report.audit.model import Event, Service

START = datetime(2026, 11, 20, tzinfo=UTC)
A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


class Known:
    """Evidence: `prod` is a channel of app at us (its source) and eu. records: (digest, hours) of promotions."""

    def __init__(self, *records: tuple[str, float], plans: Sequence[str] = (), broken: bool = False) -> None:
        self.records, self.plans, self.broken = records, plans, broken

    def channel(self, event: Event) -> tuple[str, bool] | None:
        return ("app", event.registry == "us") if event.tag == "prod" and event.repository == "app" else None

    def promotions(self, image: str, channel: str, digest: str) -> Sequence[datetime]:
        if self.broken:
            raise Unavailable("no answer", where="us")
        return [START + timedelta(hours=hours) for named, hours in self.records if named == digest]

    def explained(self, event: Event) -> str:
        if self.broken:
            raise Unavailable("no answer", where="plans")
        return "by the plan x" if event.digest in self.plans else ""

    def says_who(self, registry: str) -> bool:
        return registry == "us"


def did(action: str, hours: float, *, digest: str = A, tag: str = "", who: str = "ci", registry: str = "us",
        service: Service = "", refused: str = "") -> Event:  # fmt: skip
    return Event(
        time=START + timedelta(hours=hours), who=who, action=action, registry=registry, repository="app",  # type: ignore[arg-type]
        digest=digest, tag=tag, source="log", id=f"{action}-{hours}-{who}-{registry}", service=service, refused=refused,
    )  # fmt: skip


def judged(evidence: Evidence, *events: Event, pushers: dict[str, list[str]] | None = None) -> Judgement:
    ordered = sorted(events, key=lambda each: each.time)
    named = deeds([each for each in ordered if not each.who and not each.service], ordered)
    judge = Judge(evidence, pushers or {}, now=START + timedelta(hours=100), named=named)
    for event in ordered:
        judge.look(event)
    return judge.judgement


def kinds(judgement: Judgement) -> list[str]:
    return [each.kind for each in judgement.alerts]


def test_a_channel_moves_by_a_record_that_was_there_before() -> None:
    assert kinds(judged(Known((A, 1)), did("push", 1.01, tag="prod"))) == []
    assert kinds(judged(Known(), did("push", 1, tag="prod"))) == ["channel-move"]
    assert kinds(judged(Known((A, 5)), did("push", 1, tag="prod"))) == ["channel-move"]  # signed four hours later
    assert kinds(judged(Known((B, 1)), did("push", 2, tag="prod"))) == ["channel-move"]
    assert kinds(judged(Known((A, 1)), did("push", 2, tag="v1"))) == []
    assert kinds(judged(Known(), did("push", 1, tag="prod", refused="AccessDenied"))) == []
    assert kinds(judged(Known(), did("push", 1, tag="prod", digest=""))) == ["channel-move"]


def test_a_channel_that_goes_back_needs_a_new_record_at_its_source() -> None:
    moves = did("push", 1, tag="prod"), did("push", 5, tag="prod", digest=B), did("push", 9, tag="prod")
    found = judged(Known((A, 1), (B, 5)), *moves)
    assert [(each.kind, each.digest, "back to" in each.said) for each in found.alerts] == [("channel-move", A, True)]
    assert kinds(judged(Known((A, 1), (B, 5), (A, 8.9)), *moves)) == []
    late = [did("push", 6, tag="prod", registry="eu"), did("push", 7, tag="prod", digest=B, registry="eu")]
    assert kinds(judged(Known((A, 1), (B, 5)), *late)) == []  # a copy that comes late moves late
    again = did("push", 10, tag="prod", digest=B)
    assert kinds(judged(Known((B, 5)), moves[1], again)) == []  # pushed again, and nothing moved


def test_what_goes_needs_a_plan_unless_the_cloud_did_it_by_a_rule() -> None:
    assert kinds(judged(Known(), did("delete", 1))) == ["delete"]
    found = judged(Known(plans=[A]), did("delete", 1))
    assert kinds(found) == [] and found.explained == {"delete-1-ci-us": "by the plan x"}
    assert kinds(judged(Known(), did("delete", 1, service="lifecycle", who=""))) == []
    assert kinds(judged(Known(), did("delete", 1, refused="ImageNotFound"))) == []
    assert "no answer" in judged(Known(broken=True), did("delete", 1)).alerts[0].said
    assert "no answer" in judged(Known(broken=True), did("push", 1, tag="prod")).alerts[0].said


def test_a_push_by_who_is_not_named_is_an_alert() -> None:
    pushers = {"app": ["ci", "arn:*:role/build-*"], "us/other/*": ["x"]}
    assert kinds(judged(Known(), did("push", 1), pushers=pushers)) == []
    assert kinds(judged(Known(), did("push", 1, who="mallory"), pushers=pushers)) == ["stranger"]
    assert kinds(judged(Known(), did("push", 1, who="arn:aws:iam::1:role/build-7"), pushers=pushers)) == []
    assert kinds(judged(Known(), did("push", 1, who="replica", service="replication"), pushers=pushers)) == []
    assert kinds(judged(Known(), did("push", 1), pushers={"team/*": ["ci"]})) == ["stranger"]  # nobody is named for it
    assert kinds(judged(Known(), did("push", 1, who="mallory"))) == []  # nothing is named at all: not judged


def test_a_log_that_does_not_say_who_is_held_against_one_that_does() -> None:
    pushers = {"*": ["ci"]}
    hint = did("push", 1, who="")
    assert kinds(judged(Known(), hint, did("push", 1.1), pushers=pushers)) == []
    assert kinds(judged(Known(), hint, did("push", 3), pushers=pushers)) == ["stranger"]  # another deed, hours later
    assert kinds(judged(Known(), did("push", 1, who="", registry="far"), pushers=pushers)) == []  # nobody could say
    other = did("push", 1, who="", tag="prod"), did("push", 1.1, tag="prod", digest=B)
    assert kinds(judged(Known((B, 1)), *other, pushers=pushers)) == ["channel-move", "stranger"]  # a tag moved twice
    late = did("push", 1, who="", tag="v1"), did("push", 1.1, tag="v1", digest="")
    assert kinds(judged(Known(), *late, pushers=pushers)) == []  # one of both does not tell the digest
    fresh = judged(Known(), did("push", 99.9, who=""), pushers=pushers)
    assert kinds(fresh) == [] and fresh.pending == 1
    cleaned = did("delete", 1.05, who="", service="lifecycle")
    assert kinds(judged(Known(), did("delete", 1, who=""), cleaned)) == []


def test_an_alert_has_the_same_name_in_every_look() -> None:
    event = did("delete", 1)
    [alert] = judged(Known(), event).alerts
    assert alert.id == alert_id("delete", event) == judged(Known(), did("push", 0), event).alerts[0].id
    assert alert.id != alert_id("delete", did("delete", 2))
