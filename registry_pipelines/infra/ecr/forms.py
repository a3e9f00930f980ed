"""One form for what AWS writes in several: policies, tag immutability, rules of replication, of scanning and signing.

Declared and found values both go through here, so that what means the same is equal. Each function is pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from registry_pipelines.infra.ecr.kinds import ALL
from registry_pipelines.infra.settings import Plain

STATEMENT = "statement."
"""Begins the field of a policy's statement, which its ``Sid`` follows."""
LABEL = "labels."
"""Begins the field of a resource tag."""
READERS = "RegistryPipelinesReaders"
READER_ORGANIZATIONS = "RegistryPipelinesReaderOrganizations"
REPLICATION_SOURCES = "RegistryPipelinesReplication"
"""``Sid`` of the statements that are written here."""

PULL = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
"""What a pull needs of a repository policy; source: the ECR user guide, "Repository policy examples"."""
REPLICATE = ("ecr:CreateRepository", "ecr:ReplicateImage")
"""What a destination allows the source's account; source: the ECR user guide, "Registry permissions"."""

_ACCOUNT = re.compile(r"[0-9]{12}\Z")
_ACCOUNT_ROOT = re.compile(r"arn:aws[a-z-]*:iam::([0-9]{12}):root\Z")


def statements(text: str) -> dict[str, Plain]:
    """A policy's statements, each as a field. One without ``Sid`` is named by its place among those.

    Raises ValueError: no JSON, no policy.
    """
    document = json.loads(text)
    if not isinstance(document, dict) or "Statement" not in document:
        raise ValueError("a policy is an object with `Statement`")
    listed = document["Statement"] if isinstance(document["Statement"], list) else [document["Statement"]]
    fields: dict[str, Plain] = {}
    for position, each in enumerate(listed):
        if not isinstance(each, dict) or "Effect" not in each:
            raise ValueError(f"statement {position + 1} has no `Effect`")
        sid = each.get("Sid", "")
        if not isinstance(sid, str):
            raise ValueError(f"`Sid` of statement {position + 1} is no text")
        name = f"{STATEMENT}{sid or f'#{position + 1}'}"
        if name in fields:
            raise ValueError(f"two statements have the Sid {sid}")
        fields[name] = _statement({key: value for key, value in each.items() if key != "Sid"})
    return fields


def policy_text(fields: Mapping[str, Plain]) -> str:
    """A policy of such fields, as AWS is given it."""
    listed = []
    for name in sorted(fields):
        sid = name.removeprefix(STATEMENT)
        listed.append(({} if sid.startswith("#") else {"Sid": sid}) | fields[name])
    return json.dumps({"Version": "2012-10-17", "Statement": listed}, separators=(",", ":"))


def _statement(each: Mapping[str, Any]) -> dict[str, Plain]:
    return {key: _principals(value) if key.endswith("Principal") else _sorted(value) for key, value in each.items()}


def _sorted(value: Any) -> Plain:
    if isinstance(value, list):
        plain = [_sorted(each) for each in value]
        return plain[0] if len(plain) == 1 else sorted(plain, key=lambda one: json.dumps(one, sort_keys=True))
    if isinstance(value, dict):
        return {key: _sorted(inner) for key, inner in sorted(value.items())}
    return value


def _principals(value: Any) -> Plain:
    """AWS turns an account's number into the ARN of its root, and writes one principal without a list."""
    if isinstance(value, dict) and isinstance(value.get("AWS"), str | list):
        named = value["AWS"] if isinstance(value["AWS"], list) else [value["AWS"]]
        short = [_ACCOUNT_ROOT.sub(r"\1", each) if isinstance(each, str) else each for each in named]
        return _sorted({**value, "AWS": short})
    return _sorted({"AWS": "*"} if value == "*" else value)


def readers_statements(readers: Sequence[str]) -> dict[str, Plain]:
    """The statements that let readers pull; accounts and roles in one, organizations in another."""
    organizations = sorted(each for each in readers if each.startswith("o-"))
    others = sorted(set(readers) - set(organizations))
    fields: dict[str, Plain] = {}
    if others:
        allowed = {"Effect": "Allow", "Principal": {"AWS": others}, "Action": list(PULL)}
        fields[STATEMENT + READERS] = _statement(allowed)
    if organizations:
        condition = {"StringEquals": {"aws:PrincipalOrgID": organizations}}
        allowed = {"Effect": "Allow", "Principal": "*", "Action": list(PULL), "Condition": condition}
        fields[STATEMENT + READER_ORGANIZATIONS] = _statement(allowed)
    return fields


