"""Changes of a registry's settings, one call for one thing; what a call sets as a whole keeps what nobody declared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.infra.ecr import alarms, forms, kinds, network
from registry_pipelines.infra.ecr.asking import Asking
from registry_pipelines.infra.ecr.wanted import lifecycle_text
from registry_pipelines.infra.plan import Change, Outcome, done, failed
from registry_pipelines.infra.settings import Fields

UPSTREAMS = {
    "public.ecr.aws": "ecr-public",
    "quay.io": "quay",
    "registry.k8s.io": "k8s",
    "registry-1.docker.io": "docker-hub",
    "ghcr.io": "github-container-registry",
    "registry.gitlab.com": "gitlab-container-registry",
    "cgr.dev": "chainguard",
}
"""AWS's names of registries by host; those of Azure and ECR have hosts of their own. Source: botocore's model of ECR
(UpstreamRegistry) and the ECR user guide, "Pull through cache"."""


class Changing:
    """Changes one registry. arn: of a repository by name."""

    def __init__(self, asking: Asking, *, arn: Callable[[str], str]) -> None:
        self._asking, self._arn = asking, arn
        self._acts: dict[str, Callable[[Change], object]] = {
            kinds.KEY: self._key,
            kinds.PROFILE: self._profile,
            kinds.ACCOUNT: self._account,
            kinds.TEMPLATE: self._template,
            kinds.REPOSITORY: self._repository,
            kinds.LIFECYCLE: self._lifecycle,
            kinds.POLICY: self._policy,
            kinds.REGISTRY_POLICY: self._registry_policy,
            kinds.SCANNING: self._scanning,
            kinds.PULL_THROUGH: self._pull_through,
            kinds.EXCLUSION: self._exclusion,
            kinds.ENDPOINT: lambda change: network.change(asking, change),
            kinds.TOPIC: lambda change: alarms.change_topic(asking, change),
            kinds.ALARM: lambda change: alarms.change_alarm(asking, change),
        }

    def apply(self, changes: Sequence[Change]) -> Iterator[Outcome]:
        """Each change by itself, several at once; an error of one stops no other."""
        act = self._acts[changes[0].kind]
        for change, answer in zip(changes, self._asking.each(changes, act), strict=True):
            if isinstance(answer, RegistryPipelinesError):
                yield failed(change, f"{answer}{_again(change, answer)}")
            else:
                yield done(change)

    def _key(self, change: Change) -> None:
        turn = "enable_key_rotation" if (change.wanted or {}).get("rotation") else "disable_key_rotation"
        about = self._asking.ask("describe_key", service="kms", KeyId=change.name)["KeyMetadata"]
        self._asking.ask(turn, service="kms", KeyId=about["KeyId"])

    def _profile(self, change: Change) -> None:
        wanted = change.wanted or {}
        number, _, unit = str(wanted["validity"]).partition(" ")
        period = {"value": int(number), "type": unit.upper()}
        values = {"platformId": wanted["platform"], "signatureValidityPeriod": period}
        self._asking.ask("put_signing_profile", service="signer", profileName=change.name, **values)

    def _account(self, change: Change) -> None:
        self._asking.ask("put_account_setting", name=change.name, value=(change.wanted or {})["value"])

    def _template(self, change: Change) -> None:
        if change.action == "delete":
            self._asking.ask("delete_repository_creation_template", prefix=change.name)
            return
        fields = {**(change.found or {}), **(change.wanted or {})}
        values: dict[str, Any] = {"appliedFor": fields["applied_for"], **_made(fields, labels="resourceTags")}
        values |= {"description": fields["description"]} if fields.get("description") else {}
        values |= {"customRoleArn": fields["role"]} if fields.get("role") else {}
        values |= {"lifecyclePolicy": lifecycle_text(fields["lifecycle"])} if fields.get("lifecycle") else {}
        if policy := _statements(fields):
            values["repositoryPolicy"] = forms.policy_text(policy)
        operation = "create" if change.action == "create" else "update"
        self._asking.ask(f"{operation}_repository_creation_template", prefix=change.name, **values)

    def _repository(self, change: Change) -> None:
        name, wanted = {"repositoryName": change.name}, change.wanted or {}
        if change.action == "delete":
            self._asking.ask("delete_repository", **name, force=bool(wanted.get("force")))
            return
        if change.action == "create":
            values = _made(wanted, labels="tags")
            if "scan_on_push" in wanted:
                values["imageScanningConfiguration"] = {"scanOnPush": wanted["scan_on_push"]}
            self._asking.ask("create_repository", **name, **values)
            return
        if change.changed("mutability") or change.changed("excluded_tags"):
            self._asking.ask("put_image_tag_mutability", **name, **_mutability(wanted))
        if change.changed("scan_on_push"):
            scanning = {"scanOnPush": wanted["scan_on_push"]}
            self._asking.ask("put_image_scanning_configuration", **name, imageScanningConfiguration=scanning)
        changed = {each.field: each.wanted for each in change.differences if each.field.startswith(forms.LABEL)}
        if changed:
            self._asking.ask("tag_resource", resourceArn=self._arn(change.name), tags=_labels(changed))

    def _lifecycle(self, change: Change) -> None:
        text = lifecycle_text((change.wanted or {})["policy"])
        self._asking.ask("put_lifecycle_policy", repositoryName=change.name, lifecyclePolicyText=text)

    def _policy(self, change: Change) -> None:
        text = forms.policy_text({**(change.found or {}), **(change.wanted or {})})
        self._asking.ask("set_repository_policy", repositoryName=change.name, policyText=text)

    def _registry_policy(self, change: Change) -> None:
        text = forms.policy_text({**(change.found or {}), **(change.wanted or {})})
        self._asking.ask("put_registry_policy", policyText=text)

    def _scanning(self, change: Change) -> None:
        fields = {**(change.found or {}), **(change.wanted or {})}
        named = {"SCAN_ON_PUSH": "on_push", "CONTINUOUS_SCAN": "continuous", "MANUAL": "manual"}
        rules = [
            {
                "scanFrequency": frequency,
                "repositoryFilters": [{"filter": each, "filterType": "WILDCARD"} for each in fields[field]],
            }
            for frequency, field in named.items()
            if fields.get(field)
        ]
        self._asking.ask("put_registry_scanning_configuration", scanType=fields.get("type", "BASIC"), rules=rules)

    def _pull_through(self, change: Change) -> None:
        if change.action == "delete":
            self._asking.ask("delete_pull_through_cache_rule", ecrRepositoryPrefix=change.name)
            return
        fields = {**(change.found or {}), **(change.wanted or {})}
        values = {"credentialArn": fields.get("secret"), "customRoleArn": fields.get("role")}
        if change.action == "create":
            values |= {"upstreamRegistryUrl": fields["upstream"], "upstreamRegistry": upstream_name(fields["upstream"])}
            values |= {"upstreamRepositoryPrefix": fields.get("upstream_prefix")}
        given = {name: value for name, value in values.items() if value}
        operation = "create" if change.action == "create" else "update"
        self._asking.ask(f"{operation}_pull_through_cache_rule", ecrRepositoryPrefix=change.name, **given)

    def _exclusion(self, change: Change) -> None:
        self._asking.ask("register_pull_time_update_exclusion", principalArn=change.name)


def _again(change: Change, error: RegistryPipelinesError) -> str:
    """Whether a thing that was to be made is there already: by somebody since the plan, or by our own call whose answer
    was lost. It is compared before anything of it is changed."""
    there = change.action == "create" and "AlreadyExists" in getattr(error, "code", "")
    return ". It is there by now; the same command compares it" if there else ""


def upstream_name(host: str) -> str | None:
    """AWS's name of a registry; None where it knows the host by itself."""
    if host.endswith(".azurecr.io"):
        return "azure-container-registry"
    if ".dkr.ecr" in host:
        return "ecr"
    return UPSTREAMS.get(host)


def _mutability(fields: Fields) -> dict[str, Any]:
    values: dict[str, Any] = {"imageTagMutability": fields["mutability"]}
    if fields.get("excluded_tags"):
        exceptions = [{"filterType": "WILDCARD", "filter": each} for each in fields["excluded_tags"]]
        values["imageTagMutabilityExclusionFilters"] = exceptions
    return values


def _made(fields: Fields, *, labels: str) -> dict[str, Any]:
    """What a repository or a template is made with."""
    values = _mutability(fields) if "mutability" in fields else {}
    if "encryption" in fields:
        key = {"kmsKey": fields["kms_key"]} if fields.get("kms_key") else {}
        values["encryptionConfiguration"] = {"encryptionType": fields["encryption"], **key}
    if named := {name: value for name, value in fields.items() if name.startswith(forms.LABEL)}:
        values[labels] = _labels(named)
    return values


def _labels(named: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"Key": name.removeprefix(forms.LABEL), "Value": value} for name, value in sorted(named.items())]


def _statements(fields: Fields) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name.startswith(forms.STATEMENT)}


__all__ = ["Changing", "upstream_name"]
