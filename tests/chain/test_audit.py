"""``report audit``: who did what at real registries, and what nothing signed explains."""

from __future__ import annotations

import base64
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.chain.audit import read_events, store_of
from registry_pipelines.chain.audit_evidence import SignedEvidence
from registry_pipelines.chain.audit_sources import names_of
from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.config import load
from registry_pipelines.errors import InputError
from registry_pipelines.evidence.keys import generate_key, load_signer
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.times import write_time
from registry_pipelines.recover.expiry import Expiry, keep_expiry
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import put_tag
from registry_pipelines.report.audit.model import Event
from registry_pipelines.shared.documents import FolderDocuments
from tests.chain.fleet import Fleet, push, write_config
from tests.cli.on_fleet import answer, run
from tests.doubles.aws.cloudtrail import CloudTrail
from tests.doubles.aws.front import AwsDouble
from tests.doubles.docker_registry import DockerRegistry
from tests.events.messages import image_action
from tests.patience import patient
from tests.ports import free_ports

DATA = Path(__file__).parents[1] / "data" / "audit"

AUDIT = """\
report:
  teams: {apps: ['team/*']}
  audit:
    sources:
      own: {kind: access-log, registry: us}
"""


@pytest.fixture
def audited(tmp_path: Path) -> Iterator[Fleet]:
    """The fleet, whose source writes an access log."""
    path = write_config(tmp_path)
    text = path.read_text().replace("us: {kind: embedded,", "us: {kind: embedded, access_log: logs/us.jsonl,", 1)
    path.write_text(text + AUDIT)
    config = load(path, {})
    with ExitStack() as stack:
        stack.enter_context(ensure_registries(config))
        yield Fleet(path, config, Chain(config))


def alerts(result: dict) -> list[tuple[str, str, str]]:  # type: ignore[type-arg]
    return [(each["kind"], each["repository"], each["tag"]) for each in result["tables"]["alerts"]]


def test_a_promotion_is_no_alert_and_a_tag_that_somebody_moves_is_one(audited: Fleet) -> None:
    good, other = audited.release("v1.0.0"), audited.release("v1.1.0")
    assert audited.judged(good) and audited.judged(other)
    audited.chain.promote(good)
    quiet = answer(audited, "report", "audit")
    assert quiet["ok"] and quiet["facts"]["push"] > 4 and quiet["facts"]["alerts_open"] == 0
    assert any("pushers" in note for note in quiet["notes"])
    place = audited.chain.place("app")
    put_tag(place, place.registry.get_manifest(place.repository, other.digest), "prod")
    told = answer(audited, "report", "audit", code=3)
    assert alerts(told) == [("channel-move", "team/app", "prod")]
    [alert] = told["tables"]["alerts"]
    assert alert["digest"] == other.digest and "without a promotion" in alert["said"] and "promote app" in alert["do"]
    again = answer(audited, "report", "audit", "--kept", code=3)
    assert again["facts"]["new"] == 0 and again["tables"]["alerts"] == [alert]


def test_what_a_plan_let_go_is_no_alert_and_what_a_person_deleted_is(audited: Fleet) -> None:
    good = audited.release("v1.0.0")
    assert audited.judged(good)
    text = (
        audited.path.read_text()
        + "retention: [{registry: us, repositories: ['team/tool'], keep_newest: 0, keep_days: 0}]\n"
    )
    audited.path.write_text(text + "collect: {quarantine: 0}\n")
    chain = Chain(load(audited.path, {}))
    old = audited.release("v0.1.0", image="tool")
    plan = chain.retention_plan("us")
    assert chain.collect_approved("us", plan.digest).facts["deleted"] >= 1
    place = audited.chain.place("app")
    extra = audited.release("v9.9.9")
    place.registry.delete_manifest(place.repository, extra.digest)
    told = answer(audited, "report", "audit", "--action", "delete", "--team", "apps", code=3)
    assert alerts(told) == [("delete", "team/app", "")]
    deleted = {each["digest"] for each in told["tables"]["events"]}
    assert {str(old.digest), str(extra.digest)} <= deleted and told["facts"]["push"] == 0
    shutil.rmtree(audited.config.state / "collect")  # plans go after a month; what they explained is kept
    assert alerts(answer(audited, "report", "audit", "--kept", code=3)) == [("delete", "team/app", "")]
    text = audited.path.read_text()
    assert "team" in text and run(audited, "report", "audit", "--team", "nobody", code=8)


