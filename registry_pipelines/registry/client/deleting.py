"""Deleting by the distribution protocol: a manifest, a tag or a blob."""

from __future__ import annotations

from registry_pipelines.errors import Unsupported
from registry_pipelines.oci.references import check_repository
from registry_pipelines.registry.client import tokens
from registry_pipelines.registry.client.exchange import Call, Exchange
from registry_pipelines.registry.client.facts import Facts


def delete_at(exchange: Exchange, facts: Facts, repository: str, path: str, *, where: str, doing: str) -> None:
    """Delete what has a path below the repository (``manifests/v1``), and learn whether the registry deletes. where,
    doing: of errors. Raises Unsupported and the RegistryError family."""
    url = f"/v2/{check_repository(repository)}/{path}"
    try:
        exchange.run(Call("DELETE", url, tokens.delete(repository), where, doing, (202, 200, 204)))
    except Unsupported:
        facts.learn(repository, delete=False)
        raise
    facts.learn(repository, delete=True)
