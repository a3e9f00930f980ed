"""Artifact Registry's cleanup policies: the file that `gcloud artifacts repositories set-cleanup-policies` takes, and
the REST form of a repository (`cleanupPolicies`, google.devtools.artifactregistry.v1.CleanupPolicy)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from registry_pipelines.lifecycle.document import (
    MISSING,
    Problems,
    known,
    mapping,
    number,
    read_json,
    shown,
    texts,
    word,
)
from registry_pipelines.progress import count_text

MOST_POLICIES = 10
"""Of one repository."""
MOST_ID_CHARACTERS = 127
TagState = Literal["TAGGED", "UNTAGGED", "ANY"]
_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class GarPolicy:
    """One policy. keeps: it keeps what it names, else it deletes it. keep_count: of each package so many of the newest
    versions, in place of a condition. Prefixes: any of them; none means all. older_than, newer_than: since upload."""

    id: str
    keeps: bool
    tag_state: TagState = "ANY"
    tag_prefixes: tuple[str, ...] = ()
    version_name_prefixes: tuple[str, ...] = ()
    package_name_prefixes: tuple[str, ...] = ()
    older_than: timedelta | None = None
    newer_than: timedelta | None = None
    keep_count: int | None = None

    @property
    def name(self) -> str:
        """``policy keep-releases``."""
        return f"policy {self.id}"

    def plain(self) -> dict[str, Any]:
        """The policy as gcloud's file has it."""
        packages = {"packageNamePrefixes": list(self.package_name_prefixes)} if self.package_name_prefixes else {}
        head = {"name": self.id, "action": {"type": "Keep" if self.keeps else "Delete"}}
        if self.keep_count is not None:
            return {**head, "mostRecentVersions": {"keepCount": self.keep_count, **packages}}
        condition: dict[str, Any] = {"tagState": self.tag_state.lower()}
        if self.tag_prefixes:
            condition["tagPrefixes"] = list(self.tag_prefixes)
        if self.version_name_prefixes:
            condition["versionNamePrefixes"] = list(self.version_name_prefixes)
        condition |= packages
        for name, span in (("olderThan", self.older_than), ("newerThan", self.newer_than)):
            if span is not None:
                condition[name] = f"{span.total_seconds():.9f}".rstrip("0").rstrip(".") + "s"
        return {**head, "condition": condition}


@dataclass(frozen=True)
class GarPolicies:
    """A repository's policies, in the order of the file; the order decides nothing. warnings: what is permitted and
    hardly meant so."""

    policies: tuple[GarPolicy, ...]
    warnings: tuple[str, ...] = ()

    def text(self) -> str:
        """The file for gcloud."""
        return json.dumps([policy.plain() for policy in self.policies], indent=2)


def read_gar_policies(text: str, *, where: str = "") -> GarPolicies:
    """Read gcloud's list, the REST form's mapping by id, or a whole repository with ``cleanupPolicies``. Raises
    LifecycleInvalid with every problem."""
    problems = Problems()
    document = read_json(text, where=where)
    policies: list[GarPolicy] = []
    entries = _entries(document, problems)
    if len(entries) > MOST_POLICIES:
        problems.add("", f"{count_text(len(entries), 'policy', 'policies')}; at most {MOST_POLICIES} in one repository")
    for path, named, value in entries:
        policy = _policy(value, path, named, problems)
        if policy is not None:
            if policy.id and any(each.id == policy.id for each in policies):
                problems.add(path, f"a second policy of the name {policy.id}")
            policies.append(policy)
    if policies and all(policy.keeps for policy in policies):
        problems.warn("", "no policy deletes, so that these keep what would stay anyway")
    problems.end(where)
    return GarPolicies(tuple(policies), tuple(problems.warnings))


def _entries(document: Any, problems: Problems) -> Sequence[tuple[str, str | None, Any]]:
    """Path, the name it stands under, and the policy."""
    if isinstance(document, dict) and "cleanupPolicies" in document:
        document = document["cleanupPolicies"]
    if isinstance(document, list):
        found: list[tuple[str, str | None, Any]] = [(f"[{at}]", None, each) for at, each in enumerate(document)]
    elif isinstance(document, dict):
        found = [(name, name, each) for name, each in document.items()]
    else:
        problems.add("", "must be a list of policies, or an object of them by id")
        return []
    if not found:
        problems.add("", "holds no policy")
    return found