def test_a_promotion_is_believed_by_a_copy_once_the_release_is_gone(audited: Fleet) -> None:
    """Records go with a release: each deletion of one that was promoted lately was an alert otherwise."""
    old, new = audited.release("v1.0.0"), audited.release("v1.1.0")
    for each in (old, new):
        assert audited.judged(each)
        audited.chain.promote(each)
        assert audited.chain.replicate(each, "eu").ok
    run(audited, "delete", "app:v1.0.0", "--yes")
    told = answer(audited, "report", "audit")
    assert told["facts"]["alerts_open"] == 0 and told["facts"]["delete"] > 1


def test_what_is_brought_back_out_of_the_quarantine_is_no_alert_and_what_is_taken_out_of_it_is(audited: Fleet) -> None:
    rule = "retention: [{registry: us, repositories: ['team/tool'], keep_newest: 0, keep_days: 0}]\n"
    audited.path.write_text(audited.path.read_text() + rule + "collect: {quarantine: 30}\n")
    chain = Chain(load(audited.path, {}))
    back, lost = audited.release("v0.1.0", image="tool"), audited.release("v0.2.0", image="tool")
    assert chain.collect_approved("us", chain.retention_plan("us").digest).ok
    chain.undo_collect("us", [f"team/tool@{back.digest}"])
    told = answer(audited, "report", "audit")
    assert told["ok"] and told["facts"]["delete"] >= 4
    registry = chain.place("tool").registry
    registry.delete_manifest("rp-quarantine/team/tool", lost.digest)
    assert alerts(answer(audited, "report", "audit", code=3)) == [("delete", "rp-quarantine/team/tool", "")]


def test_what_a_backup_let_go_is_no_alert_and_what_a_person_deletes_of_it_is(audited: Fleet) -> None:
    """Old moments, their signatures, and what only they needed, at a place with a log."""
    rule = "backups: {nightly: {registries: [us], repositories: ['team/*'], to: us, prefix: vault, keep: {last: 1}}}\n"
    audited.path.write_text(audited.path.read_text() + rule)
    place = audited.chain.place("app")
    push(place, "latest")
    answer(audited, "recover", "backup")
    push(place, "latest", package="otherwheel")
    kept = answer(audited, "recover", "backup")["digest"]
    before = answer(audited, "report", "audit")
    assert before["facts"]["alerts_open"] == 0 and before["facts"].get("delete", 0) == 0
    gone = answer(audited, "recover", "expire")
    assert gone["facts"]["gone"] == 1 and not any("alert" in each for each in gone["notes"])
    quiet = answer(audited, "report", "audit")
    assert quiet["facts"]["delete"] >= 3 and quiet["facts"]["alerts_open"] == 0, quiet["tables"]["alerts"]
    place.registry.delete_manifest("vault/rp-backups/nightly", Digest.parse(kept))
    told = answer(audited, "report", "audit", code=3)
    assert [(each["kind"], each["digest"]) for each in told["tables"]["alerts"]] == [("delete", kept)]


def test_a_record_that_nobody_signed_explains_no_deletion_of_a_backup(audited: Fleet) -> None:
    text = audited.path.read_text()
    audited.path.write_text(text + "backups: {nightly: {registries: [us], to: us, prefix: vault, keep: {last: 1}}}\n")
    assert audited.judged(audited.release("v1.0.0")), "there are keys that are believed"
    place = audited.chain.place("app")
    made = push(place, "latest")
    place.registry.delete_manifest(place.repository, made.digest)
    folder = FolderDocuments(audited.config.state / "recover" / "expired")
    signer = load_signer(generate_key(audited.folder / "strange.key").private)
    expiry = Expiry(
        backup="nightly",
        registry="us",
        made_at=write_time(datetime.now(UTC)),
        manifests={place.repository: (str(made.digest),)},
    )
    keep_expiry(folder, expiry, signer)
    told = answer(audited, "report", "audit", code=3)
    assert [each["digest"] for each in told["tables"]["alerts"]] == [str(made.digest)]
    assert any("explains nothing" in each for each in told["notes"]), told["notes"]


