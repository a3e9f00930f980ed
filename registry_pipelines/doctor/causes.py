"""The answers: what is wrong in this case, what to do, and the command. One function for each family of causes."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from registry_pipelines.doctor import on_aws, on_google
from registry_pipelines.doctor.hosts import Host, read_image, read_place
from registry_pipelines.doctor.model import Answer, Cause, Patient

Told = tuple[str, str, str]
"""What is wrong, what to do, the command."""


def explain(cause: Cause, patient: Patient, *, evidence: tuple[str, ...] = (), sure: bool = True) -> Answer:
    """The answer for a cause, in the case of this patient."""
    found = read_image(patient.image)
    host = found[0] if found else read_place(patient.lookup.partition(":")[0]) if patient.lookup else Host(name="", kind="")
    what, do, command = _teller(cause, patient, host)(patient, host)
    return Answer(cause=cause, what=what, evidence=evidence, do=do, command=command, sure=sure)


_OF_AWS: frozenset[Cause] = frozenset({"permission", "endpoint-policy", "credentials-expired", "no-identity"})
"""Words of AWS, whatever the image is called."""
_OF_GOOGLE: frozenset[Cause] = frozenset({"vpc-service-controls"})


def _teller(cause: Cause, patient: Patient, host: Host) -> Callable[[Patient, Host], Told]:
    google = host.kind in ("gar", "gcr") or cause in _OF_GOOGLE or "artifactregistry" in patient.action
    aws = host.kind in ("ecr", "ecr-public") or cause in _OF_AWS or "starport-layer-bucket" in patient.message
    told = on_google.TOLD.get(cause) if google else on_aws.TOLD.get(cause) if aws else None
    return told or _ANYWHERE[cause]


def image_of(patient: Patient) -> str:
    """The image as it is named in commands."""
    return shlex.quote(patient.image or "IMAGE")


def _host(patient: Patient, host: Host) -> str:
    return patient.lookup or host.name or "the registry"


def _secret(patient: Patient) -> str:
    return f"the pull secret {', '.join(patient.pull_secrets)}" if patient.pull_secrets else "no pull secret"


def _no_credentials(patient: Patient, host: Host) -> Told:
    return (
        f"{host.name or 'the registry'} wants a log-in, and none that it knows was sent ({_secret(patient)} on the pod)",
        "Name a secret of type kubernetes.io/dockerconfigjson for exactly this host in imagePullSecrets of the pod or its "
        "service account; it must be in the pod's namespace",
        f"kubectl create secret docker-registry pull --docker-server={host.name or 'HOST'} --docker-username=USER "
        "--docker-password=TOKEN",
    )


def _denied(patient: Patient, host: Host) -> Told:
    hub = host.kind == "docker-hub"
    return (
        f"{host.name or 'the registry'} says the same of a repository that is not there and of one that the account may "
        f"not read; {_secret(patient)} on the pod",
        "Check the name letter by letter" + (", with its organisation: official images are below library/" if hub else "")
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
        "the image was pulled, and its programs are for another processor than the node's: its index or config names the "
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
        f"openssl s_client -connect {name}{'' if ':' in name else ':443'} -servername {name.partition(':')[0]} </dev/null",
    )


def _pull_limit(patient: Patient, host: Host) -> Told:
    return (
        "Docker Hub's limit of pulls is used up for this address (without a log-in: shared by all nodes behind one NAT) "
        "or account",
        "Let nodes pull through a cache (`caches` in the configuration, docs/clouds.md) or from a mirror; a log-in on the "
        "node raises the limit. A pull of an index counts once for each architecture, HEAD does not count",
        "curl -sI -H \"Authorization: Bearer $(curl -s 'https://auth.docker.io/token?service=registry.docker.io&scope="
        "repository:ratelimitpreview/test:pull' | jq -r .token)\" "
        "https://registry-1.docker.io/v2/ratelimitpreview/test/manifests/latest | grep -i ratelimit",
    )


def _abuse_limit(patient: Patient, host: Host) -> Told:
    return (
        "Docker Hub's other limit, against abuse, was reached: thousands of requests a minute from one address (a plain "
        "429, or one that names requests a minute); it is no limit of pulls, and a log-in does not lift it",
        "Look for what asks so often from behind this address (a loop of restarts, a mirror or scanner that looks at every "
        "tag); pull through a cache",
        "",
    )


def _simple(what: str, do: str, command: str = "") -> Callable[[Patient, Host], Told]:
    def tell(patient: Patient, host: Host) -> Told:
        names = {"IMAGE": image_of(patient), "HOST": host.name or "the registry", "NODE": patient.node or "NODE"}
        filled = []
        for text in (what, do, command):
            for word, value in names.items():
                text = text.replace(f"<{word}>", value)
            filled.append(text)
        return filled[0], filled[1], filled[2]

    return tell


_LOOK = "registry-pipelines doctor <IMAGE>"

_ANYWHERE: dict[Cause, Callable[[Patient, Host], Told]] = {
    "abuse-limit": _abuse_limit,
    "bad-name": _simple("<IMAGE> is no image name: no scheme, no capitals in the repository, one tag", "Correct the "
                        "`image` of the pod", ""),
    "content-damaged": _simple("what came is not what the manifest names: a proxy or cache in between changed it, or the "
                               "registry's copy is damaged", "Compare it with its source; past the proxy, too",
                               "registry-pipelines inspect <IMAGE>"),
    "cut-short": _simple("the connection ended before all had come, or what an interrupted pull left is in the way",
                         "The kubelet tries again by itself; if it stays, look at proxies and MTU on the way, and remove "
                         "what the runtime kept of it", "crictl rmi <IMAGE>; crictl pull <IMAGE>"),
    "denied-or-missing": _denied,
    "disk-full": _simple("the node's disk is full, or the kubelet evicts because it soon is (DiskPressure)",
                         "Give nodes a larger disk (images need their size packed and unpacked together), lower "
                         "imageGCHighThresholdPercent, or make the image smaller",
                         "kubectl describe node <NODE> | grep -A8 Conditions"),
    "dns": _dns,
    "gcr-closed": _simple("Container Registry was closed in 2025: gcr.io is served by Artifact Registry only, in projects "
                          "that moved", "Move (docs/guides/from-gcr.md)",
                          "gcloud artifacts docker upgrade migrate --projects=PROJECT"),
    "kubelet-limit": _simple("the node's own kubelet let no more pulls pass (registryPullQPS, 5 a second unless told); the "
                             "registry was not asked", "It tries again by itself within seconds; raise registryPullQPS and "
                             "registryBurst where many pods start at once",
                             "kubectl get --raw /api/v1/nodes/<NODE>/proxy/configz | jq .kubeletconfig.registryPullQPS"),
    "layer-store-denied": _simple("the manifest came, and the store of the layers refused: something on the way answers for "
                                  "it, as a proxy or a gateway's policy", "Let the node reach the store's host"),
    "layer-store-timeout": _simple("the manifest came, and the store of the layers cannot be reached: it is another host "
                                   "than the registry", "Open the way to that host, too"),
    "manifest-kind": _simple("the runtime does not know the type of manifest: it is an artifact (chart, signature, model), "
                             "or of a newer kind", "Check that the reference is an image; a chart is pulled by helm, an "
                             "artifact by oras", "registry-pipelines inspect <IMAGE>"),
    "never-pull": _simple("imagePullPolicy is Never, and the node does not have the image", "Use IfNotPresent, or load it on "
                          "the node beforehand"),
    "no-credentials": _no_credentials,
    "no-repository": _simple("<HOST> has no such repository", "Check the name, or create and fill it; a mirror or a cache may "
                             "have it under a prefix", _LOOK),
    "no-tag": _simple("<HOST> has the repository, or says nothing of it, and not this tag or digest", "Check the tag; it may "
                      "have been collected, archived, or pushed to another place", _LOOK),
    "plain-http": _simple("<HOST> speaks plain HTTP, and the runtime speaks TLS", "Serve it by TLS; or name it as plain for "
                          "the runtime: server = \"http://<HOST>\" in /etc/containerd/certs.d/<HOST>/hosts.toml, "
                          "insecure-registries of Docker, insecure = true in registries.conf of CRI-O"),
    "platform-missing": _platform,
    "proxy": _simple("the runtime is told of a proxy, and that does not let it through", "Correct HTTPS_PROXY and NO_PROXY of "
                     "the runtime's service (not the pod's), with the registry's and its layers' hosts in NO_PROXY",
                     "systemctl show containerd --property=Environment"),
    "pull-limit": _pull_limit,
    "refused-connection": _simple("<HOST> was reached and takes no connection, or ends it", "Check that it runs and the "
                                  "port; a firewall that refuses looks the same"),
    "registry-fails": _simple("<HOST> itself fails (5xx)", "Look at its status page or log; nodes try again by themselves"),
    "registry-rate": _simple("<HOST> gives no more requests now", "Start fewer nodes at once, log in, pull through a cache"),
    "schema-1": _simple("the image is of Docker's schema 1 (before 2017), which containerd since 2.1, Docker 28 and crane "
                        "take no more", "Build it anew; or convert it once: a registry or skopeo writes schema 2",
                        "skopeo copy --format v2s2 docker://<IMAGE> docker://<IMAGE>-v2"),
    "sha512": _simple("a layer or config is named by sha512, which registries take and containerd, skopeo and crane do not",
                      "Build it with sha256 digests", "registry-pipelines inspect <IMAGE>"),
    "short-name": _simple("CRI-O does not guess the registry of a short name", "Write the image with its registry, as "
                          "docker.io/library/NAME"),
    "signature-wanted": _simple("the node's own policy wants a signature of this image, and found none that it believes",
                                "Sign it with the key that /etc/containers/policy.json names; a copy by skopeo or crane "
                                "leaves signatures behind", "registry-pipelines verify <IMAGE>"),
    "slow": _simple("the pull was given up: it took too long, or the pod was deleted meanwhile", "Look whether the image is "
                    "large for the way (region, NAT, size), or an earlier event has the reason", _LOOK),
    "timeout": _timeout,
    "tls": _tls,
    "token-expired": _simple("the token that was sent has run out: somebody stored it, as a pull secret or in a "
                             "config.json, in place of a helper that renews it", "Use a credential helper, or renew it "
                             "before it ends"),
    "unknown": _simple("no rule knows these words", "Look at what the registry itself says", _LOOK),
    "wrong-password": _simple("<HOST> knows the user and not the password, or neither", "Renew the pull secret: a wrong "
                              "log-in fails also for public images", "kubectl get secret NAME -o "
                              "jsonpath='{.data.\\.dockerconfigjson}' | base64 -d"),
    "wrong-platform": _wrong_platform,
    "zstd": _simple("a layer cannot be unpacked: it is compressed by zstd, which Docker before 23 and containerd before 1.5 "
                    "do not read, or it is damaged", "Update the node's runtime, or build with gzip",
                    "registry-pipelines inspect <IMAGE>"),
}  # fmt: skip
