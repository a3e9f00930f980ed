"""Settings of Artifact Registry and what stands around it, at Google's double: planned, applied, healed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.cloud import artifactregistry_v1, binaryauthorization_v1, kms_v1
from google.iam.v1 import iam_policy_pb2
from google.protobuf.json_format import MessageToDict, ParseDict

from registry_pipelines.infra.apply import Applied, apply_plan
from registry_pipelines.infra.gar import kinds
from registry_pipelines.infra.gar.alarms import GarAlert, GarChannel
from registry_pipelines.infra.gar.asking import Asking
from registry_pipelines.infra.gar.cloud import GarSettings
from registry_pipelines.infra.gar.model import (
    BinauthzAttestor,
    BinauthzKey,
    BinauthzPolicy,
    BinauthzRule,
    GarInfra,
    GarRemote,
    GarRepositories,
    GarSource,
    GcpKey,
    Perimeter,
)
from registry_pipelines.infra.gar.wanted import Wanted
from registry_pipelines.infra.plan import Plan, change_of, make_plan
from registry_pipelines.infra.settings import Setting
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.gar.access import GoogleAccess
from registry_pipelines.registry.gar.calls import GoogleCalls
from tests.doubles.google import GoogleCloud
from tests.doubles.google.described import Perimeters
from tests.doubles.google.services import iam_policy
from tests.doubles.google.services.kms import Kms, create_crypto_key, create_key_ring
from tests.doubles.google.world import Fault, Refusal

PROJECT, LOCATION = "ml-prod", "europe-west1"
PARENT = f"projects/{PROJECT}/locations/{LOCATION}"
PERIMETER = "accessPolicies/12/servicePerimeters/prod"
NODE = "serviceAccount:nodes@ml-prod.iam.gserviceaccount.com"
CI = "serviceAccount:ci@ml-prod.iam.gserviceaccount.com"
RING = f"projects/{PROJECT}/locations/global/keyRings/release"
CLEANUP = [
    {"name": "old", "action": {"type": "Delete"}, "condition": {"tagState": "any", "olderThan": "30d"}},
    {"name": "keep-five", "action": {"type": "Keep"}, "mostRecentVersions": {"keepCount": 5}},
]


@pytest.fixture
def google(tmp_path: Path) -> Iterator[GoogleCloud]:
    with GoogleCloud(tmp_path) as made:
        yield made


@pytest.fixture
def cloud(google: GoogleCloud) -> GarSettings:
    access = GoogleAccess(project=PROJECT, location=LOCATION, endpoint=google.endpoint)
    calls = GoogleCalls(access, retries=Retries(sleep=lambda seconds: None))
    return GarSettings("gar-eu", Asking(calls, project=PROJECT, location=LOCATION))


def declared(**fields: Any) -> list[Setting]:
    wanted = Wanted(GarInfra(name="gar-eu", kind="gar", **fields), project=PROJECT, location=LOCATION)
    assert wanted.problems == []
    return wanted.settings


def plan(cloud: GarSettings, settings: Sequence[Setting]) -> Plan:
    return make_plan(cloud, cloud.read(settings))


def apply(cloud: GarSettings, settings: Sequence[Setting]) -> Applied:
    return apply_plan(cloud, plan(cloud, settings), fresh=True)


def key(google: GoogleCloud, name: str = "sign") -> str:
    """The version of a new key that signs."""
    world = google.world
    if RING not in google.world.state(Kms).rings:
        parent, _, ring = RING.rpartition("/keyRings/")
        create_key_ring(world, kms_v1.CreateKeyRingRequest(parent=parent, key_ring_id=ring))
    purpose = kms_v1.CryptoKey.CryptoKeyPurpose.ASYMMETRIC_SIGN
    algorithm = kms_v1.CryptoKeyVersion.CryptoKeyVersionAlgorithm.EC_SIGN_P256_SHA256
    made = kms_v1.CryptoKey(purpose=purpose, version_template={"algorithm": algorithm})
    create_crypto_key(world, kms_v1.CreateCryptoKeyRequest(parent=RING, crypto_key_id=name, crypto_key=made))
    return f"{RING}/cryptoKeys/{name}/cryptoKeyVersions/1"


def everything(tmp_path: Path, version: str) -> list[Setting]:
    """A declaration with every kind of setting in it."""
    cleanup = tmp_path / "cleanup.json"
    cleanup.write_text(json.dumps(CLEANUP))
    ghcr = GarRemote(
        upstream="https://ghcr.io", username="bot", password_secret="projects/ml-prod/secrets/ghcr/versions/2"
    )
    images = GarRepositories(
        names=("models", "tools"),
        immutable=True,
        labels={"team": "ml"},
        cleanup=cleanup,
        cleanup_dry_run=False,
        scanning="DISABLED",
        description="Images",
        readers=(NODE, CI),
    )
    debian = GarRemote(upstream="apt:DEBIAN/debian/dists/bookworm")
    sources = (GarSource(repository="models", priority=20), GarSource(repository="hub", priority=10))
    dev = BinauthzRule(evaluation="ALWAYS_ALLOW", enforcement="DRYRUN_AUDIT_LOG_ONLY")
    return declared(
        repositories=(
            images,
            GarRepositories(names=("hub",), remote=GarRemote(upstream="docker-hub", validate=False)),
            GarRepositories(names=("wheels",), format="PYTHON", remote=GarRemote(upstream="pypi")),
            GarRepositories(names=("ghcr",), remote=ghcr),
            GarRepositories(names=("debian",), format="APT", remote=debian),
            GarRepositories(names=("jars",), format="MAVEN", maven_versions="RELEASE", maven_overwrites=False),
            GarRepositories(names=("npm",), format="NPM"),
            GarRepositories(names=("rpms",), format="YUM"),
            GarRepositories(names=("modules",), format="GO"),
            GarRepositories(names=("all",), virtual=sources),
        ),
        readers=(NODE,),
        attestors={"ci": BinauthzAttestor(name="ci", keys=(BinauthzKey(kms=version),), description="CI")},
        binary_authorization=BinauthzPolicy(
            default=BinauthzRule(evaluation="REQUIRE_ATTESTATION", attestors=("ci",)),
            clusters={"europe-west1.dev": dev},
            always_allowed=("registry.k8s.io/*",),
            system_images=True,
        ),
        kms_keys=(GcpKey(key=version.partition("/cryptoKeyVersions")[0], purpose="ASYMMETRIC_SIGN"),),
        perimeters=(Perimeter(name=PERIMETER, projects=("42",)),),
        channels=(GarChannel(name="ops", email="ops@example.com"),),
        alarms=(GarAlert(name="big", above="100GB", channels=("ops",), severity="ERROR", description="Call us"),),
    )


def perimeter(google: GoogleCloud) -> dict[str, Any]:
    status = {"resources": ["projects/7"], "restrictedServices": ["storage.googleapis.com"], "accessLevels": ["a"]}
    made = {"name": PERIMETER, "title": "prod", "status": status, "etag": "1"}
    google.world.state(Perimeters).kept[PERIMETER] = made
    return made


def held(google: GoogleCloud, name: str) -> dict[str, Any]:
    """A repository as Google has it."""
    from tests.doubles.google.images import Repositories

    message = google.world.state(Repositories).held[f"{PARENT}/repositories/{name}"].settings
    return MessageToDict(artifactregistry_v1.Repository.pb(message))


def test_all_of_it_is_made_and_a_second_plan_has_nothing_to_do(
    google: GoogleCloud, cloud: GarSettings, tmp_path: Path
) -> None:
    perimeter(google)
    settings = everything(tmp_path, key(google))
    first = plan(cloud, settings)
    assert not list(first.refused) and first.unmanaged == ()
    done = apply(cloud, settings)
    assert [each for each in done.outcomes if not each.ok] == []
    again = plan(cloud, settings)
    assert again.settled and list(again.actions) == []
    models = held(google, "models")
    assert models["dockerConfig"] == {"immutableTags": True} and models["labels"] == {"team": "ml"}
    assert models["cleanupPolicies"]["old"]["condition"]["olderThan"] == "2592000s"
    assert models["vulnerabilityScanningConfig"] == {"enablementConfig": "DISABLED"}
    assert held(google, "hub")["remoteRepositoryConfig"]["dockerRepository"] == {"publicRepository": "DOCKER_HUB"}
    ghcr = held(google, "ghcr")["remoteRepositoryConfig"]
    assert ghcr["commonRepository"] == {"uri": "https://ghcr.io"}
    assert ghcr["upstreamCredentials"]["usernamePasswordCredentials"]["username"] == "bot"
    policies = held(google, "all")["virtualRepositoryConfig"]["upstreamPolicies"]
    assert {each["id"]: each["priority"] for each in policies} == {"models": 20, "hub": 10}


def test_a_second_plan_asks_lists_once_and_one_call_for_what_no_list_tells(
    google: GoogleCloud, cloud: GarSettings, tmp_path: Path
) -> None:
    perimeter(google)
    settings = everything(tmp_path, key(google))
    apply(cloud, settings)
    google.world.calls.clear()
    assert plan(cloud, settings).settled
    assert dict(google.world.calls) == {
        "ListRepositories": 1,
        "GetIamPolicy": 2,
        "cloudresourcemanager.projects.getIamPolicy": 1,
        "ListAttestors": 1,
        "GetPolicy": 1,
        "GetNote": 1,
        "GetCryptoKey": 1,
        "ListCryptoKeyVersions": 1,
        "accesscontextmanager.accessPolicies.servicePerimeters.get": 1,
        "monitoring.projects.alertPolicies.list": 1,
        "monitoring.projects.notificationChannels.list": 1,
    }


def test_every_field_of_every_kind_is_compared(google: GoogleCloud, cloud: GarSettings, tmp_path: Path) -> None:
    """Each declared field that is changed alone is the only difference: none is adopted unseen."""
    perimeter(google)
    settings = everything(tmp_path, key(google))
    apply(cloud, settings)
    seen = dict.fromkeys(kinds.ORDER, 0)
    for each in cloud.read(settings).settings:
        for field, value in (each.wanted or {}).items():
            if field in each.unseen:
                continue
            other = (not value) if isinstance(value, bool) else "something-else"
            change = change_of(msgspec.structs.replace(each, wanted={**(each.wanted or {}), field: other}))
            assert [one.field for one in change.differences] == [field], (each.key, field)
            seen[each.kind] += 1
    assert all(seen.values()), seen


def test_what_somebody_changed_is_drift_and_apply_heals_it(
    google: GoogleCloud, cloud: GarSettings, tmp_path: Path
) -> None:
    perimeter(google)
    settings = everything(tmp_path, key(google))
    apply(cloud, settings)
    client = GoogleAccess(endpoint=google.endpoint).client(artifactregistry_v1.ArtifactRegistryClient)
    name = f"{PARENT}/repositories/models"
    changed = {"name": name, "docker_config": {"immutable_tags": False}, "labels": {"team": "x", "cost": "7"}}
    client.update_repository(request={"repository": changed, "update_mask": {"paths": ["docker_config", "labels"]}})
    policy = ParseDict(
        {"bindings": [{"role": kinds.READER, "members": ["allUsers", NODE]}]},
        iam_policy_pb2.SetIamPolicyRequest().policy,
    )
    client.set_iam_policy(request={"resource": name, "policy": policy})
    google.world.state(Perimeters).kept[PERIMETER]["status"]["resources"] = ["projects/7"]
    drifted = plan(cloud, settings)
    assert {(each.kind, difference.field) for each in drifted.actions for difference in each.differences} == {
        (kinds.REPOSITORY, "immutable_tags"),
        (kinds.REPOSITORY, "labels.team"),
        (kinds.READERS, "members"),
        (kinds.PERIMETER, "project.42"),
    }
    assert {row["principal"] for row in drifted.readers if row["from"] == "repository models"} == {"allUsers", NODE}
    assert apply(cloud, settings).ok and plan(cloud, settings).settled
    assert held(google, "models")["labels"] == {"team": "ml", "cost": "7"}
    status = google.world.state(Perimeters).kept[PERIMETER]["status"]
    assert status["resources"] == ["projects/42", "projects/7"] and status["accessLevels"] == ["a"]
    assert "storage.googleapis.com" in status["restrictedServices"]


def test_readers_are_exactly_the_declared_and_conditions_and_other_roles_stay(
    google: GoogleCloud, cloud: GarSettings
) -> None:
    google.repository(PROJECT, LOCATION, "models")
    name = f"{PARENT}/repositories/models"
    condition = {"title": "till May", "expression": "request.time < timestamp('2027-05-01T00:00:00Z')"}
    bindings = [
        {"role": kinds.READER, "members": ["user:eve@example.com"]},
        {"role": kinds.READER, "members": ["user:bob@example.com"], "condition": condition},
        {"role": "roles/artifactregistry.writer", "members": [CI]},
    ]
    _set_policy(google, name, bindings)
    settings = declared(repositories=(GarRepositories(names=("models",), readers=(NODE,)),))
    made = plan(cloud, settings)
    [change] = made.actions
    [difference] = change.differences
    assert (difference.found, difference.wanted) == (["user:eve@example.com"], [NODE])
    assert ("user:bob@example.com", "till May") in {(row["principal"], row["condition"]) for row in made.readers}
    assert apply(cloud, settings).ok
    kept = MessageToDict(iam_policy.get_policy(google.world, iam_policy_pb2.GetIamPolicyRequest(resource=name)))
    assert {each["role"]: each["members"] for each in kept["bindings"] if "condition" not in each} == {
        kinds.READER: [NODE],
        "roles/artifactregistry.writer": [CI],
    }
    assert [each["condition"]["title"] for each in kept["bindings"] if "condition" in each] == ["till May"]


def _set_policy(google: GoogleCloud, name: str, bindings: list[dict[str, Any]]) -> None:
    request = ParseDict({"resource": name, "policy": {"bindings": bindings}}, iam_policy_pb2.SetIamPolicyRequest())
    iam_policy.set_policy(google.world, request)


def test_readers_of_the_project_are_added_and_shown_where_they_come_from(
    google: GoogleCloud, cloud: GarSettings
) -> None:
    google.repository(PROJECT, LOCATION, "models")
    _set_policy(google, f"projects/{PROJECT}", [{"role": "roles/viewer", "members": ["group:all@example.com"]}])
    settings = declared(repositories=(GarRepositories(names=("models",), readers=(CI,)),), readers=(NODE,))
    assert apply(cloud, settings).ok
    rows = {(row["principal"], row["effect"], row["from"]) for row in plan(cloud, settings).readers}
    assert rows == {
        (NODE, kinds.READER, "project ml-prod"),
        ("group:all@example.com", "roles/viewer", "project ml-prod"),
        (CI, kinds.READER, "repository models"),
    }
    notes = plan(cloud, settings).notes
    assert any("folders or the organization" in note for note in notes)


def test_somebody_sets_a_policy_in_between_and_nothing_of_it_is_lost(google: GoogleCloud, cloud: GarSettings) -> None:
    google.repository(PROJECT, LOCATION, "models")
    concurrent = Refusal("ABORTED", "There were concurrent policy changes. Please retry the whole read-modify-write.")
    google.world.fail("SetIamPolicy", Fault(concurrent, times=2))
    settings = declared(repositories=(GarRepositories(names=("models",), readers=(NODE,)),))
    assert apply(cloud, settings).ok and google.world.calls["SetIamPolicy"] == 3
    assert google.world.calls["GetIamPolicy"] == 3, "once for the plan, and anew after each refusal"


def test_what_is_fixed_is_refused_before_anything_is_asked_to_change(google: GoogleCloud, cloud: GarSettings) -> None:
    google.repository(PROJECT, LOCATION, "models")
    settings = declared(repositories=(GarRepositories(names=("models",), format="PYTHON", description="new"),))
    made = plan(cloud, settings)
    [refused] = made.refused
    assert "format is fixed" in refused.why
    assert not apply(cloud, settings).ok and google.world.calls["UpdateRepository"] == 0


def test_a_virtual_repository_that_is_a_standard_one_is_no_second_thing(
    google: GoogleCloud, cloud: GarSettings
) -> None:
    google.repository(PROJECT, LOCATION, "all")
    settings = declared(
        repositories=(GarRepositories(names=("all",), virtual=(GarSource(repository="b", priority=1),)),)
    )
    made = plan(cloud, settings)
    assert [each.why for each in made.refused] and "mode is fixed" in next(iter(made.refused)).why


def test_a_repository_that_holds_something_is_deleted_by_force_alone(
    google: GoogleCloud, cloud: GarSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.doubles.google.images import Package, Repositories

    google.repository(PROJECT, LOCATION, "empty")
    google.repository(PROJECT, LOCATION, "full")
    google.repository(PROJECT, LOCATION, "fresh")
    fresh = google.world.state(Repositories).get(f"{PARENT}/repositories/fresh")
    fresh.packages["app"] = Package("app", google.world.now(), google.world.now())
    settings = declared(repositories=(GarRepositories(names=("empty", "fresh", "full"), absent=True),))
    from tests.doubles.google.services import repositories as served

    def full(world: Any, request: Any) -> Any:
        held = world.state(Repositories).get(request.name)
        held.settings.size_bytes = 99 if request.name.endswith("/full") else 0
        return held.settings

    monkeypatch.setitem(served.HANDLERS, "GetRepository", full)
    from tests.doubles.google.services import artifactregistry

    monkeypatch.setitem(artifactregistry.SERVICE.handlers, "GetRepository", full)  # type: ignore[arg-type]
    outcomes = {each.key.name: each for each in apply(cloud, settings).outcomes}
    assert outcomes["empty"].ok and not outcomes["full"].ok and "99 bytes" in outcomes["full"].why
    assert not outcomes["fresh"].ok and "holds app" in outcomes["fresh"].why, "its size is not told yet"
    forced = declared(repositories=(GarRepositories(names=("empty", "fresh", "full"), absent=True, force=True),))
    assert apply(cloud, forced).ok and google.world.state(Repositories).held == {}


def test_an_attestor_gets_the_public_half_from_kms_and_another_key_is_a_difference(
    google: GoogleCloud, cloud: GarSettings
) -> None:
    first, second = key(google, "one"), key(google, "two")
    settings = declared(attestors={"ci": BinauthzAttestor(name="ci", keys=(BinauthzKey(kms=first),), note="qa")})
    assert [(each.kind, each.name) for each in settings] == [(kinds.NOTE, "qa"), (kinds.ATTESTOR, "ci")]
    assert apply(cloud, settings).ok
    other = declared(attestors={"ci": BinauthzAttestor(name="ci", keys=(BinauthzKey(kms=second),), note="qa")})
    assert apply(cloud, other).ok
    client = GoogleAccess(endpoint=google.endpoint).client(binaryauthorization_v1.BinauthzManagementServiceV1Client)
    [kept] = client.get_attestor(name=f"projects/{PROJECT}/attestors/ci").user_owned_grafeas_note.public_keys
    assert (
        kept.id == f"//cloudkms.googleapis.com/v1/{second}"
        and "BEGIN PUBLIC KEY" in kept.pkix_public_key.public_key_pem
    )


def test_rules_of_other_clusters_stay(google: GoogleCloud, cloud: GarSettings) -> None:
    allow = BinauthzRule(evaluation="ALWAYS_ALLOW")
    apply(cloud, declared(binary_authorization=BinauthzPolicy(default=allow, clusters={"europe-west1.old": allow})))
    deny = BinauthzRule(evaluation="ALWAYS_DENY")
    settings = declared(binary_authorization=BinauthzPolicy(default=deny, clusters={"europe-west1.new": allow}))
    assert apply(cloud, settings).ok
    [change] = plan(cloud, settings).changes
    assert change.action == "adopt" and "cluster.europe-west1.old" in change.undeclared


def test_keys_and_perimeters_must_be_there_and_are_never_made(google: GoogleCloud, cloud: GarSettings) -> None:
    missing = GcpKey(key=f"{RING}/cryptoKeys/none")
    settings = declared(kms_keys=(missing,), perimeters=(Perimeter(name=PERIMETER),))
    assert [each.why for each in plan(cloud, settings).refused] == ["is not there, and is not made here"] * 2


def test_one_kind_that_cannot_be_read_stops_no_other(google: GoogleCloud, cloud: GarSettings) -> None:
    google.repository(PROJECT, LOCATION, "models")
    google.world.deny("binaryauthorization.policy.get")
    google.world.deny("resourcemanager.projects.getIamPolicy")
    settings = declared(
        repositories=(GarRepositories(names=("models",), readers=(), description="d"),),
        readers=(NODE,),
        binary_authorization=BinauthzPolicy(default=BinauthzRule(evaluation="ALWAYS_DENY")),
    )
    made = plan(cloud, settings)
    assert {each.kind for each in made.refused} == {kinds.PROJECT_READERS, kinds.POLICY}
    assert "roles/iam.securityReviewer" in next(each.why for each in made.refused if each.kind == kinds.PROJECT_READERS)
    assert "roles/binaryauthorization.policyViewer" in next(
        each.why for each in made.refused if each.kind == kinds.POLICY
    )
    assert any("could not be read, so readers by it are not listed" in note for note in made.notes)
    done = apply(cloud, settings)
    assert {each.key.kind for each in done.outcomes if each.state == "done"} == {kinds.REPOSITORY}


def test_what_passes_is_tried_again_and_html_is_no_answer(google: GoogleCloud, cloud: GarSettings) -> None:
    google.world.fail("ListRepositories", Fault(Refusal("UNAVAILABLE", "try again"), times=2))
    assert plan(cloud, []).settled
    google.world.fail("ListRepositories", Fault(html=502, times=1))
    assert plan(cloud, []).settled and google.world.calls["ListRepositories"] == 5


def test_an_operation_that_fails_is_told_by_name_and_project_policies_are_asked_again(
    google: GoogleCloud, cloud: GarSettings
) -> None:
    perimeter(google)
    google.world.state(Perimeters).failure = {"code": 9, "message": "projects/42 is in another perimeter"}
    google.world.fail("cloudresourcemanager.projects.getIamPolicy", Fault(Refusal("UNAVAILABLE", "later"), times=2))
    google.world.fail("cloudresourcemanager.projects.setIamPolicy", Fault(Refusal("ABORTED", "etag"), times=1))
    settings = declared(readers=(NODE,), perimeters=(Perimeter(name=PERIMETER, projects=("42",)),))
    [members, failed] = apply(cloud, settings).outcomes
    assert members.ok and google.world.calls["cloudresourcemanager.projects.setIamPolicy"] == 2
    assert failed.state == "failed" and PERIMETER in failed.why and "is in another perimeter" in failed.why
    google.world.state(Perimeters).failure = None
    assert apply(cloud, settings).ok and plan(cloud, settings).settled


def test_an_operation_is_waited_for(google: GoogleCloud, cloud: GarSettings) -> None:
    perimeter(google)
    google.world.state(Perimeters).questions = 3
    settings = declared(perimeters=(Perimeter(name=PERIMETER, projects=("42",)),))
    assert apply(cloud, settings).ok
    assert google.world.calls["accesscontextmanager.operations.get"] == 3 and plan(cloud, settings).settled