def test_a_deletion_by_our_own_command_is_planned(audited: Fleet) -> None:
    extra = audited.release("v1.0.0", image="tool", provenance=False)
    run(audited, "delete", f"us/team/tool@{extra.digest}", "--yes")
    told = answer(audited, "report", "audit", "--action", "delete")
    assert told["facts"]["delete"] >= 1 and told["ok"]


def test_an_alert_is_acknowledged_by_a_signature_and_by_nothing_else(audited: Fleet) -> None:
    text = audited.path.read_text().replace("    sources:", "    pushers: {'team/*': ['ci']}\n    sources:")
    audited.path.write_text(text)
    audited.release("v1.0.0")
    told = answer(audited, "report", "audit", code=3)
    assert {each["kind"] for each in told["tables"]["alerts"]} == {"stranger"} and told["next_steps"]
    ids = [each["alert"] for each in told["tables"]["alerts"]]
    assert run(audited, "report", "audit", "--acknowledge", ids[0], code=8).exit_code == 8  # without a reason
    run(audited, "report", "audit", "--acknowledge", "delete-000000000000", "--reason", "x", code=8)
    many = [part for each in ids for part in ("--acknowledge", each)]
    run(audited, "report", "audit", *many, "--reason", "the first day", "--person", "Mary")
    quiet = answer(audited, "report", "audit")
    assert quiet["ok"] and quiet["facts"]["acknowledged"] == len(ids)
    assert all(each["acknowledged"].startswith("Mary: the first day") for each in quiet["tables"]["alerts"])
    path = audited.config.state / "report" / "audit" / "acknowledged" / f"{ids[0]}.json"
    path.write_bytes(path.with_name(f"{ids[-1]}.json").read_bytes())  # another alert's
    broken = answer(audited, "report", "audit", code=3)
    assert broken["facts"]["alerts_open"] == 1 and any("does not count" in note for note in broken["notes"])