def _policy(value: Any, path: str, named: str | None, problems: Problems) -> GarPolicy | None:
    policy = mapping(value, path, problems)
    if policy is None:
        return None
    known(policy, ["name", "id", "action", "condition", "mostRecentVersions"], path, problems)
    said = policy.get("name", policy.get("id", named if named is not None else MISSING))
    if not isinstance(said, str) or not 0 < len(said) <= MOST_ID_CHARACTERS:
        problems.add(f"{path}.name", f"must be text of 1 to {MOST_ID_CHARACTERS} characters")
        said = ""
    if named is not None and said and said != named:
        problems.add(f"{path}.id", f"{said} stands under {named}")
    action = policy.get("action", MISSING)
    if isinstance(action, dict):  # gcloud's file; the API has the word alone
        known(action, ["type"], f"{path}.action", problems)
        action = action.get("type", MISSING)
    kind = word(_upper(action), ["DELETE", "KEEP"], f"{path}.action", problems)
    has = [name for name in ("condition", "mostRecentVersions") if name in policy]
    if len(has) != 1:
        problems.add(path, "needs either condition or mostRecentVersions, and not both")
        return None
    if has == ["mostRecentVersions"]:
        if kind == "DELETE":
            problems.add(f"{path}.mostRecentVersions", "only keeps; a policy that deletes has a condition")
        return _most_recent(policy["mostRecentVersions"], f"{path}.mostRecentVersions", said, problems)
    return _conditional(policy["condition"], f"{path}.condition", said, kind == "KEEP", problems)


def _most_recent(value: Any, path: str, name: str, problems: Problems) -> GarPolicy | None:
    found = mapping(value, path, problems)
    if found is None:
        return None
    known(found, ["keepCount", "packageNamePrefixes"], path, problems)
    count = number(found.get("keepCount", MISSING), f"{path}.keepCount", problems)
    packages = _list(found, "packageNamePrefixes", path, problems)
    return GarPolicy(name, True, package_name_prefixes=packages, keep_count=count)


_CONDITION = ["tagState", "tagPrefixes", "versionNamePrefixes", "packageNamePrefixes", "olderThan", "newerThan"]


def _conditional(value: Any, path: str, name: str, keeps: bool, problems: Problems) -> GarPolicy | None:
    found = mapping(value, path, problems)
    if found is None:
        return None
    known(found, _CONDITION, path, problems)
    state = word(_upper(found.get("tagState", "ANY")), ["TAGGED", "UNTAGGED", "ANY"], f"{path}.tagState", problems)
    tags = _list(found, "tagPrefixes", path, problems)
    if tags and state != "TAGGED":
        problems.add(f"{path}.tagPrefixes", "needs tagState TAGGED")
    if not found and not keeps:
        problems.warn(path, "is empty: every version that no other policy keeps is deleted")
    policy = GarPolicy(
        name,
        keeps,
        tag_state=state or "ANY",  # type: ignore[arg-type]
        tag_prefixes=tags,
        version_name_prefixes=_list(found, "versionNamePrefixes", path, problems),
        package_name_prefixes=_list(found, "packageNamePrefixes", path, problems),
        older_than=_span(found, "olderThan", path, problems),
        newer_than=_span(found, "newerThan", path, problems),
    )
    if policy.older_than and policy.newer_than and policy.older_than >= policy.newer_than:
        problems.warn(path, "no version is older than olderThan and newer than newerThan")
    return policy


def _list(found: Mapping[str, Any], name: str, path: str, problems: Problems) -> tuple[str, ...]:
    return texts(found[name], f"{path}.{name}", problems) if name in found else ()


def _span(found: Mapping[str, Any], name: str, path: str, problems: Problems) -> timedelta | None:
    if name not in found:
        return None
    match = _SPAN.match(found[name]) if isinstance(found[name], str) else None
    if not match:
        problems.add(f"{path}.{name}", f"{shown(found[name])} is no length of time; write a number with s, m, h or d")
        return None
    try:
        return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    except OverflowError:
        problems.add(f"{path}.{name}", f"{shown(found[name])} is longer than a length of time can be")
        return None


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value
