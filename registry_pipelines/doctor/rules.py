"""Which cause the words of a kubelet, a runtime or a tool mean: one table, the first row that fits decides.

Each row was seen in public reports of users, or in the program's source; ``tests/data/pull_messages.json`` has one
message for every row. Runtimes put the registry's words last, so the exact ones stand first and the frames around them
last.
"""

from __future__ import annotations

import re

import msgspec

from registry_pipelines.doctor.model import Cause


class Rule(msgspec.Struct, frozen=True):
    """One way in which a cause is said. source: where it was seen. sure: False where the words also fit others."""

    cause: Cause
    text: str
    source: str
    sure: bool = True


RULES: tuple[Rule, ...] = (
    # What a cloud says of permissions is exact; it stands within "pull access denied".
    Rule("vpc-service-controls", r"vpcServiceControlsUniqueIdentifier|prohibited by organization's policy",
         "GoogleCloudPlatform/cloud-sql-proxy#1686"),
    Rule("endpoint-policy", r"because no VPC endpoint policy allows|explicit deny in a VPC endpoint policy",
         "IAM user guide, access denied errors"),
    Rule("permission", r"not authorized to perform: [a-z-]+:\w+", "everything2/everything2#2562, aws/copilot-cli#3518"),
    Rule("permission", r"[Pp]ermission \\?[\"']artifactregistry\.|does not have permission \\?[\"']artifactregistry\.",
         "terraform-google-modules/terraform-google-kubernetes-engine#1779, google/fuzzbench#1981"),
    Rule("gcr-closed", r"Container Registry is (?:deprecated and shutting|shut) down", "mozilla/jetstream#2683"),
    # Tokens and identities
    Rule("token-expired", r"(?i)authorization token has expired|token (?:is|has) expired|jwt(?: is)? expired",
         "aws/aws-cli#7977, docker/docker-py#1170, awslabs/amazon-ecr-credential-helper#118"),
    Rule("credentials-expired", r"ExpiredToken|security token included in the request is expired",
         "boto3 and the AWS SDKs for Go, STS"),
    Rule("no-identity", r"no EC2 IMDS role found|NoCredentialProviders|failed to refresh cached credentials|"
         r"exec(?:ing|uting) credential provider plugin|could not find default credentials",
         "ElementTech/kube-arch-scheduler#5, kubernetes/cloud-provider-aws#1029"),
    Rule("wrong-password", r"incorrect username or password|invalid username/password|bad username or password|"
         r"(?i:authentication failed: unauthorized)", "docker-archive-public/docker.kitematic#2755"),
    # Limits. The abuse limit of Docker Hub says how many a minute, or nothing at all.
    Rule("pull-limit", r"(?i)reached your (?:unauthenticated )?pull rate limit|increase-rate-limit|download-rate-limit",
         "docker/docs#21908, kata-containers/kata-containers#10109, play-with-docker/play-with-docker#422"),
    Rule("abuse-limit", r"toomanyrequests: retry-after: \S+, allowed: \d+/minute",
         "alexklibisz/terraform-provider-terrifi#50"),
    Rule("kubelet-limit", r"pull QPS exceeded", "zalando-incubator/kubernetes-on-aws#8045"),
    Rule("registry-rate", r"[Rr]ate exceeded|[Dd]ata limit exceeded|"
         r"ThrottlingException|Quota exceeded for quota metric",
         "AWS re:Post on public.ecr.aws; Artifact Registry quotas"),
    Rule("abuse-limit", r"registry-1\.docker\.io\S*\s?\(?.*429:? Too Many Requests\)?(?! - Server message)",
         "docker/hub-feedback#2040"),
    Rule("registry-rate", r"429 Too Many Requests|toomanyrequests|(?i:too many requests)", "RFC 6585 section 4"),
    # The manifest and the node
    Rule("platform-missing", r"no match(?:ing manifest)? for (?:platform|linux|windows)|no child with platform|"
         r"no image found in (?:manifest list|image index) for architecture",
         "FoundationDB/fdb-kubernetes-operator#2294, moby/moby#39201, cri-o/cri-o#3626, google/go-containerregistry"),
    Rule("wrong-platform", r"exec format error|does not match the (?:specified|detected host) platform",
         "rancher/rancher#32340, cri-o/cri-o#1347"),
    Rule("schema-1", r"manifest\.v1\+(?:prettyjws|json)|schema ?1 (?:manifest|image)|ctr: no signatures",
         "ovh/cds#7735, moby/moby#44521, bazelbuild/rules_docker#1253"),
    Rule("sha512", r"unexpected commit digest sha256:\w+, expected sha512|"
         r"unsupported (?:digest algorithm|hash):? .*sha512|"
         r"sha512:\w+.*unexpected commit digest", "containerd 2.1.9, crane 0.20.7, run 2026-11-28"),
    Rule("zstd", r"tar\+zstd|zstd compression is not supported|invalid tar header",
         "aws/amazon-ecs-agent#4179, podman-container-tools/skopeo#1286, stalwartlabs/stalwart#1192", sure=False),
    Rule("manifest-kind", r"unsupported (?:manifest )?media ?[tT]ype|unexpected media type|encountered unknown type|"
         r"unsupported image-specific operation on artifact|invalid mixed OCI image|mediatype.*not supported",
         "google/go-containerregistry#377, containerd/nerdctl#846"),
    Rule("content-damaged", r"unexpected commit digest|digest did not match|does not match digest|"
         r"[Dd]igest mismatch|[Dd]igest verification failed", "containerd, content/local/writer.go"),
    Rule("cut-short", r"failed size validation|unexpected EOF|short read: expected \d+ bytes",
         "saveourtool/save-cloud#1986, kubernetes-sigs/cri-tools#326"),
    Rule("signature-wanted", r"SignatureValidationFailed|Source image rejected|"
         r"signature was required, but no signature",
         "kubernetes/kubernetes#117717, containers/image#1953"),
    # The node itself
    Rule("disk-full", r"no space left on device|DiskPressure|disk-pressure|low on resource: ephemeral-storage|"
         r"failed to garbage collect required amount of images|FreeDiskSpaceFailed|disk quota exceeded",
         "rancher/k3os#55, namespacelabs/foundation#1055, kubernetes/minikube#7073"),
    Rule("never-pull", r"ErrImageNeverPull|with pull policy of Never", "kubernetes, pkg/kubelet/images"),
    Rule("bad-name", r"InvalidImageName|couldn't parse image (?:name|reference)|invalid reference format|"
         r"could not parse reference|repository name must be lowercase|[Ff]ailed to apply default image tag",
         "ContainerSolutions/runbooks#111"),
    Rule("short-name", r"short-name|unqualified-search registries", "containers/image, pkg/shortnames"),
    # The way to the registry, from the name to the first answer
    Rule("proxy", r"proxyconnect|Proxy Authentication Required", "cri-o/cri-o#2331"),
    Rule("dns", r"no such host|[Tt]emporary failure in name resolution|server misbehaving|"
         r"lookup \S+ on \S+: (?:read udp|dial udp)", "docker/for-linux#371, aws/amazon-ecs-agent#218"),
    Rule("plain-http", r"server gave HTTP response to HTTPS client", "containerd/containerd#4938, cri-o/cri-o#5045"),
    Rule("tls", r"x509:|certificate signed by unknown authority|certificate has expired|certificate is valid for|"
         r"tls: handshake failure|remote error: tls", "kubernetes/kubernetes#43924, cnoe-io/idpbuilder#520"),
    Rule("layer-store-denied", r"starport-layer-bucket\S*.*403 Forbidden|HTTP 403 response body.*<Code>AccessDenied",
         "awsdocs/amazon-ecr-user-guide#8, moby/moby#34185"),
    Rule("layer-store-timeout", r"(?:starport-layer-bucket|\.s3[.-])\S*.*(?:i/o timeout|Client\.Timeout|"
         r"deadline exceeded|"
         r"TLS handshake timeout)", "aws-quickstart/quickstart-amazon-eks#52"),
    Rule("timeout", r"i/o timeout|connection timed out|Client\.Timeout exceeded|TLS handshake timeout|no route to host|"
         r"network is unreachable",
         "terraform-aws-modules/terraform-aws-eks#1476 and #2685, aws/amazon-ecs-agent#2235"),
    Rule("refused-connection", r"connection refused|connection reset by peer", "net package of Go"),
    # Log-ins, in the words of runtimes: which of them it is the host decides
    Rule("no-credentials", r"no basic auth credentials|failed to fetch anonymous token|no scope specified for token",
         "aws/amazon-vpc-cni-k8s#30, kubernetes/kops#16762, docker-library/tomcat#321"),
    Rule("no-repository", r"(?i)name[ _]unknown|repository with name .* does not exist|repository name not known|"
         r"project .* not found", "aws-samples/eks-alb-istio-with-tls#7, buildsec/frsca#97"),
    Rule("no-tag", r"(?i)manifest[ _]unknown|requested image not found|manifest for \S+ not found|"
         r"failed to resolve (?:reference|ref)[^:]*\S+: not found|: not found$|code = NotFound",
         "kagent-dev/kagent#2178, podman-container-tools/skopeo#2455"),
    Rule("denied-or-missing", r"insufficient_scope|pull access denied|requested access to the resource is denied|"
         r"denied: denied|access to the requested resource is not authorized",
         "kubesphere/kubekey#1165, docker/hub-feedback#2430, cri-o/cri-o#2331"),
    Rule("no-credentials", r"(?i)401 unauthorized|authentication required|unauthorized:|unable to retrieve auth token",
         "docker/buildx#1762, linode/provider-ceph#46"),
    Rule("denied-or-missing", r"403 \(?Forbidden|[Ff]orbidden|\bdenied\b",
         "konpyutaika/nifikop#273, cri-o/cri-o#7007"),
    Rule("registry-fails", r"50[0-4] (?:Internal|Bad|Service|Gateway)|unexpected HTTP status: 5\d\d|"
         r"RegistryUnavailable|"
         r"received unexpected HTTP status: 5|registry is unavailable", "openshift/origin#16349"),
    Rule("slow", r"context (?:deadline exceeded|canceled)|operation was canceled|image-pull-progress-deadline",
         "aws/aws-sam-build-images#42", sure=False),
)  # fmt: skip

_COMPILED = tuple((rule, re.compile(rule.text, re.DOTALL if "starport" in rule.text else 0)) for rule in RULES)


def rule_of(message: str, reason: str = "") -> tuple[Rule, str] | None:
    """The row that decides, and the words that it was found in; None when no row fits. reason: of the container's
    state, which counts where the message says nothing."""
    for words in (message, reason):
        for rule, pattern in _COMPILED if words else ():
            if match := pattern.search(words):
                return rule, _around(words, match)
    return None


def _around(words: str, match: re.Match[str]) -> str:
    """The line that holds the match, at most so many characters around it."""
    before, after = match.start(), match.end()
    start = max(words.rfind("\n", 0, before) + 1, before - 120)
    line_end = words.find("\n", after)
    end = min(len(words) if line_end < 0 else line_end, after + 120)
    return f"{'...' if start and words[start - 1] != chr(10) else ''}{words[start:end]}".strip()