def test_a_log_that_cannot_be_read_is_told_and_the_others_are_read(
    audited: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with AwsDouble() as aws:
        for name, value in aws.environment.items():
            monkeypatch.setenv(name, value)
        aws.deny("cloudtrail:LookupEvents")
        text = audited.path.read_text()
        text = text.replace(
            "registries:", "registries:\n  ecr: {kind: ecr, account: '111122223333', region: eu-west-1}", 1
        )
        audited.path.write_text(text + "      trail: {kind: cloudtrail, registry: ecr}\n")
        audited.release("v1.0.0")
        told = answer(audited, "report", "audit", code=5)
        assert told["facts"]["push"] >= 1 and told["facts"]["sources_unread"] == 1
        assert any("trail could not be read" in each and "cloudtrail:LookupEvents" in each for each in told["reasons"])
        assert [each["state"] == "read" for each in told["tables"]["sources"]] == [True, False]
        aws.default.denied.clear()
        aws.clock = lambda: datetime(2026, 11, 29, tzinfo=UTC).timestamp()
        aws.area(CloudTrail).records = [
            {**each, "eventTime": (datetime.now(UTC) - timedelta(hours=3)).strftime("%Y-%m-%dT%H:%M:%SZ")}
            for each in json.loads((DATA / "cloudtrail.json").read_text())["Records"]
        ]
        aws.clock = lambda: datetime.now(UTC).timestamp()
        healed = answer(audited, "report", "audit", "--registry", "ecr", "--by", "who", code=3)
        assert {each["who"] for each in healed["rows"]} >= {
            "(lifecycle)",
            "(replication)",
            "arn:aws:iam::111122223333:user/mary",
        }
        assert [each[0] for each in alerts(healed)] == ["delete"] * 3  # two images and a repository by mary
        assert answer(audited, "report", "audit", code=3)["facts"]["new"] == 0


def status_of(url: str, content: bytes) -> int:
    try:
        return int(urllib.request.urlopen(url, content, patient(5)).status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.peer("docker-registry")
def test_docker_registry_tells_its_pushes_pulls_and_deletions(
    audited: Fleet, tmp_path: Path, peer: Callable[[str], str]
) -> None:
    text = audited.path.read_text()
    [port] = free_ports(1)
    hub = f"      hub: {{kind: notifications, registry: eu, listen: '127.0.0.1:{port}'}}\n"
    audited.path.write_text(text + hub)
    chain = Chain(load(audited.path, {}))
    url = f"http://127.0.0.1:{port}/"
    users = {"builder": "pw", "node": "pw"}
    with (
        chain.receiver("hub"),
        DockerRegistry(peer("docker-registry"), tmp_path / "hub", users=users, notify=url) as real,
    ):
        builder = DistributionRegistry(real.address, username="builder", password="pw", plain_http=True)
        made = push(Place(builder, "team/app"), "v1", provenance=False)
        node = DistributionRegistry(real.address, username="node", password="pw", plain_http=True)
        node.get_manifest("team/app", "v1")
        builder.delete_manifest("team/app", made.digest)

        def told() -> set[tuple[str, str]]:
            events = [each for each in read_events(chain, repository="team/app") if each.source == "hub"]
            return {(each.who, each.action) for each in events if each.digest == made.digest}

        wanted = {("builder", "push"), ("node", "pull"), ("builder", "delete")}
        until = time.monotonic() + patient(10)
        while not wanted <= told() and time.monotonic() < until:
            chain.audit(sources=["hub"])
            time.sleep(0.1)
        assert wanted <= told()
        assert (status_of(url, b"{nonsense"), status_of(url, b'{"events": []}')) == (400, 200)
    text = audited.path.read_text().replace("listen:", "token: '${HUB_TOKEN}', listen:")
    audited.path.write_text(text)
    with Chain(load(audited.path, {"HUB_TOKEN": "s3cr3t-of-the-hub"})).receiver("hub"):
        assert status_of(url, b'{"events": []}') == 401


def test_what_was_set_aside_may_go_when_its_time_is_over_and_not_before(audited: Fleet) -> None:
    rule = "retention: [{registry: us, repositories: ['team/tool'], keep_newest: 0, keep_days: 0}]\n"
    pushers = audited.path.read_text().replace("    sources:", "    pushers: {'team/*': [anonymous]}\n    sources:")
    audited.path.write_text(pushers + rule + "collect: {quarantine: 7}\n")
    chain = Chain(load(audited.path, {}))
    old = audited.release("v0.1.0", image="tool", provenance=False)
    plan = chain.retention_plan("us")
    chain.collect_approved("us", plan.digest)
    quiet = chain.audit()
    assert quiet.ok, quiet.reasons  # what is set aside is pushed by who may push its origin
    now = datetime.now(UTC)

    def purged(days: int, digest: str) -> Event:
        return Event(
            time=now + timedelta(days=days), who="anonymous", action="delete", registry="us", source="own",
            repository="rp-quarantine/team/tool", digest=digest, id=f"purged-{days}-{digest[-4:]}",
        )  # fmt: skip

    record = f"sha256:{9:064x}"  # a record's own digest is in no plan: it goes with what it is of
    store_of(chain._session).add([purged(8, str(old.digest)), purged(8, record)])
    assert chain.audit(read=False).ok
    store_of(chain._session).add([purged(3, str(old.digest)), purged(20, record)])
    told = chain.audit(read=False)
    assert [(each["kind"], each["digest"]) for each in told.tables["alerts"]] == [
        ("delete", old.digest), ("delete", record),
    ]  # fmt: skip


def test_what_a_queue_told_is_held_against_a_log_that_says_who(audited: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    with AwsDouble() as aws:
        for name, value in aws.environment.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("sqs", region_name="eu-west-1")
        queue = str(client.create_queue(QueueName="told")["QueueUrl"]).replace("localhost", "127.0.0.1")
        text = audited.path.read_text()
        ecr = (
            f"registries:\n  ecr: {{kind: ecr, account: '123456789012', region: eu-west-1, events: {{sqs: '{queue}'}}}}"
        )
        text = text.replace("registries:", ecr, 1).replace("    sources:", "    pushers: {'*': [ci]}\n    sources:")
        audited.path.write_text(text + "      bridge: {kind: events, registry: ecr}\n")
        at = (datetime.now(UTC) - timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
        digest = f"sha256:{7:064x}"
        for action in ("PUSH", "DELETE"):
            told = json.loads(image_action(action, digest=digest)) | {
                "id": action,
                "time": at,
                "account": "123456789012",
            }
            client.send_message(QueueUrl=queue, MessageBody=json.dumps(told))
        chain = Chain(load(audited.path, {}))
        assert chain.hear("ecr", most=10, hold_s=30).messages == 2
        result = chain.audit()
        assert [each["kind"] for each in result.tables["alerts"]] == ["delete"]  # who pushed nobody could say
        assert result.rows and {row["action"]: row["done"] for row in result.rows}["push"] >= 1
        known = Event(
            time=datetime.now(UTC) - timedelta(hours=2, minutes=5), who="arn:x", action="delete", registry="ecr",
            repository="team/app", digest=digest, source="trail", id="e1", service="lifecycle",
        )  # fmt: skip
        store_of(chain._session).add([known])
        assert chain.audit().ok


STRANGER = "<b>mallory</b>"
GUARDED = """\
registries:
  us: {{kind: embedded, port: {port}, access_log: us.jsonl, users: {{ci: "${{PW}}", {stranger}: "${{PW}}"}}}}
images:
  app: {{registry: us, repository: team/app}}
report:
  audit:
    sources: {{own: {{kind: access-log, registry: us}}}}
    pushers: {{"team/*": [ci]}}
"""


def test_a_push_by_a_stranger_stands_on_the_first_page(tmp_path: Path) -> None:
    path = tmp_path / "registry-pipelines.yaml"
    [port] = free_ports(1)
    path.write_text(GUARDED.format(port=port, stranger=json.dumps(STRANGER)))
    chain = Chain(load(path, {"PW": "pw"}))
    first = chain.write_pages(tmp_path / "first")
    assert any("no log was read yet" in note for note in first.notes)
    index = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []})
    with ensure_registries(chain.config):
        for user, tag in (("ci", "v1"), (STRANGER, "v2")):
            login = base64.b64encode(f"{user}:pw".encode()).decode()
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/v2/team/app/manifests/{tag}",
                data=index.encode(),
                method="PUT",
                headers={"Content-Type": "application/vnd.oci.image.index.v1+json", "Authorization": f"Basic {login}"},
            )
            urllib.request.urlopen(request, timeout=patient(20)).close()
    assert not chain.audit().ok
    written = chain.write_pages(tmp_path / "pages")
    [alert] = [each for each in written.alerts if "pushed" in each]
    assert f"{STRANGER} pushed us/team/app:v2@sha256:" in alert
    page = written.files[0].read_text()
    assert "&lt;b&gt;mallory&lt;/b&gt; pushed us/team/app:v2@sha256:" in page and STRANGER not in page


def test_a_registry_that_the_configuration_names_twice_is_one_to_the_audit(tmp_path: Path) -> None:
    path = tmp_path / "registry-pipelines.yaml"
    ecr = "{kind: ecr, account: '111122223333', region: eu-west-1}"
    path.write_text(
        f"registries:\n  first: {ecr}\n  second: {ecr}\n"
        "images:\n  app: {registry: first, repository: team/app, channels: [prod]}\nsigning: {generate: true}\n"
    )
    session = Chain(load(path, {}))._session
    told = names_of(session)("111122223333.dkr.ecr.eu-west-1.amazonaws.com")
    moved = Event(
        time=datetime.now(UTC), action="push", registry=told, repository="team/app", tag="prod", source="trail", id="1"
    )
    evidence = SignedEvidence(session, None, known={}, deletions=(), pushes=lambda digests: ())
    assert evidence.channel(moved) == ("app", True)


def test_a_log_that_tells_late_is_said(audited: Fleet) -> None:
    old = datetime.now(UTC) - timedelta(days=20)
    line = {"id": "x-1", "time": old.isoformat(), "method": "DELETE", "what": "manifests", "repository": "team/app"}
    path = audited.path.parent / "logs" / "us.jsonl"
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps({**line, "tag": "v1", "status": 202}) + "\n")
    told = answer(audited, "report", "audit")
    [note] = [each for each in told["notes"] if "before the time that was judged" in each]
    assert "--kept --since 21d" in note
    assert alerts(answer(audited, "report", "audit", "--kept", "--since", "21d", code=3)) == [
        ("delete", "team/app", "v1")
    ]


def test_notifications_are_not_taken_from_everybody(tmp_path: Path) -> None:
    path = tmp_path / "registry-pipelines.yaml"
    source = "{kind: notifications, registry: hub, listen: '0.0.0.0:0'}"
    path.write_text(
        "registries:\n  hub: {kind: distribution, host: 127.0.0.1:9}\n"
        f"report:\n  audit:\n    sources:\n      hub: {source}\n"
    )
    with pytest.raises(InputError, match="no token is asked for"):
        Chain(load(path, {})).receiver("hub")
