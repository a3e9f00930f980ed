"""The API server of a cluster of Amazon EKS, and the token that AWS's credentials give for it.

Sources: EKS API Reference (DescribeCluster); aws-iam-authenticator, "API Authorization from Outside a Cluster": the
token is a presigned GetCallerIdentity of STS with the header ``x-k8s-aws-id``, which the cluster's webhook asks STS by.
"""

from __future__ import annotations

import base64
import binascii
import ssl
from typing import Any

from registry_pipelines.errors import InputError, Unauthorized
from registry_pipelines.inventory.usage.kube_access import KubeAccess
from registry_pipelines.registry.ecr.calls import AwsCalls

TOKEN_START = "k8s-aws-v1."  # noqa: S105 - how every token of EKS begins
CLUSTER_HEADER = "x-k8s-aws-id"
PRESIGNED_S = 60
"""Seconds for which the signature says that it holds; the cluster takes the token for 14 minutes all the same."""


def eks_access(calls: AwsCalls, cluster: str) -> KubeAccess:
    """How to reach a cluster now; asked again for a new token. Raises NotFound, Forbidden (names the action of IAM),
    Unauthorized, RegistryError."""
    where = f"EKS in {calls.access.region}"
    found = calls.call(
        "describe_cluster", service="eks", where=where, doing=f"looking for cluster {cluster}", name=cluster
    )
    described = found.get("cluster") or {}
    server, authority = described.get("endpoint"), (described.get("certificateAuthority") or {}).get("data")
    if not server or not authority:
        status = described.get("status")
        raise InputError(
            f"cluster {cluster} has no API server yet ({status})", where=where, do="Wait until it is ACTIVE"
        )
    return KubeAccess(
        str(server), trusting(str(authority), where), authorization=f"Bearer {_token(calls, cluster, where)}"
    )


def trusting(authority: str, where: str) -> ssl.SSLContext:
    """TLS that trusts a cluster's own authority alone. authority: base64 of PEM. Raises InputError."""
    try:
        return ssl.create_default_context(cadata=base64.b64decode(authority, validate=True).decode())
    except (binascii.Error, UnicodeDecodeError, ssl.SSLError) as error:
        raise InputError("the certificate of the cluster's authority cannot be read", where=where) from error


def _token(calls: AwsCalls, cluster: str, where: str) -> str:
    client: Any = calls.client("sts", where=where)
    if client._request_signer._credentials is None:
        raise Unauthorized("there are no AWS credentials", where=where, do="Log in, or name a `profile`")
    # The header is no parameter of the operation: it is added while botocore makes the request, before it signs it.
    event = "before-sign.sts.GetCallerIdentity"

    def add(request: Any, **_: Any) -> None:
        request.headers[CLUSTER_HEADER] = cluster

    client.meta.events.register(event, add, unique_id=f"registry-pipelines-{cluster}")
    try:
        url = client.generate_presigned_url("get_caller_identity", ExpiresIn=PRESIGNED_S, HttpMethod="GET")
    finally:
        client.meta.events.unregister(event, add, unique_id=f"registry-pipelines-{cluster}")
    return TOKEN_START + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


__all__ = ["eks_access", "trusting"]
