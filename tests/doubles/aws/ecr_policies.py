"""What ECR keeps as text for a registry and its repositories: resource tags, policies, lifecycle policies and their
previews; and how a registry scans and signs."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from tests.doubles.aws import ecr_lifecycle
from tests.doubles.aws.ecr_places import Place, Repository
from tests.doubles.aws.ecr_registry import EcrRegistries, moment
from tests.doubles.aws.front import Area, AwsDouble, Call, pages
from tests.doubles.aws.model import ApiError, Values

Where = tuple[str, str]
"""Account and region."""

_ACCOUNT = re.compile(r"[0-9]{12}\Z")
MAX_LABELS = 50


class EcrPolicies(Area):
    """registry_policies, scanning, signing: by account and region. texts: (what, account, region, repository)."""

    service = "ecr"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.texts: dict[tuple[str, str, str, str], str] = {}
        self.registry_policies: dict[Where, str] = {}
        self.scanning: dict[Where, Values] = {}
        self.signing: dict[Where, Values] = {}
        self._previews: dict[tuple[str, str, str], tuple[str, Values]] = {}
        self._pages: dict[str, tuple[str, list[Values]]] = {}

    def _there(self, call: Call) -> tuple[Place, Repository]:
        registries = self.world.area(EcrRegistries)
        return registries.place(call), registries.repository(call)

    def _key(self, call: Call, what: str) -> tuple[str, str, str, str]:
        place, there = self._there(call)
        return what, place.account, place.region, there.name

    def _text(self, call: Call, what: str, missing: str) -> Values:
        key = self._key(call, what)
        if key not in self.texts:
            raise ApiError(missing, f"{what} does not exist for the repository with name '{key[3]}'")
        return {"registryId": key[1], "repositoryName": key[3]}

    # Resource tags

    def _labelled(self, call: Call) -> Repository:
        arn = call.values["resourceArn"]
        for place in self.world.area(EcrRegistries).places.values():
            for there in place.repositories.values():
                if place.arn(there.name) == arn:
                    return there
        raise ApiError("RepositoryNotFoundException", arn)

    def do_TagResource(self, call: Call) -> Values:
        there = self._labelled(call)
        labels = {each["Key"]: each["Value"] for each in call.values["tags"]}
        if any(name.startswith("aws:") for name in labels):
            raise ApiError("InvalidTagParameterException", "aws: is reserved")
        if len(there.labels | labels) > MAX_LABELS:
            raise ApiError("TooManyTagsException", f"{MAX_LABELS} at most")
        there.labels |= labels
        return {}

    def do_UntagResource(self, call: Call) -> Values:
        there = self._labelled(call)
        there.labels = {name: value for name, value in there.labels.items() if name not in call.values["tagKeys"]}
        return {}

    def do_ListTagsForResource(self, call: Call) -> Values:
        return {"tags": [{"Key": name, "Value": value} for name, value in self._labelled(call).labels.items()]}

    # Policies

    def do_SetRepositoryPolicy(self, call: Call) -> Values:
        key = self._key(call, "policy")
        self.texts[key] = normalized(call.values["policyText"])
        return {"registryId": key[1], "repositoryName": key[3], "policyText": self.texts[key]}

    def do_GetRepositoryPolicy(self, call: Call) -> Values:
        about = self._text(call, "policy", "RepositoryPolicyNotFoundException")
        return {**about, "policyText": self.texts[self._key(call, "policy")]}

    def do_DeleteRepositoryPolicy(self, call: Call) -> Values:
        about = self._text(call, "policy", "RepositoryPolicyNotFoundException")
        return {**about, "policyText": self.texts.pop(self._key(call, "policy"))}

    def do_PutRegistryPolicy(self, call: Call) -> Values:
        text = self.registry_policies[call.account, call.region] = normalized(call.values["policyText"])
        return {"registryId": call.account, "policyText": text}

    def do_GetRegistryPolicy(self, call: Call) -> Values:
        text = self.registry_policies.get((call.account, call.region))
        if text is None:
            raise ApiError("RegistryPolicyNotFoundException", f"Registry policy does not exist in {call.account}")
        return {"registryId": call.account, "policyText": text}

    def do_DeleteRegistryPolicy(self, call: Call) -> Values:
        answer = self.do_GetRegistryPolicy(call)
        del self.registry_policies[call.account, call.region]
        return answer

    # Lifecycle

    def do_PutLifecyclePolicy(self, call: Call) -> Values:
        key = self._key(call, "lifecycle")
        text = call.values["lifecyclePolicyText"]
        ecr_lifecycle.check(text)
        self.texts[key] = text
        return {"registryId": key[1], "repositoryName": key[3], "lifecyclePolicyText": text}

    def do_GetLifecyclePolicy(self, call: Call) -> Values:
        about = self._text(call, "lifecycle", "LifecyclePolicyNotFoundException")
        text = self.texts[self._key(call, "lifecycle")]
        return {**about, "lifecyclePolicyText": text, "lastEvaluatedAt": moment(self.world.clock())}

    def do_DeleteLifecyclePolicy(self, call: Call) -> Values:
        answer = self.do_GetLifecyclePolicy(call)
        del self.texts[self._key(call, "lifecycle")]
        return answer

    def do_StartLifecyclePolicyPreview(self, call: Call) -> Values:
        place, there = self._there(call)
        text = call.values.get("lifecyclePolicyText")
        if text is None:
            text = self.texts.get(self._key(call, "lifecycle"))
            if text is None:
                raise ApiError("LifecyclePolicyNotFoundException", there.name)
        ecr_lifecycle.check(text)
        found = ecr_lifecycle.evaluate(text, there, self.world.clock())
        about = {"registryId": place.account, "repositoryName": there.name, "lifecyclePolicyText": text}
        self._previews[place.account, place.region, there.name] = text, {**about, **_preview(found)}
        return {**about, "status": "IN_PROGRESS"}

    def do_GetLifecyclePolicyPreview(self, call: Call) -> Values:
        place, there = self._there(call)
        if (place.account, place.region, there.name) not in self._previews:
            raise ApiError("LifecyclePolicyPreviewNotFoundException", there.name)
        _, known = self._previews[place.account, place.region, there.name]
        page = pages(self._pages, "GetLifecyclePolicyPreview", "previewResults", known["previewResults"], call.values)
        return {**known, **page, "status": "COMPLETE"}

    # How the registry scans and signs

    def do_PutRegistryScanningConfiguration(self, call: Call) -> Values:
        kind, rules = call.values.get("scanType", "BASIC"), call.values.get("rules", [])
        frequencies = [each["scanFrequency"] for each in rules]
        if kind == "BASIC" and "CONTINUOUS_SCAN" in frequencies:
            raise ApiError("ValidationException", "CONTINUOUS_SCAN needs ENHANCED")
        if len(set(frequencies)) != len(frequencies):
            raise ApiError("ValidationException", "a frequency stands there twice")
        self.scanning[call.account, call.region] = {"scanType": kind, "rules": rules}
        return {"registryScanningConfiguration": self.scanning[call.account, call.region]}

    def do_GetRegistryScanningConfiguration(self, call: Call) -> Values:
        known = self.scanning.get((call.account, call.region), {"scanType": "BASIC", "rules": []})
        return {"registryId": call.account, "scanningConfiguration": known}

    def do_PutSigningConfiguration(self, call: Call) -> Values:
        known = call.values["signingConfiguration"]
        profiles = [each["signingProfileArn"] for each in known["rules"]]
        if len(set(profiles)) != len(profiles):
            raise ApiError("ValidationException", "a profile stands there twice")
        self.signing[call.account, call.region] = known
        return {"signingConfiguration": known}

    def do_GetSigningConfiguration(self, call: Call) -> Values:
        if (call.account, call.region) not in self.signing:
            raise ApiError("SigningConfigurationNotFoundException", "there is none")
        return {"registryId": call.account, "signingConfiguration": self.signing[call.account, call.region]}

    def do_DeleteSigningConfiguration(self, call: Call) -> Values:
        answer = self.do_GetSigningConfiguration(call)
        del self.signing[call.account, call.region]
        return answer


def normalized(text: str) -> str:
    """As AWS gives a policy back: principals that are accounts are their roots, one of a list is no list. Raises
    ApiError for what is no policy."""
    try:
        document = json.loads(text)
        statements = document["Statement"] if isinstance(document["Statement"], list) else [document["Statement"]]
        for each in statements:
            if each["Effect"] not in ("Allow", "Deny") or not (each.get("Action") or each.get("NotAction")):
                raise ValueError(each)
            if isinstance(each.get("Principal"), dict) and "AWS" in each["Principal"]:
                each["Principal"]["AWS"] = _principals(each["Principal"]["AWS"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = "Invalid parameter at 'PolicyText' failed to satisfy constraint: 'Invalid repository policy provided'"
        raise ApiError("InvalidParameterException", said) from error
    sids = [each["Sid"] for each in statements if "Sid" in each]
    if len(set(sids)) != len(sids):
        raise ApiError("InvalidParameterException", "Statement IDs (SID) in a single policy must be unique")
    return json.dumps({**document, "Statement": statements}, indent=2)


def _principals(value: Any) -> Any:
    listed = value if isinstance(value, list) else [value]
    named = [f"arn:aws:iam::{each}:root" if _ACCOUNT.match(each) else each for each in listed]
    return named if len(named) > 1 else named[0]


def allows(text: str | None, account: str, action: str) -> bool:
    """Whether a registry policy lets an account do something. Conditions are not looked at."""
    for each in json.loads(text or '{"Statement": []}')["Statement"]:
        actions = [each["Action"]] if isinstance(each["Action"], str) else each["Action"]
        principal = each.get("Principal", {})
        named = principal.get("AWS", []) if isinstance(principal, dict) else principal
        listed = [named] if isinstance(named, str) else named
        who, what = {f"arn:aws:iam::{account}:root", "*"} & set(listed), {action, "ecr:*"} & set(actions)
        if each["Effect"] == "Allow" and who and what:
            return True
    return False


def _preview(found: list[ecr_lifecycle.Action]) -> Values:
    results = []
    for each in found:
        action: Values = {"type": each.kind.upper()}
        if each.kind == "transition":
            action["targetStorageClass"] = "ARCHIVE"
        results.append(
            {
                "imageTags": list(each.tags),
                "imageDigest": each.digest,
                "imagePushedAt": datetime.fromtimestamp(each.pushed_at).astimezone(),
                "action": action,
                "appliedRulePriority": each.priority,
                "storageClass": each.storage.upper(),
            }
        )
    moved = sum(each.kind == "transition" for each in found)
    summary: Values = {"expiringImageTotalCount": len(found) - moved}
    if moved:
        summary["transitioningImageTotalCounts"] = [{"targetStorageClass": "ARCHIVE", "imageTotalCount": moved}]
    return {"previewResults": results, "summary": summary}


__all__ = ["EcrPolicies", "allows", "normalized"]
