"""How AWS's APIs are asked: with which credentials, in which region, at which address."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from registry_pipelines.errors import ToolMissing
from registry_pipelines.registry.client.connection import USER_AGENT
from registry_pipelines.registry.client.transport import Timeouts

MAX_CONNECTIONS = 128
"""Idle connections kept to an API; as many requests as a window of ``transfer.limits.limits`` lets be under way."""
ROLE_SESSION = "registry-pipelines"
"""Name of the session of an assumed role; AWS's audit log shows it."""


@dataclass(frozen=True)
class AwsAccess:
    """Clients of boto3, all of one session, which finds credentials once. Safe for many threads; no network before the
    first call.

    profile: of AWS's configuration, empty for the default chain. role: assumed with what the chain finds, anew before
    it expires. endpoint: address of every API, where it is not the usual one; empty for AWS's own and for what
    AWS_ENDPOINT_URL and its kin say. fips, dualstack: which of AWS's endpoints.
    """

    region: str
    profile: str = ""
    role: str = ""
    external_id: str = ""
    endpoint: str = ""
    fips: bool = False
    dualstack: bool = False
    _made: dict[tuple[str, str, float], Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False, compare=False)

    def client(self, service: str, *, region: str = "", answer_s: float = 0.0, connect_s: float = 0.0) -> Any:
        """A client of boto3 that tries each request once, so that ours are the only repetitions: two that multiply hide
        throttling from the limits. answer_s: how long an answer may take, a client each; see Timeouts unless told.

        Raises ToolMissing without boto3, and what botocore raises for a profile or a region that is none.
        """
        limits = Timeouts()
        key = (service, region or self.region, answer_s or limits.stall_s)
        with self._lock:
            if key not in self._made:
                self._made[key] = self._make(*key, connect_s or limits.connect_s)
            return self._made[key]

    def _make(self, service: str, region: str, answer_s: float, connect_s: float) -> Any:
        session = self.session  # says what is missing
        from botocore.config import Config

        config = Config(
            connect_timeout=connect_s,
            read_timeout=answer_s,
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=MAX_CONNECTIONS,
            use_fips_endpoint=self.fips or None,
            use_dualstack_endpoint=self.dualstack or None,
            user_agent_extra=USER_AGENT,
            tcp_keepalive=True,
            # botocore puts `data-` before the host for an operation of AWS Signer; an address of our own has no such.
            **({"inject_host_prefix": False} if self.endpoint else {}),
        )
        return session.client(service, region_name=region, config=config, endpoint_url=self.endpoint or None)

    @cached_property
    def session(self) -> Any:
        """The session of boto3, with the role's credentials where one is told. Raises as :meth:`client`."""
        with self._lock:
            try:
                import boto3
            except ImportError as error:
                raise ToolMissing(
                    "boto3 is not installed; AWS's APIs need it", do="Install it: pip install 'registry-pipelines[aws]'"
                ) from error
            own = boto3.Session(profile_name=self.profile or None, region_name=self.region)
            return self._as_role(own) if self.role else own

    def _as_role(self, own: Any) -> Any:
        import boto3
        import botocore.session
        from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
        from botocore.exceptions import NoCredentialsError

        credentials = own.get_credentials()
        if credentials is None:
            raise NoCredentialsError

        def sts(service: str, **options: Any) -> Any:
            return own.client(service, **{**options, "endpoint_url": self.endpoint or None})

        extra = {"RoleSessionName": ROLE_SESSION, **({"ExternalId": self.external_id} if self.external_id else {})}
        fetcher = AssumeRoleCredentialFetcher(sts, credentials, self.role, extra_args=extra)
        session = botocore.session.Session()
        session._credentials = DeferredRefreshableCredentials(  # botocore has no public way to give a session these
            method="assume-role", refresh_using=fetcher.fetch_credentials
        )
        return boto3.Session(botocore_session=session, region_name=self.region)


__all__ = ["AwsAccess", "MAX_CONNECTIONS"]
