"""The answers: what is wrong in this case, what to do, and the command. One function for each family of causes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import msgspec

from registry_pipelines.doctor import on_aws, on_google
from registry_pipelines.doctor.hosts import Host, read_image, read_place
from registry_pipelines.doctor.model import Answer, Cause, Patient
from registry_pipelines.oci.decoding import ready

_DATA = Path(__file__).parents[1] / "data" / "pull_causes.json"

Told = tuple[str, str, str]
"""What is wrong, what to do, the command."""


def explain(cause: Cause, patient: Patient, *, evidence: tuple[str, ...] = (), sure: bool = True) -> Answer:
    """The answer for a cause, in the case of this patient."""
    found = read_image(patient.image)
    host = (
        found[0]
        if found
        else read_place(patient.lookup.partition(":")[0])
        if patient.lookup
        else Host(name="", kind="")
    )
    what, do, command = _teller(cause, patient, host)(patient, host)
    return Answer(cause=cause, what=what, evidence=evidence, do=do, command=command, sure=sure)


_OF_AWS: frozenset[Cause] = frozenset({"permission", "endpoint-policy", "credentials-expired", "no-identity"})
"""Words of AWS, whatever the image is called."""
_OF_GOOGLE: frozenset[Cause] = frozenset({"vpc-service-controls"})


def _teller(cause: Cause, patient: Patient, host: Host) -> Callable[[Patient, Host], Told]:
    google = host.kind in ("gar", "gcr") or cause in _OF_GOOGLE or "artifactregistry" in patient.action
    aws = host.kind in ("ecr", "ecr-public") or cause in _OF_AWS or "starport-layer-bucket" in patient.message
    told = on_google.TOLD.get(cause) if google else on_aws.TOLD.get(cause) if aws else None
    return told or _ANYWHERE.get(cause) or partial(_tell_plain, _plain()[cause])


def image_of(patient: Patient) -> str:
    """The image as it is named in commands."""
    return shlex.quote(patient.image or "IMAGE")


def _host(patient: Patient, host: Host) -> str:
    return patient.lookup or host.name or "the registry"


def _secret(patient: Patient) -> str:
    return f"the pull secret {', '.join(patient.pull_secrets)}" if patient.pull_secrets else "no pull secret"


def _no_credentials(patient: Patient, host: Host) -> Told:
    return (
        f"{host.name or 'the registry'} wants a log-in, and none that it knows was sent ({_secret(patient)} on the "
        f"pod)",
        "Name a secret of type kubernetes.io/dockerconfigjson for exactly this host in imagePullSecrets of the pod or "
        "its "
        "service account; it must be in the pod's namespace",
        f"kubectl create secret docker-registry pull --docker-server={host.name or 'HOST'} --docker-username=USER "
        "--docker-password=TOKEN",
    )


def _denied(patient: Patient, host: Host) -> Told:
    hub = host.kind == "docker-hub"
    return (
        f"{host.name or 'the registry'} says the same of a repository that is not there and of one that the account "
        f"may "
        f"not read; {_secret(patient)} on the pod",
        "Check the name letter by letter"
        + (", with its organisation: official images are below library/" if hub else "")
        + "; if it is right, log in with an account that may read it, and look for an old log-in that is sent in place "
        "of none",
        f"registry-pipelines doctor {image_of(patient)}",
    )


def _platform(patient: Patient, host: Host) -> Told:
    platform = patient.platform or "the node's platform"
    return (
        f"the image has no entry for {platform}",
        "Build and push it for this platform, too (`build.platforms`), or let the pod run elsewhere: "
        "nodeSelector kubernetes.io/arch",
        f"registry-pipelines inspect {image_of(patient)}",
    )


def _wrong_platform(patient: Patient, host: Host) -> Told:
    return (
        "the image was pulled, and its programs are for another processor than the node's: its index or config names "
        "the "
        "wrong platform, or it has no index and was built on another machine",
        "Build it for the node's platform; for a single image without index no runtime looks at the platform",
        f"registry-pipelines inspect {image_of(patient)}",
    )


def _dns(patient: Patient, host: Host) -> Told:
    name = patient.lookup or host.name or "HOST"
    return (
        f"the node cannot find the address of {name}",
        "Check the name first; then the node's own resolver (not the cluster's DNS: the kubelet does not use it), its "
        "DHCP options and firewall",
        f"kubectl debug node/{patient.node or 'NODE'} -it --image=busybox -- nslookup {name}",
    )


def _timeout(patient: Patient, host: Host) -> Told:
    return (
        f"no connection to {_host(patient, host)} came about from the node",
        "Look for the way out of its subnet: a route to NAT or to the registry, the security group or firewall, and "
        "the proxy that the runtime (not the pod) is started with",
        f"kubectl debug node/{patient.node or 'NODE'} -it --image=curlimages/curl -- curl -v -m 10 "
        f"https://{host.name or 'HOST'}/v2/",
    )


def _tls(patient: Patient, host: Host) -> Told:
    words = patient.message
    if "expired" in words or "not yet valid" in words:
        why, do = "its certificate has run out, or a clock is wrong", "Renew it, or set the node's clock"
    elif "is valid for" in words or "doesn't contain any IP SANs" in words or "legacy Common Name" in words:
        why, do = "its certificate names another host", "Use a name that the certificate has, or have it issued anew"
    else:
        why = "the node does not trust who issued its certificate (an own authority, or a proxy that opens TLS)"
        do = (
            "Put the authority's certificate on every node, for the runtime: /etc/containerd/certs.d/HOST/hosts.toml "
            "(ca = ...), /etc/docker/certs.d/HOST/ca.crt for Docker and CRI-O; then restart the runtime"
        )
    name = host.name or "HOST"
    return (
        f"TLS with {name} fails: {why}",
        do.replace("HOST", name),
        f"openssl s_client -connect {name}{'' if ':' in name else ':443'} -servername {name.partition(':')[0]} "
        f"</dev/null",
    )


def _pull_limit(patient: Patient, host: Host) -> Told:
    return (
        "Docker Hub's limit of pulls is used up for this address (without a log-in: shared by all nodes behind one "
        "NAT) "
        "or account",
        "Let nodes pull through a cache (`caches` in the configuration, docs/clouds.md) or from a mirror; a log-in on "
        "the "
        "node raises the limit. A pull of an index counts once for each architecture, HEAD does not count",
        "curl -sI -H \"Authorization: Bearer $(curl -s 'https://auth.docker.io/token?service=registry.docker.io&scope="
        "repository:ratelimitpreview/test:pull' | jq -r .token)\" "
        "https://registry-1.docker.io/v2/ratelimitpreview/test/manifests/latest | grep -i ratelimit",
    )


def _abuse_limit(patient: Patient, host: Host) -> Told:
    return (
        "Docker Hub's other limit, against abuse, was reached: thousands of requests a minute from one address (a "
        "plain "
        "429, or one that names requests a minute); it is no limit of pulls, and a log-in does not lift it",
        "Look for what asks so often from behind this address (a loop of restarts, a mirror or scanner that looks at "
        "every "
        "tag); pull through a cache",
        "",
    )


class _Plain(msgspec.Struct, frozen=True):
    """An answer that is the same everywhere; ``<IMAGE>``, ``<HOST>`` and ``<NODE>`` are filled."""

    what: str
    do: str
    command: str


@cache
def _plain() -> dict[Cause, _Plain]:
    return msgspec.json.decode(_DATA.read_bytes(), type=ready(dict[Cause, _Plain]))


def _tell_plain(plain: _Plain, patient: Patient, host: Host) -> Told:
    names = {"IMAGE": image_of(patient), "HOST": host.name or "the registry", "NODE": patient.node or "NODE"}

    def fill(text: str) -> str:
        return re.sub(r"<([A-Z]+)>", lambda match: names[match[1]], text)

    return fill(plain.what), fill(plain.do), fill(plain.command)


_ANYWHERE: dict[Cause, Callable[[Patient, Host], Told]] = {
    "abuse-limit": _abuse_limit,
    "denied-or-missing": _denied,
    "dns": _dns,
    "no-credentials": _no_credentials,
    "platform-missing": _platform,
    "pull-limit": _pull_limit,
    "timeout": _timeout,
    "tls": _tls,
    "wrong-platform": _wrong_platform,
}
"""Those that look at the case; the others are data."""
