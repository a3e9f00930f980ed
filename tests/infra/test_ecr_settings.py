"""Settings of ECR on the double: declared, planned, applied, drifted, healed, and written down from what is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.errors import ConfigInvalid, Forbidden, InputError
from registry_pipelines.infra.plan import Plan
from tests.doubles.aws.ecr_caches import EcrCaches
from tests.doubles.aws.ecr_places import Repository
from tests.doubles.aws.ecr_policies import EcrPolicies
from tests.doubles.aws.ecr_registry import EcrRegistries
from tests.doubles.aws.ecr_replication import EcrReplication
from tests.doubles.aws.front import ACCOUNT, Html
from tests.doubles.aws.sts import Role, Sts
from tests.doubles.aws.vpc import VpcEndpoints
from tests.infra.cloud import REGION, Cloud
from tests.infra.declarations import ENDPOINTS, EVERYTHING, PROFILE, REPOSITORIES, ROLE

HERE = (ACCOUNT, REGION)


def left(plan: Plan) -> list[str]:
    """What a plan would still do."""
    return [line for line in plan.lines() if not line.startswith(("adopt", "unmanaged"))]


def test_everything_is_set_once_and_then_as_declared(ecr: Cloud) -> None:
    chain = ecr.chain(EVERYTHING)
    applied = chain.apply_infra("eu")
    assert applied.ok and applied.changed, applied.reasons
    ecr.asked()
    plan = chain.plan_infra("eu")
    assert plan.settled and not plan.unmanaged, left(plan)
    # Each list once, and one call for each declared thing that no list tells.
    assert ecr.asked() == {
        "DescribeRepositories": 1, "DescribeRepositoryCreationTemplates": 1, "GetRegistryPolicy": 1,
        "GetRegistryScanningConfiguration": 1, "GetSigningConfiguration": 1, "DescribePullThroughCacheRules": 1,
        "ListPullTimeUpdateExclusions": 1, "DescribeRegistry": 1, "ListSigningProfiles": 1,
        "GetAccountSetting": 3, "GetLifecyclePolicy": 2, "GetRepositoryPolicy": 2, "ListTagsForResource": 2,
    }  # fmt: skip
    again = chain.apply_infra("eu")
    assert again.ok and not again.changed and again.action == "unchanged"
    assert any("444455556666 must allow replication" in note for note in plan.notes)


def test_who_may_pull_is_told_with_where_that_comes_from(ecr: Cloud) -> None:
    chain = ecr.chain(EVERYTHING)
    chain.apply_infra("eu")
    rows = {(row["repository"], row["principal"], row["from"]) for row in chain.plan_infra("eu").readers}
    assert ("ml/a", "222233334444", "repository policy, RegistryPipelinesReaders") in rows
    organization = "repository policy, RegistryPipelinesReaderOrganizations"
    assert ("ml/b", "*", organization) in rows
    assert not any(source.endswith("Ci") for _, _, source in rows), "pushing is no pulling"


Behind = Callable[[Cloud], object]


MUTATIONS: dict[str, Behind] = {
    "ecr:repository ml/a mutability": lambda ecr: setattr(ecr.here.repositories["ml/a"], "mode", "MUTABLE"),
    "ecr:repository ml/a excluded_tags": lambda ecr: setattr(ecr.here.repositories["ml/a"], "filters", ("x",)),
    "ecr:repository ml/b scan_on_push": lambda ecr: setattr(ecr.here.repositories["ml/b"], "scan_on_push", False),
    "ecr:repository ml/b labels.team": lambda ecr: ecr.here.repositories["ml/b"].labels.update(team="other"),
    "ecr:repository tools": lambda ecr: ecr.here.repositories.pop("tools"),
    "ecr:lifecycle ml/a": lambda ecr: ecr.aws.area(EcrPolicies).texts.pop(("lifecycle", *HERE, "ml/a")),
    "ecr:policy ml/b": lambda ecr: ecr.aws.area(EcrPolicies).texts.pop(("policy", *HERE, "ml/b")),
    "ecr:template ml lifecycle": lambda ecr: ecr.aws.area(EcrCaches).templates[*HERE, "ml"].pop("lifecyclePolicy"),
    "ecr:template ROOT labels.by": lambda ecr: ecr.aws.area(EcrCaches).templates[*HERE, "ROOT"].pop("resourceTags"),
    "ecr:pull-through quay": lambda ecr: ecr.aws.area(EcrCaches).rules.pop((*HERE, "quay")),
    "ecr:pull-through dh secret": lambda ecr: ecr.aws.area(EcrCaches).rules[*HERE, "dh"].update(
        credentialArn="arn:aws:secretsmanager:eu-west-1:123456789012:secret:ecr-pullthroughcache/other"
    ),
    "ecr:replication 123456789012/us-east-1 prefixes": lambda ecr: ecr.aws.area(EcrReplication).rules[HERE].pop(),
    "ecr:registry-policy": lambda ecr: ecr.aws.area(EcrPolicies).registry_policies.pop(HERE),
    "ecr:scanning type": lambda ecr: ecr.aws.area(EcrPolicies).scanning.pop(HERE),
    f"ecr:signing {PROFILE}": lambda ecr: ecr.aws.area(EcrPolicies).signing.pop(HERE),
    "ecr:account BLOB_MOUNTING": lambda ecr: ecr.here.settings.update(BLOB_MOUNTING="DISABLED"),
    f"ecr:pull-time-exclusion {ROLE}": lambda ecr: ecr.aws.area(EcrRegistries).excluded.clear(),
}  # fmt: skip
"""What somebody changes behind our back, by how drift names it."""


def test_what_is_changed_behind_our_back_is_named_and_healed(ecr: Cloud) -> None:
    chain = ecr.chain(EVERYTHING)
    assert chain.apply_infra("eu").ok
    assert chain.drift("eu").ok
    for change in MUTATIONS.values():
        change(ecr)
    lines = left(chain.plan_infra("eu"))
    assert [name for name in MUTATIONS if not any(name in line for line in lines)] == []
    drifted = chain.drift("eu")
    assert not drifted.ok and not any("ecr:account BASIC" in each for each in drifted.reasons)
    healed = chain.apply_infra("eu")
    assert healed.ok, healed.reasons
    assert chain.drift("eu").ok


def test_what_nobody_declared_is_named_and_stays(ecr: Cloud) -> None:
    ecr.chain(EVERYTHING).apply_infra("eu")
    ecr.here.repositories["ml/a"].labels["owner"] = "somebody"
    declared = {
        "repositories": [{"names": ["ml/a"], "labels": {"team": "other"}, "readers": ["333344445555"]}],
        "replication": [{"to": ["ap-south-1"]}],
        "signing": [{"profile": "other"}],
        "replicated_from": ["111100001111"],
        "scanning": {"on_push": ["only/*"]},
    }
    chain = ecr.chain(declared)
    plan = chain.plan_infra("eu")
    unmanaged = {str(key) for key in plan.unmanaged}
    assert {"ecr:repository tools", "ecr:replication 123456789012/us-east-1", f"ecr:signing {PROFILE}"} <= unmanaged
    [repository] = [each for each in plan.changes if each.kind == "ecr:repository"]
    assert {"labels.owner", "mutability", "scan_on_push"} <= set(repository.undeclared)
    assert chain.apply_infra("eu").ok
    assert ecr.here.repositories["ml/a"].labels == {"owner": "somebody", "team": "other"}
    policies = ecr.aws.area(EcrPolicies)
    sids = {each["Sid"] for each in json.loads(policies.texts["policy", *HERE, "ml/a"])["Statement"]}
    assert sids == {"Ci", "RegistryPipelinesReaders", "RegistryPipelinesReaderOrganizations"}
    rules = ecr.aws.area(EcrReplication).rules[HERE]
    assert {each["region"] for rule in rules for each in rule["destinations"]} == {
        "us-east-1", "eu-west-1", "ap-south-1",
    }  # fmt: skip
    assert len(policies.signing[HERE]["rules"]) == 2
    assert {each["scanFrequency"] for each in policies.scanning[HERE]["rules"]} == {"SCAN_ON_PUSH", "CONTINUOUS_SCAN"}
    assert chain.drift("eu").ok


def test_an_import_declares_what_is_there(ecr: Cloud, tmp_path: Path) -> None:
    ecr.chain(EVERYTHING).apply_infra("eu")
    ecr.here.repositories["by-hand"] = Repository("by-hand", 1.0, "MUTABLE_WITH_EXCLUSION", ("v*",))
    text, files, notes = ecr.chain(EVERYTHING).import_infra("eu", folder="infra")
    (tmp_path / "infra").mkdir()
    for path, content in files.items():
        (tmp_path / path).write_bytes(content)
    chain = ecr.chain(json.dumps(yaml.safe_load(text)["infra"]))
    plan = chain.plan_infra("eu")
    assert plan.settled and not plan.unmanaged and not notes, (left(plan), plan.unmanaged, notes)
    named = [each.names for each in chain.config.infra["eu"].repositories]
    assert ("ml/a", "ml/b") in named and ("by-hand",) in named


def test_everything_that_is_wrong_is_said_at_once_and_nothing_is_asked(ecr: Cloud, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text('{"Statement": [{"Sid": "a"}]}')
    (tmp_path / "empty.json").write_text("")
    pulled = {"tagStatus": "any", "countType": "sinceImagePulled", "countUnit": "days", "countNumber": 0}
    console = {"rules": [{"rulePriority": 0, "selection": pulled, "action": {"type": "expire"}}]}
    (tmp_path / "console.json").write_text(json.dumps(console))
    (tmp_path / "mine.json").write_text('{"Statement": [{"Sid": "RegistryPipelinesReaders", "Effect": "Deny"}]}')
    declared = {
        "repositories": [
            {"names": ["a1"], "policy": "broken.json"},
            {"names": ["a2"], "lifecycle": "empty.json"},
            {"names": ["a3"], "policy": "missing.json"},
            {"names": ["a4"], "policy": "mine.json", "readers": ["222233334444"]},
            {"names": ["a5"], "lifecycle": "console.json"},
        ],
        "registry_policy": "lifecycle.json",
    }
    chain = ecr.chain(declared)
    with pytest.raises(ConfigInvalid) as caught:
        chain.plan_infra("eu")
    said = "\n".join(caught.value.problems)
    for each in (
        "statement 1 has no `Effect`", "empty.json is empty", "missing.json cannot be read", "registry_policy",
        "which is written for `readers`", "repositories[4].lifecycle", "sinceImagePulled",
    ):  # fmt: skip
        assert each in said
    assert len(caught.value.problems) >= 8 and not ecr.asked(), "each of a policy's own errors, too"


WRONG = {
    "repositories": [
        {"names": ["a", "ml/x", "ml/x"], "movable": ["v*"], "kms_key": "alias/x"},
        {"names": ["ml/x"], "force": True, "labels": {"aws:x": "1"}},
        {"names": ["gone"], "absent": True, "scan_on_push": True},
    ],
    "templates": [
        {"prefix": "p", "applied_for": ["REPLICATION"], "encryption": "KMS", "kms_key": "alias/x"},
        {"prefix": "p", "applied_for": ["REPLICATION"]},
    ],
    "pull_through": [{"prefix": "dh", "upstream": "registry-1.docker.io"}, {"prefix": "dh", "upstream": "quay.io"}],
    "replication": [
        {"to": ["eu-west-1", "cn-north-1", "us-east-1"]},
        {"to": ["us-east-1"], "absent": True, "prefixes": ["x/"]},
    ],
    "scanning": {"continuous": ["*"]},
    "signing": [{"profile": "release"}] * 2,
    "vpc_endpoints": [{"vpc": "vpc-12345678", "subnets": [], "route_tables": []}],
}


def test_what_does_not_go_together_is_said_by_the_configuration(ecr: Cloud) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        ecr.chain(WRONG)
    said = "\n".join(caught.value.problems)
    for each in (
        "has 2 to 256 characters", "ml/x stands in repositories[0] already", "needs `immutable`",
        "is for `encryption: KMS`", "is for `absent` alone", "not aws:", "not to be there",
        "the prefix p stands there twice",
        "is the key's ARN in a template", "takes a role for", "the prefix dh stands there twice",
        "lets nobody in without a log-in",
        "is the registry itself", "in another partition", "with `absent` and without", "needs `type: ENHANCED`",
        "release stands there twice", "needs `subnets` and `route_tables`",
    ):  # fmt: skip
        assert each in said, each
    assert said.count("registry-pipelines.yaml:") == len(caught.value.problems) >= 17
    with pytest.raises(ConfigInvalid, match="the registry's is distribution"):
        path = ecr.folder / "other.yaml"
        path.write_text(
            "registries: {x: {kind: distribution, host: r.example.com}}\ninfra: {x: {kind: ecr}, y: {kind: ecr}}\n"
        )
        try:
            load(path)
        except ConfigInvalid as error:
            assert "unknown registry `y`" in str(error)
            path.write_text(path.read_text().replace(", y: {kind: ecr}", ""))
            load(path)


def test_what_fails_is_told_by_name_and_the_same_command_does_the_rest(ecr: Cloud) -> None:
    chain = ecr.chain({"repositories": REPOSITORIES[:1]})
    ecr.aws.fail("CreateRepository", _limit(), times=1)
    ecr.aws.fail("PutLifecyclePolicy", Html(500), times=2)
    applied = chain.apply_infra("eu")
    states = {str(row["state"]) for row in applied.rows}
    assert not applied.ok and states == {"done", "failed", "refused"}
    [failed] = [row for row in applied.rows if row["state"] == "failed"]
    assert "LimitExceeded" in str(failed["why"])
    lost = {str(row["kind"]) for row in applied.rows if row["state"] == "refused"}
    assert lost <= {"ecr:lifecycle", "ecr:policy"}
    assert chain.apply_infra("eu").ok and chain.drift("eu").ok


def _limit() -> Any:
    from tests.doubles.aws.front import ApiError

    return ApiError("LimitExceededException", "too many repositories")


def test_an_answer_that_is_lost_is_no_second_thing(ecr: Cloud) -> None:
    """The repository is made, the answer never comes, and the repeated call finds it."""
    chain = ecr.chain({"repositories": [{"names": ["ml/a"], "scan_on_push": True}]})
    ecr.aws.fail("CreateRepository", "lose")
    applied = chain.apply_infra("eu")
    assert not applied.ok and "the same command compares it" in applied.reasons[0]
    again = chain.apply_infra("eu")
    assert again.ok and not again.changed and ecr.here.repositories["ml/a"].scan_on_push


def test_what_cannot_be_read_is_not_taken_for_as_declared(ecr: Cloud) -> None:
    chain = ecr.chain(EVERYTHING)
    chain.apply_infra("eu")
    ecr.aws.deny("ecr:GetLifecyclePolicy", "ecr:DescribePullThroughCacheRules")
    drift = chain.drift("eu")
    assert not drift.ok
    told = "\n".join(drift.reasons)
    assert "ecr:lifecycle ml/a" in told and "ecr:pull-through quay" in told and "ecr:GetLifecyclePolicy" in told


def test_fixed_fields_are_refused_and_repositories_go_only_where_that_is_declared(ecr: Cloud) -> None:
    ecr.chain({"repositories": [{"names": ["ml/a", "ml/b", "tools"]}]}).apply_infra("eu")
    ecr.push(ecr.here, "ml/a", "v1")
    ecr.push(ecr.here, "ml/b", "v1")
    chain = ecr.chain(
        {
            "repositories": [
                {"names": ["tools"], "encryption": "KMS"},
                {"names": ["ml/a"], "absent": True},
                {"names": ["ml/b"], "absent": True, "force": True},
            ]
        }
    )
    applied = chain.apply_infra("eu")
    whys = {row["name"]: str(row["why"]) for row in applied.rows}
    assert "encryption is fixed" in whys["tools"] and "RepositoryNotEmpty" in whys["ml/a"] and not whys["ml/b"]
    assert set(ecr.here.repositories) == {"tools", "ml/a"}


def test_a_plan_is_kept_and_applied_as_far_as_nothing_changed(ecr: Cloud) -> None:
    chain = ecr.chain({"repositories": [{"names": ["ml/a", "ml/b"], "scan_on_push": True}]})
    chain.apply_infra("eu")
    for name in ("ml/a", "ml/b"):
        ecr.here.repositories[name].scan_on_push = False
    plan = Plan.from_json(chain.plan_infra("eu").to_json())
    ecr.here.repositories["ml/a"].mode = "IMMUTABLE"
    applied = chain.apply_infra("eu", plan)
    assert {row["name"]: row["state"] for row in applied.rows} == {"ml/a": "refused", "ml/b": "done"}
    assert Chain(chain.config).apply_infra("eu").ok


def test_private_ways_are_made_changed_back_and_imported(ecr: Cloud) -> None:
    chain = ecr.chain(ENDPOINTS)
    assert chain.apply_infra("eu").ok and chain.drift("eu").ok
    made = {each["ServiceName"]: each for each in ecr.aws.area(VpcEndpoints).endpoints.values()}
    assert set(made) == {f"com.amazonaws.eu-west-1.{service}" for service in ("ecr.api", "ecr.dkr", "s3")}
    made["com.amazonaws.eu-west-1.ecr.dkr"] |= {"SubnetIds": ["subnet-87654321"], "PrivateDnsEnabled": False}
    made["com.amazonaws.eu-west-1.s3"]["RouteTableIds"] = []
    assert {line.split(":")[1].split()[-1] for line in left(chain.plan_infra("eu"))} == {
        "private_dns", "subnets", "route_tables",
    }  # fmt: skip
    assert chain.apply_infra("eu").ok and chain.drift("eu").ok
    text, _, _ = chain.import_infra("eu")
    [network] = yaml.safe_load(text)["infra"]["eu"]["vpc_endpoints"]
    assert network == {**ENDPOINTS["vpc_endpoints"][0], "private_dns": True}


def test_keys_are_described_and_compared(ecr: Cloud) -> None:
    """On moto's key service: an alias stands for the ARN that ECR tells; a key that is not there is never made."""
    kms = ecr.calls.client("kms", where="here")
    made = kms.create_key(KeySpec="SYMMETRIC_DEFAULT", KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]
    kms.create_alias(AliasName="alias/ecr", TargetKeyId=made["KeyId"])
    key = {"key": "alias/ecr", "rotation": True, "spec": "SYMMETRIC_DEFAULT"}
    declared: dict[str, Any] = {
        "kms_keys": [key, {"key": "alias/missing"}],
        "repositories": [{"names": ["ml/a"], "encryption": "KMS", "kms_key": "alias/ecr"}],
    }
    chain = ecr.chain(declared)
    plan = chain.plan_infra("eu")
    assert [str(each.key) for each in plan.refused] == ["kms:key alias/missing"]
    assert any("rotation: false -> true" in line for line in plan.lines())
    declared["kms_keys"].pop()
    chain = ecr.chain(declared)
    assert chain.apply_infra("eu").ok
    ecr.here.repositories["ml/a"].encryption["kmsKey"] = made["Arn"]
    assert chain.drift("eu").ok
    text, _, _ = chain.import_infra("eu")
    assert yaml.safe_load(text)["infra"]["eu"]["kms_keys"][0]["key"] == made["Arn"]


