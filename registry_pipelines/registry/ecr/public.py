"""Amazon ECR Public with a log-in: the distribution protocol, whose tokens are given for a password of ECR's API."""

from __future__ import annotations

from dataclasses import replace

from registry_pipelines.registry.client.credentials import Credentials
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.ecr.access import AwsAccess
from registry_pipelines.registry.ecr.calls import AwsCalls
from registry_pipelines.registry.ecr.hosts import PUBLIC_HOST, PUBLIC_REGION
from registry_pipelines.registry.ecr.tokens import read_token


class PublicLogin:
    """Finds the log-in (see CredentialFinder): asked for in us-east-1, whatever region the access names."""

    def __init__(self, access: AwsAccess, *, retries: Retries | None = None) -> None:
        self._calls = AwsCalls(replace(access, region=PUBLIC_REGION), retries=retries)

    def account(self, repository: str) -> str:
        """One for all."""
        return ""

    def find(self, account: str = "") -> Credentials:
        """A password for twelve hours. Raises the RegistryError family, ToolMissing."""
        answer = self._calls.call(
            "get_authorization_token", service="ecr-public", where=PUBLIC_HOST, doing="asking for a token"
        )
        return read_token(answer.get("authorizationData") or {}, where=PUBLIC_HOST)


__all__ = ["PublicLogin"]
