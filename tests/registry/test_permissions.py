"""What clouds must permit: names that exist, policies that are small, and no operation that nobody can ask for."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import registry_pipelines
from registry_pipelines.errors import InputError
from registry_pipelines.registry.permissions import (
    Cloud,
    Scope,
    action_of,
    aws_policy,
    google_roles,
    names,
    needed,
    operations,
)
from tests.needs import needed_module

RIGHTS_WITHOUT_A_CALL = {
    "ecr:BatchImportUpstreamImage",
    "iam:PassRole",
    "sts:GetServiceBearerToken",
}
"""Rights that no call is named after. Source: service authorization reference."""


@cache
def calls(service: str) -> set[str]:
    session = needed_module("botocore.session", "aws")
    return set(session.get_session().get_service_model(service).operation_names)


def test_every_action_is_named_after_a_call_of_its_service() -> None:
    actions = {name for each in operations() for grant in each.aws for name in grant.actions}
    assert len(actions) > 100
    unknown = {name for name in actions if name.split(":")[1] not in calls(name.split(":")[0])}
    assert unknown == RIGHTS_WITHOUT_A_CALL


PACKAGE = Path(registry_pipelines.__file__).parent
SERVICES = (
    "ecr",
    "ecr-public",
    "inspector2",
    "signer",
    "kms",
    "sqs",
    "ecs",
    "lambda",
    "sagemaker",
    "ec2",
    "eks",
    "iam",
)
BY_ANOTHER_NAME = {"delete_message_batch": "sqs:DeleteMessage", "list_image_referrers": "ecr:BatchGetImage"}
"""Calls of boto3 whose right is not called like them. Source: service authorization reference."""


OF_OTHERS = {"list_tags", "register_image"}
"""Texts that are called like a call of AWS and are another's."""


def texts() -> set[str]:
    """Every text that stands in the library's code."""
    return {
        node.value
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_every_call_that_the_code_makes_is_among_the_rights() -> None:
    xform = needed_module("botocore", "aws").xform_name
    actions = {name for each in operations() for grant in each.aws for name in grant.actions}
    rights: dict[str, set[str]] = {}
    for service in SERVICES:
        for call in calls(service):
            rights.setdefault(xform(call), set()).add(f"{service}:{call}")
    made = {text for text in texts() if text in rights and "_" in text} - OF_OTHERS
    assert len(made) > 60
    assert {call for call in made if BY_ANOTHER_NAME.get(call) not in actions and not rights[call] & actions} == set()


def test_every_right_of_google_that_the_code_names_has_a_role() -> None:
    services = (
        "artifactregistry|binaryauthorization|containeranalysis|cloudkms|accesscontextmanager|pubsub|resourcemanager"
    )
    shape = re.compile(rf"({services})\.[a-zA-Z]+\.[a-zA-Z]+")
    named = {text for text in texts() if shape.fullmatch(text) and not text.endswith(".com")}
    held = {name for each in operations() for grant in each.google for name in grant.permissions}
    assert len(named) > 10 and named - held == set()


def test_rows_are_whole_and_sorted() -> None:
    for each in operations():
        assert each.what and each.used_by and (each.aws or each.google), each.operation
        for grant in each.aws:
            assert grant.actions == tuple(sorted(set(grant.actions))) != () and not grant.role and not grant.permissions
        for grant in each.google:
            assert re.fullmatch(r"roles/\w+(\.\w+)+", grant.role) and grant.permissions and not grant.actions
            assert all(re.fullmatch(r"\w+\.\w+\.\w+", name) for name in grant.permissions)
    assert len({each.operation for each in operations()}) == len(operations())


def test_reading_never_permits_a_change() -> None:
    reading = ("pull", "list", "settings-read", "doctor", "verify-kms", "lifecycle-preview", "usage")
    allowed = {name for each in reading for name in names(needed("aws", each))}
    verbs = {re.match(r"[A-Z][a-z]+", name.split(":")[1])[0] for name in allowed}  # type: ignore[index]
    assert verbs == {"Batch", "Describe", "Get", "List", "Simulate", "Start"}
    assert {name for name in allowed if ":Start" in name} == {"ecr:StartLifecyclePolicyPreview"}
    permissions = {name for each in reading for grant in needed("google", each) for name in grant.permissions}
    assert not {name for name in permissions if re.search(r"\.(create|update|delete|set\w+|upload\w+)$", name)}


def test_a_policy_is_cut_to_names_and_has_one_statement_for_each_kind() -> None:
    scope = Scope(
        account="111122223333", region="cn-north-1", partition="aws-cn", names={"repository": ("team/app", "base/*")}
    )
    made = aws_policy(["push", "list", "sign-kms"], scope)
    every, key, repository = made["Statement"]
    asked = ["ecr:GetAccountSetting", "ecr:GetAuthorizationToken"]
    assert every == {"Sid": "All", "Effect": "Allow", "Action": asked, "Resource": "*"}
    assert key["Resource"] == ["arn:aws-cn:kms:cn-north-1:111122223333:key/*"]
    assert repository["Resource"] == [
        "arn:aws-cn:ecr:cn-north-1:111122223333:repository/team/app",
        "arn:aws-cn:ecr:cn-north-1:111122223333:repository/base/*",
    ]
    assert {"ecr:PutImage", "ecr:DescribeImages"} <= set(repository["Action"])
    assert google_roles(["pull", "push", "list"]) == [
        ("repository", "roles/artifactregistry.reader"),
        ("repository", "roles/artifactregistry.writer"),
    ]


def test_every_kind_of_thing_has_an_arn() -> None:
    made = aws_policy([each.operation for each in operations()], Scope(account="1", region="r"))
    for statement in made["Statement"]:
        assert statement["Resource"] == "*" or all(arn.startswith("arn:aws:") for arn in statement["Resource"])


@pytest.mark.parametrize(
    ("cloud", "call", "service", "action"),
    [
        ("aws", "DescribeImages", "", "ecr:DescribeImages"),
        ("aws", "ListImageReferrers", "", "ecr:BatchGetImage"),
        ("aws", "Sign", "kms", "kms:Sign"),
        ("google", "list_docker_images", "", "artifactregistry.dockerimages.list"),
        ("google", "get_repository", "", "artifactregistry.repositories.get"),
        ("google", "list_repositories", "", "artifactregistry.repositories.list"),
        ("google", "batch_delete_versions", "", "artifactregistry.versions.delete"),
        ("google", "delete_tag", "", "artifactregistry.tags.delete"),
        ("google", "set_iam_policy", "", "artifactregistry.repositories.setIamPolicy"),
        ("google", "get_policy", "binaryauthorization", "binaryauthorization.policy.get"),
        ("google", "create_attestor", "binaryauthorization", "binaryauthorization.attestors.create"),
        ("google", "list_occurrences", "containeranalysis", "containeranalysis.occurrences.list"),
    ],
)
def test_the_right_behind_a_call(cloud: Cloud, call: str, service: str, action: str) -> None:
    assert action_of(cloud, call, service) == action


def test_an_unknown_operation_names_those_that_are_known() -> None:
    with pytest.raises(InputError, match=r"'pul' is no operation.*One of: pull, list"):
        needed("aws", "pul")
