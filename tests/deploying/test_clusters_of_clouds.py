"""The ways to clusters of EKS and GKE: their API servers are found, and take the tokens of the clouds' credentials."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from registry_pipelines.chain.deploy_places import open_platform
from registry_pipelines.deploying.eks import eks_access
from registry_pipelines.deploying.model import EksCluster, GkeCluster, KubernetesDeploy
from registry_pipelines.errors import InputError, NotFound
from registry_pipelines.registry.ecr.access import AwsAccess
from registry_pipelines.registry.ecr.calls import AwsCalls
from tests.deploying.parts import APP, OLD
from tests.doubles.aws.eks import Eks
from tests.doubles.aws.front import AwsDouble
from tests.doubles.certificates import Certificates
from tests.doubles.google import GoogleCloud
from tests.doubles.google.accounts import service_account_file
from tests.doubles.google.usage import UsageApis
from tests.doubles.kube_workloads import WorkloadCluster

REGION = "eu-west-1"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsDouble]:
    with AwsDouble() as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        yield double


def authority(certificates: Certificates) -> str:
    return base64.b64encode(certificates.ca.read_bytes()).decode()


def at_eks(name: str = "prod") -> KubernetesDeploy:
    way = EksCluster(cluster=name, region=REGION)
    return KubernetesDeploy(name="web", image="app", kind="kubernetes", namespace="shop", object="web", eks=way)


def test_a_cluster_of_eks_is_found_and_gets_a_presigned_identity(
    aws: AwsDouble, cluster: WorkloadCluster, certificates: Certificates
) -> None:
    clusters = aws.area(Eks).clusters
    data = {"endpoint": cluster.address, "certificateAuthority": {"data": authority(certificates)}, "status": "ACTIVE"}
    clusters["prod"] = data
    access = eks_access(AwsCalls(AwsAccess(REGION)), "prod")
    assert access.server == cluster.address
    start, _, token = access.authorization.partition("k8s-aws-v1.")
    assert start == "Bearer " and "=" not in token
    url = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert (query["Action"], query["X-Amz-Expires"], query["X-Amz-SignedHeaders"]) == (
        "GetCallerIdentity",
        "60",
        "host;x-k8s-aws-id",
    )
    secret = aws.environment["AWS_SECRET_ACCESS_KEY"]
    assert _signed_again(url, "prod", secret) == query["X-Amz-Signature"]
    assert _signed_again(url, "other", secret) != query["X-Amz-Signature"], "it is for this cluster alone"
    cluster.make("deployments", "web", f"{APP}@{OLD}")
    cluster.token = ""
    platform = open_platform(at_eks())
    assert platform.look().digests == [OLD]
    platform.close()
    assert all(each.startswith("Bearer k8s-aws-v1.") for each in cluster.authorizations)
    with pytest.raises(NotFound, match="looking for cluster nope"):
        open_platform(at_eks("nope"))
    clusters["new"] = {"status": "CREATING"}
    with pytest.raises(InputError, match=r"has no API server yet \(CREATING\)"):
        open_platform(at_eks("new"))


def _signed_again(url: str, name: str, secret: str) -> str:
    """The signature of a presigned GET with one more header (AWS, "Authenticating Requests: Query Parameters")."""
    parts = urlsplit(url)
    query = "&".join(sorted(each for each in parts.query.split("&") if not each.startswith("X-Amz-Signature=")))
    told = {key: values[0] for key, values in parse_qs(parts.query).items()}
    empty = hashlib.sha256(b"").hexdigest()
    headers = f"host:{parts.netloc}\nx-k8s-aws-id:{name}\n"
    canonical = "\n".join(["GET", parts.path or "/", query, headers, told["X-Amz-SignedHeaders"], empty])
    _, *scope = told["X-Amz-Credential"].split("/")
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", told["X-Amz-Date"], "/".join(scope), digest])
    key = f"AWS4{secret}".encode()
    for part in scope:
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def test_a_cluster_of_gke_is_found_and_gets_an_access_token(
    cluster: WorkloadCluster, certificates: Certificates, tmp_path: Path
) -> None:
    """The address is a bare one there, and the account's token is what the API server takes."""
    path = "/v1/projects/ml-prod/locations/europe-west1/clusters/prod"
    with GoogleCloud(tmp_path) as google, UsageApis() as apis:
        key = service_account_file(google.world, tmp_path / "key.json", google.endpoint)
        auth = {"clusterCaCertificate": authority(certificates)}
        apis.resources[path] = {"endpoint": cluster.address.removeprefix("https://"), "masterAuth": auth}
        way = GkeCluster(
            project="ml-prod", location="europe-west1", cluster="prod", credentials=key, endpoint=apis.endpoint
        )
        told = {"image": "app", "kind": "kubernetes", "namespace": "shop", "object": "web"}
        settings = KubernetesDeploy(name="web", gke=way, **told)  # type: ignore[arg-type]
        cluster.make("deployments", "web", f"{APP}@{OLD}")
        cluster.token = ""
        platform = open_platform(settings)
        assert platform.look().digests == [OLD]
        platform.close()
        [token] = {each.removeprefix("Bearer ") for each in cluster.authorizations}
        assert google.world.principal(token) == "ci@ml-prod.iam.gserviceaccount.com"
        apis.resources[path] = {"status": "PROVISIONING"}
        with pytest.raises(InputError, match="no API server that answers by address"):
            open_platform(settings)
