"""Retention: what the plan keeps and why, that bytes are counted once, that applying does the plan and nothing else.

Before the embedded server (referrers API), ECR (an index keeps its images), docker-registry (fallback tags) and layout
folders.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.collect.apply import apply_plan
from registry_pipelines.collect.make import plan_retention
from registry_pipelines.collect.plan import Entry, RepositoryPlan, RetentionPlan
from registry_pipelines.collect.rules import RetentionRule
from registry_pipelines.errors import InputError, NotFound
from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.inventory.survey import companion_of
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, ManifestBytes, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry, Retries
from registry_pipelines.registry.ecr.registry import EcrRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place, Registry
from tests.doubles.aws.ecr import EcrDouble
from tests.doubles.docker_registry import DockerRegistry
from tests.doubles.fault_registry import FaultRegistry, LoseAnswer, Status
from tests.doubles.walked_tags import walked

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ECR_HOST = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
KIND = "application/vnd.example.note.v1+json"


def rule(repositories: tuple[str, ...], keep_newest: int, keep_days: int, **more: Any) -> RetentionRule:
    return RetentionRule(
        registry="here", repositories=repositories, keep_newest=keep_newest, keep_days=keep_days, **more
    )


KEEP_ONE = rule(("*",), keep_newest=1, keep_days=0)
KEEP_NONE = rule(("*",), keep_newest=0, keep_days=0)


@pytest.fixture(
    params=["embedded", "layout", "ecr", pytest.param("docker-registry", marks=pytest.mark.peer("docker-registry"))]
)
def registry(
    request: pytest.FixtureRequest, tmp_path: Path, peer: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Registry]:
    if request.param == "layout":
        yield LayoutRegistry(tmp_path)
    elif request.param == "ecr":
        with EmbeddedServer(tmp_path) as server, EcrDouble(server.address) as double:
            for name, value in double.environment.items():
                monkeypatch.setenv(name, value)
            yield EcrRegistry(ECR_HOST, plain_http=True, environ={"HTTP_PROXY": f"http://{double.proxy_address}"})
    elif request.param == "embedded":
        with EmbeddedServer(tmp_path) as server:
            yield DistributionRegistry(server.address)
    else:
        with DockerRegistry(peer("docker-registry"), tmp_path) as other:
            yield DistributionRegistry(other.address)


def made(days_ago: float) -> str:
    return (NOW - timedelta(days=days_ago)).isoformat()


def push(
    place: Place, tag: str, *, days_ago: float | None, layers: tuple[bytes, ...] = (), architecture: str = "amd64"
) -> ManifestBytes:
    """An image with an age, its own layer named after the tag, and more layers."""
    config: dict[str, str] = {"architecture": architecture, "os": "linux", "name": tag}
    if days_ago is not None:
        config["created"] = made(days_ago)
    below = [push_blob(place, one, media_type=media_types.OCI_LAYER) for one in (f"layer of {tag}".encode(), *layers)]
    manifest = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            config=push_blob(place, json.dumps(config).encode(), media_type=media_types.OCI_CONFIG),
            layers=tuple(below),
        )
    )
    place.registry.put_manifest(place.repository, manifest, tag=tag if architecture == "amd64" else "")
    return manifest


def push_index(place: Place, tag: str, *children: ManifestBytes) -> ManifestBytes:
    entries = tuple(
        Descriptor(
            media_type=one.media_type,
            digest=one.digest,
            size=len(one.raw),
            platform=Platform(os="linux", architecture=f"arch{number}"),
        )
        for number, one in enumerate(children)
    )
    index = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=entries))
    place.registry.put_manifest(place.repository, index, tag=tag)
    return index


def note(place: Place, subject: ManifestBytes, text: str) -> Descriptor:
    return attach(place, subject=subject.descriptor, artifact_type=KIND, content=text.encode(), media_type="text/plain")


def plan(registry: Registry, *rules: RetentionRule, in_use: tuple[str, ...] = ()) -> RetentionPlan:
    return plan_retention(registry, rules, now=NOW, in_use=in_use)


def judged(found: RetentionPlan, repository: str = "team/app") -> dict[str, str]:
    """Tags to reasons; empty for what goes."""
    entries = [entry for one in found.repositories if one.repository == repository for entry in one.entries]
    return {",".join(entry.tags): "; ".join(entry.reasons) for entry in entries}


def going(found: RetentionPlan) -> set[str]:
    return {tag for _, entry in found.deletions for tag in entry.tags}


def there(registry: Registry, digest: Digest, repository: str = "team/app") -> bool:
    try:
        registry.get_manifest(repository, digest)
    except NotFound:
        return False
    return True


def test_the_newest_and_the_young_stay(registry: Registry) -> None:
    place = Place(registry, "team/app")
    for number, age in enumerate((400, 300, 200, 20, 10)):
        push(place, f"v{number}", days_ago=age)
    found = plan(registry, rule(("team/*",), keep_newest=1, keep_days=30))
    assert judged(found) == {
        "v4": "number 1 of the newest 1; younger than 30 days",
        "v3": "younger than 30 days",
        "v2": "",
        "v1": "",
        "v0": "",
    }
    assert judged(plan(registry, rule(("team/*",), keep_newest=4, keep_days=0)))["v0"] == ""
    assert going(plan(registry, rule(("other/*",), keep_newest=0, keep_days=0))) == set()


def test_rules_add_up_and_protected_tags_stay(registry: Registry) -> None:
    place = Place(registry, "team/app")
    for number in range(4):
        push(place, f"v{number}", days_ago=100 + number)
    registry.put_manifest("team/app", registry.get_manifest("team/app", "v3"), tag="prod")
    found = plan(
        registry,
        rule(("team/app",), keep_newest=1, keep_days=0, protect=("prod", "staging")),
        rule(("*",), keep_newest=0, keep_days=0, protect=("v2",)),
    )
    assert judged(found) == {
        "v0": "number 1 of the newest 1",
        "v1": "",
        "v2": "tag v2 is protected",
        "prod,v3": "tag prod is protected",
    }


def test_a_rule_counts_its_own_tags_and_what_no_rule_speaks_of_stays(registry: Registry) -> None:
    """Ten newer builds of branches do not push the last builds of `main` out."""
    place = Place(registry, "team/app")
    for number, tag in enumerate(("pr-4", "pr-3", "main-2", "pr-2", "pr-1", "main-1", "v1.0")):
        push(place, tag, days_ago=100 + number)
    registry.put_manifest("team/app", registry.get_manifest("team/app", "pr-1"), tag="nightly")
    found = plan(registry, rule(("*",), 1, 0, tags=("main-*",)), rule(("team/*",), 2, 0, tags=("pr-*",)))
    assert judged(found) == {
        "pr-4": "number 1 of the newest 2",
        "pr-3": "number 2 of the newest 2",
        "main-2": "number 1 of the newest 1",
        "pr-2": "",
        "nightly,pr-1": "no rule speaks of tag nightly",
        "main-1": "",
        "v1.0": "no rule speaks of tag v1.0",
    }


def test_what_is_in_use_stays_by_digest(registry: Registry) -> None:
    place = Place(registry, "team/app")
    old = push(place, "v1", days_ago=300)
    child = push(place, "child", days_ago=200, architecture="arm64")
    push_index(place, "v2", child)
    push(place, "v3", days_ago=100)
    found = plan(registry, KEEP_ONE, in_use=(old.digest, child.digest))
    assert judged(found) == {
        "v3": "number 1 of the newest 1",
        "v2": f"its child {child.digest.short} is in use",
        "v1": "in use",
    }


def test_an_unknown_age_stays_and_says_so(registry: Registry) -> None:
    place = Place(registry, "team/app")
    push(place, "without", days_ago=None)
    push(place, "reproducible", days_ago=56 * 365)
    push(place, "v1", days_ago=300)
    found = plan(registry, KEEP_NONE)
    assert judged(found) == {"v1": "", "without": "its age is unknown", "reproducible": "its age is unknown"}


def test_children_and_referrers_of_what_stays_stay(registry: Registry) -> None:
    """Traps of others: index children and referrers look untagged; a tagged child is judged with its index."""
    place = Place(registry, "team/app")
    old, new = push(place, "child-old", days_ago=300), push(place, "child-new", days_ago=10, architecture="arm64")
    index = push_index(place, "v2", old, new)
    signature = note(place, old, "a signature of a child")
    push(place, "v1", days_ago=400)
    found = plan(registry, KEEP_ONE)
    assert judged(found) == {
        "v2": "number 1 of the newest 1",
        "child-old": "needed by something that stays",
        "v1": "",
    }
    assert apply_plan(registry, found, now=NOW).ok
    for digest in (index.digest, old.digest, new.digest, signature.digest):
        assert there(registry, digest)
    assert [one.digest for one in registry.referrers("team/app", old.digest)] == [signature.digest]


def test_evidence_goes_with_its_image_and_only_with_it(registry: Registry) -> None:
    place = Place(registry, "team/app")
    images = {tag: push(place, tag, days_ago=age) for tag, age in (("v1", 300), ("v2", 100))}
    notes = {tag: note(place, image, f"about {tag}") for tag, image in images.items()}
    about_note = attach(place, subject=notes["v1"], artifact_type=KIND, content=b"deeper", media_type="text/plain")
    for tag, image in images.items():
        push(place, f"{image.digest.fallback_tag}.sig", days_ago=age_of(tag))
    found = plan(registry, KEEP_ONE)
    assert going(found) == {"v1"}
    done = apply_plan(registry, found, now=NOW)
    assert done.ok
    assert not any(there(registry, one) for one in (images["v1"].digest, notes["v1"].digest, about_note.digest))
    assert there(registry, images["v2"].digest) and there(registry, notes["v2"].digest)
    left = set(registry.tags("team/app")) - {images["v2"].digest.fallback_tag}
    assert left == {"v2", f"{images['v2'].digest.fallback_tag}.sig"}
    assert plan(registry, KEEP_ONE).freed_bytes == 0


def age_of(tag: str) -> float:
    return 300 if tag == "v1" else 100


def test_a_tag_named_after_something_gone_stays(registry: Registry) -> None:
    place = Place(registry, "team/app")
    push(place, f"sha256-{'0' * 64}.sig", days_ago=500)
    assert judged(plan(registry, KEEP_NONE)) == {
        f"sha256-{'0' * 64}.sig": "it is evidence of something that is gone, and no rule says `orphans_days`"
    }


def test_a_kept_referrer_keeps_its_subject(registry: Registry) -> None:
    place = Place(registry, "team/app")
    image = push(place, "v1", days_ago=300)
    described = note(place, image, "text")
    registry.put_manifest("team/app", registry.get_manifest("team/app", described.digest), tag="audit")
    found = plan(registry, rule(("*",), keep_newest=0, keep_days=0, protect=("audit",)))
    assert judged(found) == {"v1": "needed by something that stays", "audit": "tag audit is protected"}


def test_evidence_with_a_tag_of_its_own_stays_with_its_subject(registry: Registry) -> None:
    """A referrer or a cosign signature that somebody tagged looks like an old image; deleting it would unsign a kept
    one."""
    place = Place(registry, "team/app")
    image = push(place, "v2", days_ago=10)
    described = attach(
        place,
        subject=image.descriptor,
        artifact_type=KIND,
        content=b"text",
        media_type="text/plain",
        annotations={"org.opencontainers.image.created": made(400)},
    )
    signature = push(place, f"{image.digest.fallback_tag}.sig", days_ago=400)
    registry.put_manifest("team/app", signature, tag="backup-of-signature")
    manifest = registry.get_manifest("team/app", described.digest)
    registry.put_manifest("team/app", manifest, tag="report")
    found = plan(registry, KEEP_ONE)
    assert going(found) == set()
    assert judged(found)["backup-of-signature"] == judged(found)["report"] == "needed by something that stays"


def test_shared_layers_are_counted_once_and_only_when_free(registry: Registry) -> None:
    """Others promise bytes that stay: layers shared with what is kept, in any repository."""
    shared, twice, alone = b"s" * 100_000, b"t" * 50_000, b"a" * 10_000
    app, other = Place(registry, "team/app"), Place(registry, "other/app")
    push(app, "v1", days_ago=300, layers=(shared, twice))
    push(app, "v2", days_ago=200, layers=(twice, alone))
    push(app, "v3", days_ago=100)
    push(other, "x", days_ago=900, layers=(shared,))
    found = plan(registry, rule(("team/*",), keep_newest=1, keep_days=0))
    assert going(found) == {"v1", "v2"}
    assert 60_000 < found.freed_bytes < 65_000
    freed = [entry.freed_bytes for _, entry in found.deletions]
    assert sum(freed) == found.freed_bytes
    everything = plan(registry, KEEP_NONE)
    assert 160_000 < everything.freed_bytes < 168_000


def test_the_promised_bytes_are_really_freed(tmp_path: Path) -> None:
    """The disk of a real registry before and after, its own garbage collection between."""
    with EmbeddedServer(tmp_path, garbage_interval_s=None) as server:
        registry = DistributionRegistry(server.address)
        app, other = Place(registry, "team/app"), Place(registry, "team/other")
        push(app, "v1", days_ago=300, layers=(b"s" * 100_000, b"t" * 50_000))
        note(app, push(app, "v2", days_ago=200, layers=(b"t" * 50_000, b"a" * 10_000)), "about v2")
        push(app, "v3", days_ago=100, layers=(b"k" * 1000,))
        push(other, "x", days_ago=100)
        found = plan(registry, KEEP_ONE)
        before = stored_bytes(tmp_path)
        assert apply_plan(registry, found, now=NOW).ok
        server.collect_garbage(grace_s=0)
        freed = before - stored_bytes(tmp_path)
        assert freed == found.freed_bytes


def stored_bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("blobs/*/*") if path.is_file())


def test_a_plan_is_a_plain_value(registry: Registry) -> None:
    place = Place(registry, "team/app")
    push(place, "v1", days_ago=300)
    push(place, "v2", days_ago=200)
    found = plan(registry, KEEP_ONE)
    again = RetentionPlan.from_json(found.to_json())
    assert again == found
    assert again.digest == found.digest == plan(registry, KEEP_ONE).digest
    rows = found.rows()
    assert [row["action"] for row in rows] == ["delete", "keep"]
    assert {len(row) for row in rows} == {8}
    assert any("no tag, index or referrer" in one for one in found.notes)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"schema": 2}', '{"schema": 1, "repositories": [{}]}', "[" * 100_000, "\udcff"]
)
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        RetentionPlan.from_json(text)


def test_applying_twice_finds_all_gone(registry: Registry) -> None:
    place = Place(registry, "team/app")
    push(place, "v1", days_ago=300)
    push(place, "v2", days_ago=200)
    found = plan(registry, KEEP_ONE)
    first = apply_plan(registry, found, now=NOW)
    assert [(one.tags, one.already) for one in first.deleted] == [(("v1",), False)]
    assert first.freed_bytes == found.freed_bytes > 0
    second = apply_plan(registry, found, now=NOW)
    assert second.ok and [one.already for one in second.deleted] == [True]
    assert list(registry.tags("team/app")) == ["v2"]


@pytest.mark.parametrize("change", ["new tag", "moved tag", "gone tag"])
def test_a_repository_that_changed_is_left_alone(registry: Registry, change: str) -> None:
    place = Place(registry, "team/app")
    push(place, "v1", days_ago=300)
    keep = push(place, "v2", days_ago=200)
    found = plan(registry, KEEP_ONE)
    if change == "new tag":
        registry.put_manifest("team/app", registry.get_manifest("team/app", "v1"), tag="prod")
    elif change == "moved tag":
        registry.put_manifest("team/app", registry.get_manifest("team/app", "v1"), tag="v2")
    else:
        registry.delete_manifest("team/app", keep.digest)
    done = apply_plan(registry, found, now=NOW)
    assert not done.deleted
    assert len(done.refused) == 1 and "since the plan was made" in done.refused[0]
    assert there(registry, registry.resolve("team/app", "v1").digest)


def test_a_signature_that_arrived_since_stops_its_image(registry: Registry) -> None:
    place = Place(registry, "team/app")
    late = push(place, "v1", days_ago=300)
    push(place, "v2", days_ago=250)
    push(place, "v3", days_ago=200)
    found = plan(registry, KEEP_ONE)
    note(place, late, "late")
    done = apply_plan(registry, found, now=NOW)
    assert len(done.refused) == 1
    assert there(registry, late.digest)


def test_what_is_in_use_by_now_is_left_alone(registry: Registry) -> None:
    place = Place(registry, "team/app")
    used = push(place, "v1", days_ago=300)
    push(place, "v2", days_ago=200)
    done = apply_plan(registry, plan(registry, KEEP_ONE), in_use=[used.digest], now=NOW)
    assert "it is live now: in use" in done.refused[0]
    assert there(registry, used.digest)


def test_plans_of_others_and_old_plans_are_refused(registry: Registry, tmp_path: Path) -> None:
    push(Place(registry, "team/app"), "v1", days_ago=300)
    found = plan(registry, KEEP_NONE)
    with pytest.raises(InputError, match="within a day"):
        apply_plan(registry, found, now=NOW + timedelta(hours=25))
    with pytest.raises(InputError, match="the plan is for"):
        apply_plan(LayoutRegistry(tmp_path / "elsewhere"), found, now=NOW)


def test_an_unclear_repository_is_refused_as_a_whole(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server, FaultRegistry(server.address) as faults:
        registry = DistributionRegistry(faults.address, retries=Retries(attempts=1))
        for name in ("team/app", "team/clear"):
            push(Place(registry, name), "v1", days_ago=300)
        faults.play("GET", r"/v2/team/app/referrers/.*", Status(503))
        found = plan(registry, KEEP_NONE)
        assert [(one.repository, bool(one.refused)) for one in found.repositories] == [
            ("team/app", True),
            ("team/clear", False),
        ]
        assert found.rows()[0]["action"] == "refuse"
        faults.clear()
        done = apply_plan(registry, found, now=NOW)
        assert not done.ok
        assert list(registry.tags("team/app")) == ["v1"]
        assert {one.repository for one in done.deleted} == {"team/clear"}


def test_a_broken_run_is_finished_by_the_next(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server, FaultRegistry(server.address) as faults:
        registry = DistributionRegistry(faults.address, retries=Retries(attempts=1))
        place = Place(registry, "team/app")
        image = push(place, "v1", days_ago=300)
        evidence = note(place, image, "about v1")
        push(place, "v2", days_ago=200)
        push(place, "v3", days_ago=100)
        found = plan(registry, KEEP_ONE)
        faults.play("DELETE", rf"/v2/team/app/manifests/{evidence.digest}", Status(503))
        faults.play("DELETE", r"/v2/team/app/manifests/.*", LoseAnswer(), times=1)
        first = apply_plan(registry, found, now=NOW)
        assert not first.ok
        faults.clear()
        second = apply_plan(registry, found, now=NOW)
        assert second.ok
        assert not there(registry, evidence.digest)
        assert list(registry.tags("team/app")) == ["v3"]


def test_a_registry_that_does_not_delete(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server, FaultRegistry(server.address) as faults:
        registry = DistributionRegistry(faults.address)
        place = Place(registry, "team/app")
        for tag in ("v1", "v2", "v3"):
            push(place, tag, days_ago=300)
        faults.play("DELETE", ".*", Status(405))
        done = apply_plan(registry, plan(registry, KEEP_NONE), now=NOW)
        assert not done.deleted
        assert len(done.refused) == 1
        assert len(faults.requests("DELETE")) == 1


def test_without_a_catalogue_repositories_are_named_in_full(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server, FaultRegistry(server.address) as faults:
        registry = DistributionRegistry(faults.address)
        push(Place(registry, "team/app"), "v1", days_ago=300)
        faults.play("GET", "/v2/_catalog.*", Status(404))
        assert going(plan(registry, rule(("team/app",), 0, 0))) == {"v1"}
        with pytest.raises(InputError, match="in full"):
            plan(registry, KEEP_NONE)


def test_a_repository_without_tags_has_nothing_to_go(tmp_path: Path) -> None:
    """docker-registry lists it, and answers its list with NAME_UNKNOWN. Named in full it would be a mistake."""
    with EmbeddedServer(tmp_path) as server, FaultRegistry(server.address) as faults:
        registry = DistributionRegistry(faults.address)
        for name in ("team/app", "team/emptied"):
            push(Place(registry, name), "v1", days_ago=300)
        faults.play("GET", "/v2/team/emptied/tags/list.*", Status(404, body=b'{"errors":[{"code":"NAME_UNKNOWN"}]}'))
        found = plan(registry, KEEP_NONE)
        assert going(found) == {"v1"} and [one.repository for one in found.repositories] == ["team/app"]
        assert not any("could not be read" in each for each in found.notes)
        faults.play("GET", "/v2/_catalog.*", Status(404))
        [named] = plan(registry, rule(("team/emptied",), 0, 0)).repositories
        assert "NAME_UNKNOWN" in named.refused


def test_tags_that_are_not_listed_keep_what_they_need(tmp_path: Path) -> None:
    """distribution 3.1.1 on S3 lists 0.1.2 and not 0.1.20: a child of both indexes, and a protected alias, stay."""
    with EmbeddedServer(tmp_path, wrap=walked) as server:
        registry = DistributionRegistry(server.address)
        place = Place(registry, "team/app")
        child = push(place, "", days_ago=400, architecture="arm64")
        alone = push(place, "", days_ago=300, architecture="s390x")
        push_index(place, "0.1.2", child, alone)
        push_index(place, "0.1.20", child)
        alias = push(place, "0.1.1", days_ago=500)
        registry.put_manifest("team/app", alias, tag="0.1.10")
        push(place, "0.2.0", days_ago=10)
        assert set(registry.tags("team/app")) == {"0.1.1", "0.1.2", "0.2.0"}
        keep_first = rule(("*",), keep_newest=1, keep_days=0, protect=("0.1.10", "0.1.20"))
        found = plan(registry, keep_first)
        assert going(found) == {"0.1.2"}
        assert any("2 are there all the same: 0.1.10, 0.1.20" in each for each in found.notes)
        assert apply_plan(registry, found, now=NOW).ok
        assert there(registry, child.digest) and there(registry, alias.digest) and not there(registry, alone.digest)


def test_an_index_whose_children_were_not_copied(tmp_path: Path) -> None:
    """Copies of selected platforms keep the index's bytes and leave children out."""
    with EmbeddedServer(tmp_path) as server:
        registry = DistributionRegistry(server.address)
        place = Place(registry, "team/app")
        child = push(place, "child", days_ago=300, architecture="arm64")
        absent = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=()))
        push_index(place, "v1", child, absent)
        found = plan(registry, KEEP_NONE)
        assert going(found) == {"v1"}
        assert apply_plan(registry, found, now=NOW).ok
        assert not there(registry, child.digest)


