"""Pull-through caches and the templates of repositories that ECR makes by itself. What a cache pulls is not here."""

from __future__ import annotations

from tests.doubles.aws import ecr_lifecycle
from tests.doubles.aws.ecr_places import Repository
from tests.doubles.aws.ecr_policies import normalized
from tests.doubles.aws.ecr_registry import moment
from tests.doubles.aws.front import Area, AwsDouble, Call, pages
from tests.doubles.aws.model import ApiError, Values

OPEN = ("public.ecr.aws", "registry.k8s.io", "quay.io")
"""Registries that need no log-in; the others need a secret (ECR user guide, "Pull through cache")."""
HOSTS = {
    "ecr-public": "public.ecr.aws",
    "k8s": "registry.k8s.io",
    "quay": "quay.io",
    "docker-hub": "registry-1.docker.io",
    "github-container-registry": "ghcr.io",
    "gitlab-container-registry": "registry.gitlab.com",
    "chainguard": "cgr.dev",
}
MAX_RULES = 50


class EcrCaches(Area):
    """rules, templates: by account, region and prefix. secrets: ARNs that can be read; all when there are none."""

    service = "ecr"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.rules: dict[tuple[str, str, str], Values] = {}
        self.templates: dict[tuple[str, str, str], Values] = {}
        self.secrets: set[str] = set()
        self._pages: dict[str, tuple[str, list[Values]]] = {}

    def _rule(self, call: Call) -> Values:
        key = (call.account, call.region, call.values["ecrRepositoryPrefix"])
        if key not in self.rules:
            raise ApiError("PullThroughCacheRuleNotFoundException", f"there is no rule for {key[2]}")
        return self.rules[key]

    def _check_secret(self, arn: str | None, call: Call) -> None:
        if arn is None:
            return
        if arn.split(":")[3:5] != [call.region, call.account]:
            raise ApiError("UnableToAccessSecretException", "the secret is of another account or region")
        if self.secrets and arn not in self.secrets:
            raise ApiError("SecretNotFoundException", "there is no such secret")

    def do_CreatePullThroughCacheRule(self, call: Call) -> Values:
        values, place = dict(call.values), (call.account, call.region)
        prefix = values["ecrRepositoryPrefix"]
        if (*place, prefix) in self.rules:
            raise ApiError("PullThroughCacheRuleAlreadyExistsException", f"there is a rule for {prefix}")
        if sum(key[:2] == place for key in self.rules) >= MAX_RULES:
            raise ApiError("LimitExceededException", f"{MAX_RULES} rules at most")
        host, named = values["upstreamRegistryUrl"], values.get("upstreamRegistry")
        known = host in HOSTS.values() or host.endswith(".azurecr.io") or ".dkr.ecr" in host
        if not known or (named in HOSTS and HOSTS[named] != host):
            raise ApiError("UnsupportedUpstreamRegistryException", f"{host} is no {named or 'registry that is known'}")
        if host not in OPEN and ".dkr.ecr" not in host and "credentialArn" not in values:
            raise ApiError("ValidationException", f"{host} needs a credentialArn")
        self._check_secret(values.get("credentialArn"), call)
        values.setdefault("upstreamRepositoryPrefix", "ROOT")
        values |= {"createdAt": moment(self.world.clock()), "registryId": call.account}
        self.rules[*place, prefix] = values
        return values

    def do_UpdatePullThroughCacheRule(self, call: Call) -> Values:
        rule = self._rule(call)
        self._check_secret(call.values.get("credentialArn"), call)
        rule |= {name: call.values[name] for name in ("credentialArn", "customRoleArn") if name in call.values}
        rule["updatedAt"] = moment(self.world.clock())
        said = ("ecrRepositoryPrefix", "registryId", "updatedAt", "credentialArn", "customRoleArn")
        return {name: rule[name] for name in said if name in rule}

    def do_DeletePullThroughCacheRule(self, call: Call) -> Values:
        rule = self._rule(call)
        del self.rules[call.account, call.region, call.values["ecrRepositoryPrefix"]]
        return {name: value for name, value in rule.items() if name not in ("updatedAt", "upstreamRegistry")}

    def do_DescribePullThroughCacheRules(self, call: Call) -> Values:
        asked = call.values.get("ecrRepositoryPrefixes")
        found = [
            rule
            for (account, region, prefix), rule in sorted(self.rules.items())
            if (account, region) == (call.account, call.region) and prefix in (asked or [prefix])
        ]
        if asked and len(found) < len(asked):
            raise ApiError("PullThroughCacheRuleNotFoundException", f"of {asked} there are {len(found)}")
        return pages(self._pages, "DescribePullThroughCacheRules", "pullThroughCacheRules", found, call.values)

    # Templates

    def do_CreateRepositoryCreationTemplate(self, call: Call) -> Values:
        key = (call.account, call.region, call.values["prefix"])
        if key in self.templates:
            raise ApiError("TemplateAlreadyExistsException", f"there is a template for {key[2]}")
        self.templates[key] = {**_template(call), "createdAt": moment(self.world.clock())}
        return {"registryId": call.account, "repositoryCreationTemplate": self.templates[key]}

    def do_UpdateRepositoryCreationTemplate(self, call: Call) -> Values:
        known = self._template(call)
        known |= {**_template(call), "updatedAt": moment(self.world.clock())}
        return {"registryId": call.account, "repositoryCreationTemplate": known}

    def do_DeleteRepositoryCreationTemplate(self, call: Call) -> Values:
        known = self._template(call)
        del self.templates[call.account, call.region, call.values["prefix"]]
        return {"registryId": call.account, "repositoryCreationTemplate": known}

    def do_DescribeRepositoryCreationTemplates(self, call: Call) -> Values:
        asked = call.values.get("prefixes")
        found = [
            each
            for (account, region, prefix), each in sorted(self.templates.items())
            if (account, region) == (call.account, call.region) and prefix in (asked or [prefix])
        ]
        name = "repositoryCreationTemplates"
        page = pages(self._pages, "DescribeRepositoryCreationTemplates", name, found, call.values)
        return {"registryId": call.account, **page}

    def _template(self, call: Call) -> Values:
        key = (call.account, call.region, call.values["prefix"])
        if key not in self.templates:
            raise ApiError("TemplateNotFoundException", f"there is no template for {key[2]}")
        return self.templates[key]

    def made(self, account: str, region: str, name: str, maker: str) -> Repository | None:
        """A repository as the template with the longest fitting prefix makes it; None where none fits."""
        fitting = [
            (prefix, each)
            for (own, place, prefix), each in self.templates.items()
            if (own, place) == (account, region)
            and maker in each["appliedFor"]
            and (prefix == "ROOT" or name.startswith(prefix.rstrip("/") + "/"))
        ]
        if not fitting:
            return None
        _, each = max(fitting, key=lambda pair: -1 if pair[0] == "ROOT" else len(pair[0]))
        made = Repository(name, self.world.clock(), each.get("imageTagMutability", "MUTABLE"))
        made.filters = tuple(one["filter"] for one in each.get("imageTagMutabilityExclusionFilters", ()))
        made.encryption = each.get("encryptionConfiguration", made.encryption)
        made.labels = {one["Key"]: one["Value"] for one in each.get("resourceTags", ())}
        return made


def _template(call: Call) -> Values:
    values = dict(call.values)
    if values.get("lifecyclePolicy"):
        ecr_lifecycle.check(values["lifecyclePolicy"])
    if values.get("repositoryPolicy"):
        values["repositoryPolicy"] = normalized(values["repositoryPolicy"])
    if (values.get("resourceTags") or values.get("encryptionConfiguration", {}).get("kmsKey")) and not values.get(
        "customRoleArn"
    ):
        raise ApiError("ValidationException", "tags and keys need a customRoleArn")
    return values


__all__ = ["EcrCaches"]