def test_credentials_of_another_account_change_nothing_there(ecr: Cloud) -> None:
    """ECR takes no account for most settings: they are those of whoever asks."""
    other = "444455556666"
    role = f"arn:aws:iam::{other}:role/deploy"
    ecr.aws.area(Sts).roles[role] = Role()
    path = ecr.write({"repositories": [{"names": ["ml/a"], "immutable": True}]})
    path.write_text(path.read_text().replace("kind: ecr, account", f'kind: ecr, role: "{role}", account'))
    with pytest.raises(Forbidden, match=f"those of account {other}, and {ACCOUNT} is declared"):
        Chain(load(path)).apply_infra("eu")
    assert not ecr.registries.at(other, REGION).repositories
    path.write_text(path.read_text().replace(f'account: "{ACCOUNT}"', f'account: "{other}"'))
    assert Chain(load(path)).apply_infra("eu").ok
    assert set(ecr.registries.at(other, REGION).repositories) == {"ml/a"}


def test_a_plan_of_another_configuration_is_refused_though_the_registry_has_the_same_name(ecr: Cloud) -> None:
    stored = Plan.from_json(
        ecr.chain({"repositories": [{"names": ["ml/a"], "immutable": True}]}).plan_infra("eu").to_json()
    )
    path = ecr.write({"repositories": [{"names": ["ml/a"], "immutable": True}]})
    path.write_text(path.read_text().replace(f"region: {REGION}", "region: us-east-1"))
    with pytest.raises(InputError, match=f"the plan is for eu, {ACCOUNT} in {REGION}"):
        Chain(load(path)).apply_infra("eu", stored)
    assert not ecr.away.repositories
