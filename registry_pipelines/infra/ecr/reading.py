"""What is there of a registry's settings, in the form in which they are declared.

Lists are asked by pages, once. What no list tells (a repository's lifecycle policy, policy and labels, an account
setting, a key) is one call for each that is declared, and none for others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from registry_pipelines.errors import Forbidden, NotFound, RegistryError, RegistryPipelinesError
from registry_pipelines.infra.cloud import Found
from registry_pipelines.infra.ecr import alarms, forms, kinds, network, replicating, signing
from registry_pipelines.infra.ecr.asking import Asking
from registry_pipelines.infra.settings import Fields, Plain, Setting, with_found
from registry_pipelines.registry.ecr.calls import Answer

WATCHING = (kinds.TOPIC, kinds.ALARM)
"""Kinds of other services, which are asked where something is declared."""

There = dict[str, dict[str, Plain]]
"""Fields by name, of one kind."""

_GONE = frozenset(
    {
        "RepositoryPolicyNotFoundException",
        "LifecyclePolicyNotFoundException",
        "RegistryPolicyNotFoundException",
        "SigningConfigurationNotFoundException",
        "RepositoryNotFoundException",
        "NotFoundException",
        "ResourceNotFoundException",
    }
)
"""Codes that say that there is nothing."""


class Reading:
    """Reads one registry; each list is asked once. owed: destinations whose backfill has to be done again."""

    def __init__(self, place: str, asking: Asking, *, owed: Callable[[], frozenset[str]]) -> None:
        self._place, self._asking, self._owed = place, asking, owed
        self._registry: Answer = {}

    def read(self, declared: Sequence[Setting], *, everything: bool = False) -> Found:
        """See :class:`~registry_pipelines.infra.cloud.SettingsCloud`. everything: what an import takes, also what
        nobody declared and no list tells. Raises RegistryError for the list of repositories, which all else hangs on,
        and for credentials of another account; another kind that cannot be read is unread."""
        settings: list[Setting] = []
        notes: list[str] = []
        there: dict[str, There] = {}
        self._registry = self._own()
        for kind in kinds.ORDER:
            own = [each for each in declared if each.kind == kind]
            if (
                not own
                and kind in (kinds.PROFILE, kinds.KEY, kinds.ENDPOINT, kinds.BACKFILL, *WATCHING)
                and not everything
            ):
                continue
            try:
                there[kind] = self._there(kind, own, there, everything)
            except RegistryPipelinesError as error:
                if kind == kinds.REPOSITORY:
                    raise
                settings += [with_found(each, None, unread=str(error)) for each in own]
                if not own:
                    notes.append(f"{kind} was not read, so what is there is not named: {error}")
                continue
            settings += self._joined(kind, own, there[kind])
        unread = sorted({kinds.LIFECYCLE, kinds.POLICY} - {each.kind for each in declared})
        if unread and not everything:
            notes.append(
                f"{' and '.join(unread)}: ECR has no list of them; only repositories that declare one were asked"
            )
        return Found(settings=tuple(self._resolved(settings)), notes=tuple(notes), readers=self._readers(there))

    def _own(self) -> Answer:
        """The registry itself. Settings are those of whoever asks: ECR takes no account for most of them, so another
        account's credentials would change that one's. Raises Forbidden for these."""
        told = self._asking.ask("describe_registry")
        if (account := told.get("registryId")) != self._asking.account:
            raise Forbidden(
                f"the credentials are those of account {account}, and {self._asking.account} is declared",
                where=self._place,
                do="Name its `role` or `profile` beside `account`, or correct `account`",
            )
        return told

    def read_keys(self, named: Sequence[Setting]) -> list[Setting]:
        """Keys alone, each by one call or two."""
        return list(self._joined(kinds.KEY, named, self._each([each.name for each in named], self._key)))

    def _joined(self, kind: str, own: Sequence[Setting], there: There) -> Iterator[Setting]:
        named = {each.name for each in own}
        for each in own:
            fields = there.get(each.name)
            if fields is not None and "?" in fields:
                yield with_found(each, None, unread=str(fields["?"]))
            else:
                yield with_found(each, fields)
        for name, fields in there.items():
            if name not in named and "?" not in fields and fields != UNTOUCHED.get(kind):
                yield Setting(kind=kind, place=self._place, name=name, found=fields)

    def _there(self, kind: str, own: Sequence[Setting], there: dict[str, There], everything: bool) -> There:
        repositories = there.get(kinds.REPOSITORY, {})
        match kind:
            case kinds.REPOSITORY:
                return self._repositories(own, everything)
            case kinds.LIFECYCLE | kinds.POLICY:
                names = repositories if everything else [each.name for each in own if each.name in repositories]
                return self._each(names, self._lifecycle if kind == kinds.LIFECYCLE else self._policy)
            case kinds.ACCOUNT:
                settings = ACCOUNT_SETTINGS if everything else [each.name for each in own]
                return self._each(settings, self._account_setting)
            case kinds.KEY:
                keys = dict.fromkeys([each.name for each in own])
                return self._each(keys, self._key)
            case kinds.BACKFILL:
                return self._backfills()
            case kinds.ENDPOINT:
                return network.endpoints(self._asking, own)
            case kinds.TOPIC:
                return alarms.found_topics(self._asking, own, everything=everything)
            case kinds.ALARM:
                return alarms.found_alarms(self._asking, own)
            case _:
                read: Callable[[], There] = {
                    kinds.PROFILE: self._profiles,
                    kinds.TEMPLATE: self._templates,
                    kinds.REGISTRY_POLICY: self._registry_policy,
                    kinds.SCANNING: self._scanning,
                    kinds.SIGNING: self._signing,
                    kinds.PULL_THROUGH: self._pull_through,
                    kinds.EXCLUSION: self._exclusions,
                    kinds.REPLICATION: self._replication,
                }[kind]
                return read()

    def _each(self, names: Any, ask: Callable[[str], Fields | None]) -> There:
        listed = list(names)
        found: There = {}
        for name, answer in zip(listed, self._asking.each(listed, ask), strict=True):
            if isinstance(answer, RegistryPipelinesError):
                found[name] = {"?": str(answer)}
            elif answer is not None:
                found[name] = dict(answer)
        return found

    def _or_none(self, operation: str, **values: Any) -> Any:
        try:
            return self._asking.ask(operation, **values)
        except RegistryError as error:
            if isinstance(error, NotFound) or error.code in _GONE:
                return None
            raise

    def _repositories(self, own: Sequence[Setting], everything: bool) -> There:
        listed = list(self._asking.pages("describe_repositories", "repositories", maxResults=1000))
        found = {each["repositoryName"]: _repository(each) for each in listed}
        arns = {each["repositoryName"]: each["repositoryArn"] for each in listed}
        labelled = [
            each.name
            for each in own
            if each.name in found and any(name.startswith(forms.LABEL) for name in each.wanted or ())
        ]
        names = list(found) if everything else labelled
        for name, answer in self._each(names, lambda one: self._labels(arns[one])).items():
            found[name] = answer if "?" in answer else {**found[name], **answer}
        return found

    def _labels(self, arn: str) -> Fields:
        return _labels(self._asking.ask("list_tags_for_resource", resourceArn=arn).get("tags", ()))

    def _lifecycle(self, repository: str) -> Fields | None:
        answer = self._or_none("get_lifecycle_policy", repositoryName=repository)
        return {"policy": forms.lifecycle(answer["lifecyclePolicyText"])} if answer else None

    def _policy(self, repository: str) -> Fields | None:
        answer = self._or_none("get_repository_policy", repositoryName=repository)
        return forms.statements(answer["policyText"]) if answer else None

    def _account_setting(self, name: str) -> Fields | None:
        answer = self._or_none("get_account_setting", name=name)
        return {"value": answer["value"]} if answer else None

    def _key(self, name: str) -> Fields | None:
        answer = self._or_none("describe_key", service="kms", KeyId=name)
        if answer is None:
            return None
        about = answer["KeyMetadata"]
        fields = {"enabled": about.get("KeyState") == "Enabled", "spec": about.get("KeySpec", "")}
        fields |= {"usage": about.get("KeyUsage", ""), "arn": about["Arn"], "rotation": False}
        if fields["spec"] == "SYMMETRIC_DEFAULT" and about.get("KeyManager") != "AWS":
            status = self._asking.ask("get_key_rotation_status", service="kms", KeyId=about["KeyId"])
            fields["rotation"] = bool(status.get("KeyRotationEnabled"))
        return fields

    def _templates(self) -> There:
        operation, listed = "describe_repository_creation_templates", "repositoryCreationTemplates"
        return {each["prefix"]: _template(each) for each in self._asking.pages(operation, listed, maxResults=1000)}

    def _registry_policy(self) -> There:
        answer = self._or_none("get_registry_policy")
        return {"": forms.statements(answer["policyText"])} if answer else {}

    def _scanning(self) -> There:
        told = self._asking.ask("get_registry_scanning_configuration").get("scanningConfiguration", {})
        filters = {each["scanFrequency"]: _filters(each) for each in told.get("rules", ())}
        fields = {"type": told.get("scanType", "BASIC"), "on_push": filters.get("SCAN_ON_PUSH", [])}
        fields |= {"continuous": filters.get("CONTINUOUS_SCAN", []), "manual": filters.get("MANUAL", [])}
        return {"": fields}

    def _signing(self) -> There:
        return signing.current(self._asking)

    def _pull_through(self) -> There:
        listed = self._asking.pages("describe_pull_through_cache_rules", "pullThroughCacheRules", maxResults=1000)
        return {each["ecrRepositoryPrefix"]: _pull_through(each) for each in listed}

    def _exclusions(self) -> There:
        listed = self._asking.pages("list_pull_time_update_exclusions", "pullTimeUpdateExclusions", maxResults=1000)
        return {str(principal): {} for principal in listed}

    def _profiles(self) -> There:
        listed = self._asking.pages("list_signing_profiles", "profiles", service="signer", maxResults=25)
        return {each["profileName"]: _profile(each) for each in listed if each.get("status", "Active") == "Active"}

    def _replication(self) -> There:
        return replicating.edges(self._registry)

    def _backfills(self) -> There:
        """The newest backfill of each destination. One that is owed counts for nothing: the rule changed since."""
        found: There = {}
        began: dict[str, Any] = {}
        for each in self._asking.pages("list_replication_backfills", "backfills", maxResults=50):
            name = forms.destination_name(each["destination"])
            if name not in began or each["startedAt"] > began[name]:
                began[name] = each["startedAt"]
                lost = each.get("progress", {}).get("failedReplicationCount", 0)
                found[name] = {"status": each["status"], "id": each["replicationBackfillId"], "failed": lost}
        for name in self._owed() & found.keys():
            if found[name]["status"] not in kinds.UNDER_WAY:
                found[name]["status"] = "OWED"
        return found

    def _resolved(self, settings: Sequence[Setting]) -> Iterator[Setting]:
        """Declared keys as the ARNs that ECR tells. A key that cannot be described is compared as it is written."""
        arns: dict[str, str] = {}
        for each in settings:
            key = (each.wanted or {}).get("kms_key")
            found = (each.found or {}).get("kms_key")
            if not isinstance(key, str) or not found or ":key/" in key:
                yield each
                continue
            if key not in arns:
                try:
                    answer = self._or_none("describe_key", service="kms", KeyId=key)
                    arns[key] = answer["KeyMetadata"]["Arn"] if answer else key
                except RegistryPipelinesError:
                    arns[key] = key
            yield msgspec.structs.replace(each, wanted={**(each.wanted or {}), "kms_key": arns[key]})

    def _readers(self, there: dict[str, There]) -> tuple[dict[str, str], ...]:
        rows = []
        for name, fields in there.get(kinds.POLICY, {}).items():
            rows += [] if "?" in fields else forms.readers_rows(name, fields, "repository policy")  # it was not read
        for fields in there.get(kinds.REGISTRY_POLICY, {}).values():
            rows += forms.readers_rows("*", fields, "registry policy")
        return tuple(rows)


UNTOUCHED: dict[str, Fields] = {kinds.SCANNING: {"type": "BASIC", "on_push": [], "continuous": [], "manual": []}}
"""What a registry has that nobody ever set; it is not named as unmanaged."""

ACCOUNT_SETTINGS = ("BASIC_SCAN_TYPE_VERSION", "BLOB_MOUNTING", "REGISTRY_POLICY_SCOPE")
"""Settings of an account that are known; source: the ECR user guide, "Account settings"."""


def _labels(tags: Sequence[dict[str, str]]) -> dict[str, Plain]:
    return {f"{forms.LABEL}{each['Key']}": each["Value"] for each in tags}


def _filters(rule: dict[str, Any]) -> list[str]:
    return sorted(each["filter"] for each in rule.get("repositoryFilters", ()))


def _common(each: dict[str, Any]) -> dict[str, Plain]:
    exceptions = each.get("imageTagMutabilityExclusionFilters") or ()
    encryption = each.get("encryptionConfiguration", {})
    return {
        "mutability": each.get("imageTagMutability", "MUTABLE"),
        "excluded_tags": sorted(one["filter"] for one in exceptions),
        "encryption": encryption.get("encryptionType", "AES256"),
        "kms_key": encryption.get("kmsKey", ""),
    }


def _repository(each: dict[str, Any]) -> dict[str, Plain]:
    return {**_common(each), "scan_on_push": bool(each.get("imageScanningConfiguration", {}).get("scanOnPush"))}


def _template(each: dict[str, Any]) -> dict[str, Plain]:
    fields = {**_common(each), **_labels(each.get("resourceTags") or ())}
    fields |= {"applied_for": sorted(each.get("appliedFor") or ()), "description": each.get("description", "")}
    fields |= {"role": each.get("customRoleArn", ""), "lifecycle": None}
    if each.get("lifecyclePolicy"):
        fields["lifecycle"] = forms.lifecycle(each["lifecyclePolicy"])
    return {**fields, **(forms.statements(each["repositoryPolicy"]) if each.get("repositoryPolicy") else {})}


def _pull_through(each: dict[str, Any]) -> dict[str, Plain]:
    told = {"secret": each.get("credentialArn", ""), "role": each.get("customRoleArn", "")}
    return {
        "upstream": each["upstreamRegistryUrl"],
        "upstream_prefix": each.get("upstreamRepositoryPrefix", kinds.ROOT),
        **told,
    }


def _profile(each: dict[str, Any]) -> dict[str, Plain]:
    period = each.get("signatureValidityPeriod") or {}
    validity = f"{period['value']} {str(period['type']).lower()}" if period else ""
    return {"platform": each.get("platformId", ""), "validity": validity}


__all__ = ["ACCOUNT_SETTINGS", "Reading"]