def replication_statement(accounts: Sequence[str], resource: str) -> dict[str, Plain]:
    """The statement by which other accounts may replicate to this registry. resource: the ARN of its repositories."""
    allowed = {"Effect": "Allow", "Principal": {"AWS": list(accounts)}, "Action": list(REPLICATE), "Resource": resource}
    return {STATEMENT + REPLICATION_SOURCES: _statement(allowed)}


def lifecycle(text: str) -> Plain:
    """A lifecycle policy with its rules by priority. Raises ValueError."""
    document = json.loads(text)
    rules = document.get("rules") if isinstance(document, dict) else None
    if not isinstance(rules, list) or not all(isinstance(each, dict) for each in rules):
        raise ValueError("a lifecycle policy is an object with a list `rules`")
    return {**document, "rules": sorted(rules, key=lambda each: str(each.get("rulePriority", "")).zfill(9))}


def mutability(immutable: bool, movable: Sequence[str]) -> tuple[str, list[str]]:
    """AWS's word for how tags move, and the patterns that are excepted."""
    word = "IMMUTABLE" if immutable else "MUTABLE"
    return (f"{word}_WITH_EXCLUSION" if movable else word), sorted(movable)


def edges(rules: Iterable[tuple[Iterable[str], Iterable[str], bool]]) -> dict[str, dict[str, Plain]]:
    """Rules of replication by destination. rules: (destinations as ``account/region``, prefixes, whether deletions go
    along). The same prefix in two rules for one destination is replicated once; no prefix is :data:`ALL`."""
    found: dict[str, dict[str, set[str]]] = {}
    for destinations, prefixes, deletes in rules:
        named = set(prefixes) or {ALL}
        for destination in destinations:
            edge = found.setdefault(destination, {"prefixes": set(), "deletes": set()})
            edge["prefixes"] |= named
            edge["deletes"] |= named if deletes else set()
    return {name: {field: sorted(each) for field, each in edge.items()} for name, edge in sorted(found.items())}


def rules(by_destination: Mapping[str, Mapping[str, Plain]]) -> list[dict[str, Any]]:
    """The rules that give such edges, as few as there are different filters; source: ReplicationRule in botocore's
    model. Deletion is left out where it is off, so that clients of before it may read them."""
    groups: dict[tuple[tuple[str, ...], bool], list[str]] = {}
    for destination, edge in sorted(by_destination.items()):
        for deletes in (False, True):
            named = tuple(each for each in edge["prefixes"] if (each in edge["deletes"]) == deletes)
            if named:
                groups.setdefault((named, deletes), []).append(destination)
    made: list[dict[str, Any]] = []
    for (prefixes, deletes), destinations in groups.items():
        # All repositories, with deletions for some of them alone: a rule without a filter beside the others.
        filters = [{"filter": each, "filterType": "PREFIX_MATCH"} for each in prefixes if each != ALL]
        split = [filters] if ALL not in prefixes else [[], *([filters] if filters else [])]
        for own in split:
            rule: dict[str, Any] = {"destinations": [destination_value(each) for each in destinations]}
            rule |= {"repositoryFilters": own} if own else {}
            made.append(rule | ({"deleteReplication": {"enabled": True}} if deletes else {}))
    return made


def destination_value(name: str) -> dict[str, str]:
    """``account/region`` as AWS writes it."""
    account, _, region = name.partition("/")
    return {"region": region, "registryId": account}


def destination_name(value: Mapping[str, str]) -> str:
    """The other way round."""
    return f"{value['registryId']}/{value['region']}"


def covers(edge: Mapping[str, Plain], repository: str) -> bool:
    """Whether a replication takes a repository along."""
    return any(each == ALL or repository.startswith(each) for each in edge["prefixes"])


def readers_rows(repository: str, fields: Mapping[str, Plain], source: str) -> list[dict[str, str]]:
    """Who may pull by a policy's statements, and where that stands."""
    rows = []
    for name, each in fields.items():
        actions = each.get("Action", [])
        named = [actions] if isinstance(actions, str) else actions
        if not any(_matches(action, "ecr:BatchGetImage") for action in named):
            continue
        principals = each.get("Principal", {}).get("AWS", "*") if isinstance(each.get("Principal"), dict) else "*"
        condition = json.dumps(each["Condition"], sort_keys=True) if each.get("Condition") else ""
        for principal in [principals] if isinstance(principals, str) else principals:
            rows.append(
                {
                    "repository": repository,
                    "principal": principal,
                    "effect": str(each.get("Effect", "")),
                    "condition": condition,
                    "from": f"{source}, {name.removeprefix(STATEMENT)}",
                }
            )
    return rows


def _matches(pattern: object, action: str) -> bool:
    if not isinstance(pattern, str):
        return False
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, action, re.IGNORECASE) is not None
