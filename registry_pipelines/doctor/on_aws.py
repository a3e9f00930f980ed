"""The answers for ECR: whose role pulls, which action is missing, what private subnets need.

Sources: the ECR user guide ("Private repository policies", "Amazon ECR interface VPC endpoints"), the EKS user guide
("Amazon EKS node IAM role"), the IAM user guide ("Troubleshoot access denied error messages"), autumn 2026.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from registry_pipelines.doctor.hosts import Host, read_image
from registry_pipelines.doctor.model import Cause, Patient
from registry_pipelines.registry.permissions import names, needed


def pull_actions(*, token: bool = True) -> str:
    """The actions that a pull takes, for a sentence. token: with the one that only ``*`` can be its resource."""
    return ", ".join(names(each for each in needed("aws", "pull") if token or each.on != "*"))


NODE_POLICY = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly"
"""Managed policy for nodes (EKS user guide); AmazonEC2ContainerRegistryReadOnly lists repositories, too."""

_ROLE = re.compile(r"arn:(aws[a-z-]*):(?:sts|iam)::(\d{12}):(?:assumed-role|role)/([^/]+)")


def role_name(principal: str) -> str:
    """The role of an assumed role's ARN; empty for none."""
    match = _ROLE.match(principal)
    return match[3] if match else ""


def permission(patient: Patient, host: Host) -> tuple[str, str, str]:
    """A missing action, by the policy that does not allow it."""
    action = patient.action or "ecr:BatchGetImage"
    role = role_name(patient.principal)
    who = f"role {role}" if role else patient.principal or "the node's role"
    resource = patient.resource or "*"
    pods = _not_the_pods(patient)
    if "deny" in patient.missing_by:
        do = f"Find the statement that denies it ({patient.missing_by}) and except this role or repository{pods}"
        return (
            f"{who} is denied {action} on {resource} ({patient.missing_by})",
            do,
            _simulate(patient, action, resource),
        )
    owner = _account_of(resource) or host.account
    mine = _account_of(patient.principal)
    if owner and mine and owner != mine:
        return (
            f"{who} of account {mine} lacks {action} on a repository of account {owner}: both sides must allow it",
            f"In {owner}, let the repository's policy allow {mine} {pull_actions(token=False)}; in {mine}, let the "
            f"role "
            f"have them{pods}",
            f"aws ecr get-repository-policy --registry-id {owner} --repository-name {_repository(patient, resource)} "
            f"--region {host.region or 'REGION'}",
        )
    if role:
        command = f"aws iam attach-role-policy --role-name {role} --policy-arn {NODE_POLICY}"
    else:
        command = _simulate(patient, action, resource)
    why = f": no {patient.missing_by} allows it" if patient.missing_by else ""
    return f"{who} lacks {action} on {resource}{why}", f"Allow it {pull_actions()}{pods}", command


def endpoint_policy(patient: Patient, host: Host) -> tuple[str, str, str]:
    """The policy of a VPC endpoint refuses."""
    region = host.region or "REGION"
    return (
        f"the policy of the VPC endpoint does not allow {patient.action or 'the pull'}: the role may, the way may not",
        f"Allow {pull_actions()} in the policies of ecr.api and ecr.dkr, and s3:GetObject on "
        f"arn:aws:s3:::prod-{region}-starport-layer-bucket/* in the S3 gateway's",
        f"aws ec2 describe-vpc-endpoints --region {region} --filters "
        f"Name=service-name,Values=com.amazonaws.{region}.ecr.dkr,com.amazonaws.{region}.ecr.api,"
        f"com.amazonaws.{region}.s3 "
        "--query 'VpcEndpoints[].[ServiceName,PolicyDocument]'",
    )


def no_credentials(patient: Patient, host: Host) -> tuple[str, str, str]:
    """The kubelet sent nothing: its credential provider did not give any."""
    if host.kind == "ecr-public":
        return ("an old log-in for public.ecr.aws is sent; without any it serves everybody", "Log out there",
                "docker logout public.ecr.aws")  # fmt: skip
    if not patient.kubelet:
        return (
            f"no log-in for {host.name} was sent: tokens of ECR are for one region and last 12 hours",
            "Log in for this very host, region and account, or use amazon-ecr-credential-helper",
            _login(host),
        )
    far = patient.node_region and host.region and patient.node_region != host.region
    return (
        f"the node sent no log-in to {host.name}: its ecr-credential-provider gave none, because the node has no "
        f"instance "
        "role, the role lacks ecr:GetAuthorizationToken, or the provider's matchImages leaves this host out"
        + (
            f" (the node is in {patient.node_region}, the image in {host.region}: that by itself is no reason)"
            if far
            else ""
        ),
        f"Give the node's role {NODE_POLICY}, and look into the kubelet's log for the provider's own words"
        f"{_not_the_pods(patient)}",
        _instance_role(patient, host),
    )


