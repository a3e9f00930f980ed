"""What an ECR host name says: account, region, and which of AWS's endpoints belong to it."""

from __future__ import annotations

import re

import msgspec

_HOST = re.compile(
    r"(?P<account>\d{12})\.dkr(?P<dual>[.-])ecr(?P<fips>-fips)?\.(?P<region>[a-z0-9][a-z0-9-]{0,40})\."
    r"(amazonaws\.(com(\.cn)?|eu)|on\.(aws|amazonwebservices\.com\.cn))"
)


PUBLIC_HOST = "public.ecr.aws"
"""Amazon ECR Public: one registry for all accounts."""
PUBLIC_REGION = "us-east-1"
"""Where its log-in is asked for, whatever region one works in (ECR Public user guide, "Registry authentication")."""


class EcrHost(msgspec.Struct, frozen=True):
    """A private registry of ECR. account: 12 digits. fips, dualstack: which endpoint of the API goes with it."""

    account: str
    region: str
    fips: bool = False
    dualstack: bool = False

    @property
    def name(self) -> str:
        """The host, by the partition that the region's prefix tells (botocore's ``partitions.json``)."""
        china, europe = self.region.startswith("cn-"), self.region.startswith("eusc-")
        if self.dualstack:
            suffix = "on.amazonwebservices.com.cn" if china else "on.aws"
        else:
            suffix = "amazonaws.com.cn" if china else "amazonaws.eu" if europe else "amazonaws.com"
        service = f"dkr{'-' if self.dualstack else '.'}ecr{'-fips' if self.fips else ''}"
        return f"{self.account}.{service}.{self.region}.{suffix}"


def read_host(host: str) -> EcrHost | None:
    """Read ``<account>.dkr.ecr[-fips].<region>.amazonaws.com`` (``.com.cn``, ``.eu``), or the dual-stack form
    ``<account>.dkr-ecr[-fips].<region>.on.aws``; None for any other host. Source: the ECR user guide, "Registry
    authentication" and "Dual-stack endpoints"."""
    match = _HOST.fullmatch(host)
    if not match:
        return None
    return EcrHost(match["account"], match["region"], fips=bool(match["fips"]), dualstack=match["dual"] == "-")
