"""Managed signing: which profiles ECR signs with. All of a registry's rules are set in one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from registry_pipelines.errors import RegistryError, RegistryPipelinesError
from registry_pipelines.infra.ecr.asking import Asking
from registry_pipelines.infra.plan import Change, Outcome, done, failed
from registry_pipelines.infra.settings import Plain

NONE = "SigningConfigurationNotFoundException"


def current(asking: Asking) -> dict[str, dict[str, Plain]]:
    """The repositories of each profile; none is all of them. Raises the RegistryError family."""
    try:
        told = asking.ask("get_signing_configuration")["signingConfiguration"]
    except RegistryError as error:
        if error.code != NONE:
            raise
        return {}
    return {
        each["signingProfileArn"]: {"repositories": sorted(one["filter"] for one in each.get("repositoryFilters", ()))}
        for each in told.get("rules", ())
    }


def set_rules(asking: Asking, changes: Sequence[Change]) -> Iterator[Outcome]:
    """All changed profiles in one call, beside those that nobody declared, as they are in this moment."""
    try:
        there = current(asking)
        for each in changes:
            there.pop(each.name, None)
            if each.action != "delete":
                there[each.name] = dict(each.wanted or {})
        if there:
            rules = [_rule(arn, fields) for arn, fields in sorted(there.items())]
            asking.ask("put_signing_configuration", signingConfiguration={"rules": rules})
        else:
            asking.ask("delete_signing_configuration")
    except RegistryPipelinesError as error:
        yield from (failed(each, error) for each in changes)
        return
    yield from (done(each) for each in changes)


def _rule(arn: str, fields: dict[str, Plain]) -> dict[str, Any]:
    filters = [{"filter": each, "filterType": "WILDCARD_MATCH"} for each in fields["repositories"]]
    return {"signingProfileArn": arn, **({"repositoryFilters": filters} if filters else {})}
