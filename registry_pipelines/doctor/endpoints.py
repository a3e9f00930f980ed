"""Which of the three ways that a private subnet needs for ECR a region's networks have, by EC2's own list.

Source: ECR user guide, "Amazon ECR interface VPC endpoints": ecr.api and ecr.dkr as interfaces with private DNS, and
the gateway of S3, which layers come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry_pipelines.doctor.hosts import Host
from registry_pipelines.doctor.model import Answer
from registry_pipelines.registry.ecr.calls import AwsCalls

WANTED = ("ecr.api", "ecr.dkr", "s3")


def explain_endpoints(calls: AwsCalls, host: Host) -> list[Answer]:
    """An answer for each network of the region that has some of the endpoints and not all, or one that is not usable.
    A network without any goes by NAT, which is no fault. Raises as ``AwsCalls.call``."""
    services = {f"com.amazonaws.{host.region}.{each}": each for each in WANTED}
    found = calls.pages(
        "describe_vpc_endpoints",
        "VpcEndpoints",
        where=f"EC2 in {host.region}",
        service="ec2",
        region=host.region,
        Filters=[{"Name": "service-name", "Values": list(services)}],
    )
    networks: dict[str, dict[str, Mapping[str, Any]]] = {}
    for each in found:
        networks.setdefault(str(each.get("VpcId")), {})[services[each["ServiceName"]]] = each
    return [answer for network, has in networks.items() for answer in _of_network(host, network, has)]


def _of_network(host: Host, network: str, has: Mapping[str, Mapping[str, Any]]) -> list[Answer]:
    seen = f"DescribeVpcEndpoints: {network} has {', '.join(sorted(has))}"
    missing = [each for each in WANTED if each not in has]
    if missing and set(has) != {"s3"}:  # the gateway alone spares NAT its bytes, and is no private way
        what = f"network {network} has a private way to ECR that is not whole: it lacks {' and '.join(missing)}"
        if missing == ["s3"]:
            what += ", so manifests come and layers do not"
        kind = "Gateway --route-table-ids RTB" if missing[0] == "s3" else "Interface --subnet-ids SUBNETS"
        return [
            Answer(
                cause="layer-store-timeout" if missing == ["s3"] else "timeout",
                what=what,
                evidence=(seen,),
                do="Make it whole, or give the subnet NAT",
                command=f"aws ec2 create-vpc-endpoint --vpc-id {network} --service-name com.amazonaws.{host.region}."
                f"{missing[0]} --vpc-endpoint-type {kind} --region {host.region}",
            )
        ]
    odd = [
        name
        for name, each in has.items()
        if str(each.get("State", "")).lower() != "available" or (name != "s3" and not each.get("PrivateDnsEnabled"))
    ]
    return [
        Answer(
            cause="dns",
            what=f"endpoint {name} of network {network} is not in use: its state is {has[name].get('State')}, private "
            f"DNS "
            f"is {'on' if has[name].get('PrivateDnsEnabled') else 'off'}",
            evidence=(seen,),
            do="Let it be accepted and switch private DNS on: names of ECR must lead to it",
            command=f"aws ec2 modify-vpc-endpoint --vpc-endpoint-id {has[name].get('VpcEndpointId')} "
            f"--private-dns-enabled "
            f"--region {host.region}",
        )
        for name in odd
    ]