def token_expired(patient: Patient, host: Host) -> tuple[str, str, str]:
    """A stored token."""
    kept = (
        f"the pull secret {', '.join(patient.pull_secrets)}" if patient.pull_secrets else "a pull secret or config.json"
    )
    return (
        f"the token for ECR has run out: they last 12 hours, and somebody stored one as {kept}",
        "Remove it: on EC2 and EKS the kubelet gets its own by the node's role; elsewhere use "
        "amazon-ecr-credential-helper "
        "or renew the secret by a job every 6 hours",
        _login(host) if not patient.pull_secrets else f"kubectl delete secret {' '.join(patient.pull_secrets)}",
    )


def no_identity(patient: Patient, host: Host) -> tuple[str, str, str]:
    """The instance has no role, or its metadata service is out of reach."""
    return (
        "the node found no AWS identity: it has no instance profile, or what asks cannot reach the metadata service "
        "(IMDSv2 "
        "with a hop limit of 1 stops everything that runs in a container network)",
        f"Attach an instance profile; for a helper in a container raise the hop limit to 2{_not_the_pods(patient)}",
        f"aws ec2 describe-instances --instance-ids {patient.instance or 'i-...'} --query "
        "'Reservations[].Instances[].[IamInstanceProfile.Arn,MetadataOptions]'",
    )


def credentials_expired(patient: Patient, host: Host) -> tuple[str, str, str]:
    """Credentials, not the token."""
    return (
        "the AWS credentials that ask for a token have run out (a session of an assumed role, or of SSO)",
        "Renew them; a node must not have copied ones, but an instance role",
        "aws sts get-caller-identity",
    )


def layer_store(patient: Patient, host: Host) -> tuple[str, str, str]:
    """S3 cannot be reached: the third endpoint."""
    region = host.region or "REGION"
    return (
        f"the manifest came from {host.name or 'ECR'}, and the layers do not: they come from S3 "
        f"(prod-{region}-starport-layer-bucket), which a private subnet reaches by a gateway endpoint or NAT alone",
        "Add the S3 gateway endpoint to the subnet's route table, let the security group out to its prefix list on "
        "443, and "
        f"its policy allow s3:GetObject on arn:aws:s3:::prod-{region}-starport-layer-bucket/*; it is free of charge",
        f"aws ec2 create-vpc-endpoint --vpc-id VPC --service-name com.amazonaws.{region}.s3 --route-table-ids RTB "
        f"--region {region}",
    )


def timeout(patient: Patient, host: Host) -> tuple[str, str, str]:
    """The registry's own endpoints."""
    region = host.region or "REGION"
    private = re.match(r"(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.)", patient.lookup)
    if private:
        return (
            f"{host.name} leads to {patient.lookup}, a private address: a VPC endpoint whose security group does not "
            f"let the "
            "node in on 443 (a node group made later has another group), or which lies in no zone of the node",
            "Let the endpoint's security group take 443 from the nodes' subnets",
            f"aws ec2 describe-vpc-endpoints --region {region} --filters Name=service-name,Values="
            f"com.amazonaws.{region}.ecr.dkr,com.amazonaws.{region}.ecr.api --query "
            "'VpcEndpoints[].[ServiceName,Groups,SubnetIds,PrivateDnsEnabled]'",
        )
    return (
        f"no connection to {patient.lookup or host.name} came about: the subnet has no way out",
        f"Give it a NAT gateway, or all of ecr.api, ecr.dkr (interface, private DNS on) and s3 (gateway) in {region}; "
        "endpoints serve their own region only",
        f"aws ec2 describe-vpc-endpoints --region {region} --query "
        f"'VpcEndpoints[].[ServiceName,State,PrivateDnsEnabled]'",
    )


def dns(patient: Patient, host: Host) -> tuple[str, str, str]:
    """Names of ECR."""
    name, region = patient.lookup or host.name, host.region or "REGION"
    return (
        f"the node cannot find the address of {name}: a wrong name (account, region, .com.cn), or a VPC without DNS",
        "Check the name; then enableDnsSupport and enableDnsHostnames of the VPC, and private DNS of the ecr.dkr "
        "endpoint",
        f"aws ec2 describe-vpc-attribute --vpc-id VPC --attribute enableDnsHostnames --region {region}",
    )