def test_time_needs_a_zone(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        plan_retention(LayoutRegistry(tmp_path), [], now=datetime(2026, 1, 1), in_use=())
    with pytest.raises(InputError):
        plan_retention(LayoutRegistry(tmp_path), [], now=NOW, in_use=["v1"])


@pytest.mark.parametrize(
    ("tag", "subject"),
    [
        (f"sha256-{'a' * 64}", f"sha256-{'a' * 64}"),
        (f"sha256-{'a' * 64}.sig", f"sha256-{'a' * 64}"),
        (f"sha512-{'a' * 64}", f"sha512-{'a' * 64}"),
        (f"sha256-{'a' * 63}", ""),
        (f"sha256-{'g' * 64}", ""),
        (f"sha256-{'a' * 64}.old", ""),
        ("v1", ""),
        ("md5-", ""),
    ],
)
def test_tags_named_after_digests(tag: str, subject: str) -> None:
    assert companion_of(tag) == subject


def test_rows_of_a_refused_repository() -> None:
    refused = RepositoryPlan("a", {}, refused="unclear")
    entry = Entry(Digest.of(b"x"), ("v1",), "", (), (Digest.of(b"x"),), 5)
    found = RetentionPlan("reg", "2026-01-01T00:00:00Z", (RepositoryPlan("b", {}, (entry,)), refused))
    assert [row["action"] for row in found.rows()] == ["refuse", "delete"]
    assert found.freed_bytes == 5


def test_a_tag_that_names_its_manifest_is_judged_like_any_other(registry: Registry) -> None:
    """oc-mirror v2 names so what it mirrors by digest. Neither does it fall with another, nor is it kept for ever."""
    place = Place(registry, "team/app")
    pushed = [push(place, f"v{age}", days_ago=age) for age in (300, 200, 100)]
    for image in pushed:
        registry.put_manifest("team/app", image, tag=image.digest.fallback_tag)
    registry.put_manifest("team/app", pushed[2], tag=Digest.of(b"elsewhere").fallback_tag)
    found = plan(registry, KEEP_ONE)
    tags = {tag for entry in found.repositories[0].entries for tag in entry.tags}
    assert tags == set(registry.tags("team/app"))
    assert going(found) == {"v300", "v200", pushed[0].digest.fallback_tag, pushed[1].digest.fallback_tag}


def test_what_a_list_names_wrongly_is_protected_and_never_deleted_with_it(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server, FaultRegistry(server.address) as faults:
        registry = DistributionRegistry(faults.address)
        place = Place(registry, "team/app")
        old, kept = push(place, "v1", days_ago=300), push(place, "v2", days_ago=1)
        plain = push(place, "plain", days_ago=200)
        untagged = push(place, "", days_ago=400, architecture="arm64")
        entries = tuple(one.descriptor for one in (plain, untagged))
        listing = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=entries))
        headers = {"Content-Type": media_types.OCI_INDEX}
        faults.play("GET", rf".*/referrers/{old.digest}", Status(200, headers, listing.raw))
        found = plan(registry, KEEP_ONE)
        assert going(found) == {"v1", "plain"}
        assert apply_plan(registry, found, now=NOW).ok
        assert there(registry, untagged.digest) and there(registry, kept.digest)
        registry.close()