def no_repository(patient: Patient, host: Host) -> tuple[str, str, str]:
    """Not in this region, or not in this account."""
    found = read_image(patient.image)
    name = found[1].repository if found else "REPOSITORY"
    return (
        f"account {host.account} has no repository {name} in {host.region}: repositories are per region and account",
        "Look in other regions (`registry-pipelines doctor` asks those of the configuration); a push creates none "
        "unless a "
        "template for CREATE_ON_PUSH matches, a replica arrives only for what was pushed after replication was set",
        f"aws ecr describe-repositories --registry-id {host.account} --repository-names {name} --region {host.region}",
    )


def no_tag(patient: Patient, host: Host) -> tuple[str, str, str]:
    """Collected, archived, or elsewhere."""
    found = read_image(patient.image)
    if not found or host.kind == "ecr-public":
        return "ECR has no such tag or digest", "Check the tag", ""
    _, reference = found
    by = f"imageDigest={reference.digest}" if reference.digest else f"imageTag={reference.tag}"
    return (
        f"ECR in {host.region} has no {reference.selector} in {reference.repository}, or has archived it: an archived "
        f"image is "
        "not found by pulls",
        "Ask for its status, archived ones too; restore takes up to 20 minutes. A lifecycle policy may have let it "
        "go, or a "
        "replica is not there yet",
        f"aws ecr describe-images --registry-id {host.account} --repository-name {reference.repository} --region "
        f"{host.region} "
        f"--filter imageStatus=ANY --image-ids {by}",
    )


def rate(patient: Patient, host: Host) -> tuple[str, str, str]:
    """Throttled."""
    if host.kind == "ecr-public":
        return (
            "public.ecr.aws limits who is not logged in: 1 pull a second and 500 GB a month for one address",
            "Log in with any AWS account (5 TB a month), or pull through a cache",
            "aws ecr-public get-login-password --region us-east-1 | docker login --username AWS --password-stdin "
            "public.ecr.aws",
        )
    return (
        "ECR's rate of requests for this account and region is used up (ThrottlingException)",
        "Start fewer nodes at once, or raise the rate in Service Quotas",
        f"aws service-quotas list-service-quotas --service-code ecr --region {host.region or 'REGION'}",
    )


def _login(host: Host) -> str:
    region = host.region or "REGION"
    login = f"docker login --username AWS --password-stdin {host.name or 'HOST'}"
    return f"aws ecr get-login-password --region {region} | {login}"


def _not_the_pods(patient: Patient) -> str:
    if not (patient.kubelet or patient.pod_role):
        return ""
    role = f" ({patient.pod_role})" if patient.pod_role else " (IRSA, Pod Identity)"
    return f". The kubelet pulls with the node's role, not with the pod's{role}"


def _instance_role(patient: Patient, host: Host) -> str:
    region = patient.node_region or host.region or "REGION"
    return (
        f"aws ec2 describe-instances --instance-ids {patient.instance or 'i-...'} --region {region} --query "
        "'Reservations[].Instances[].IamInstanceProfile.Arn'"
    )


def _simulate(patient: Patient, action: str, resource: str) -> str:
    role = _ROLE.match(patient.principal)
    source = f"arn:{role[1]}:iam::{role[2]}:role/{role[3]}" if role else "ROLE_ARN"
    asked = f"--action-names {action} --resource-arns '{resource}'"
    return f"aws iam simulate-principal-policy --policy-source-arn {source} {asked}"


def _account_of(arn: str) -> str:
    match = re.match(r"arn:aws[a-z-]*:[a-z-]+:[a-z0-9-]*:(\d{12}):", arn)
    return match[1] if match else ""


def _repository(patient: Patient, resource: str) -> str:
    if ":repository/" in resource:
        return resource.partition(":repository/")[2]
    found = read_image(patient.image)
    return found[1].repository if found else "REPOSITORY"


TOLD: dict[Cause, Callable[[Patient, Host], tuple[str, str, str]]] = {
    "permission": permission,
    "endpoint-policy": endpoint_policy,
    "no-credentials": no_credentials,
    "token-expired": token_expired,
    "credentials-expired": credentials_expired,
    "no-identity": no_identity,
    "layer-store-denied": layer_store,
    "layer-store-timeout": layer_store,
    "timeout": timeout,
    "dns": dns,
    "no-repository": no_repository,
    "no-tag": no_tag,
    "registry-rate": rate,
}
