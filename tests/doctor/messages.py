"""What people have in hand when an image does not come: each message in the form in which its program writes it, with
where such a one was reported, the cause, and words that the answer must have. Accounts, names and digests are ours."""

from __future__ import annotations

from typing import NamedTuple

ECR = "111122223333.dkr.ecr.eu-west-1.amazonaws.com"
GAR = "europe-west1-docker.pkg.dev"
HEX = "7031c1b283388d2c2e09b57badb803c05ebed362dc88d84b480cc47f72a21097"
OTHER = "4c7c85027d535bf93ca5e7580daaaa1d777d57b58ab6c2998c47f0cb6ce0713d"
UNPACK = "rpc error: code = Unknown desc = failed to pull and unpack image"


class Message(NamedTuple):
    """One message. words: of the answer, all of its fields together."""

    source: str
    text: str
    cause: str
    words: tuple[str, ...] = ()


MESSAGES = (
    # kubelet with containerd
    Message(
        "kubernetes/kops#16762",
        f'Failed to pull image "{ECR}/ml/app:1": {UNPACK} "{ECR}/ml/app:1": failed to resolve reference "{ECR}/ml/app:1": '
        "pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth "
        "credentials",
        "no-credentials",
        ("ecr-credential-provider", "node's role", "AmazonEC2ContainerRegistryPullOnly"),
    ),
    Message(
        "EKS node without the right, containerd 1.7",
        f'Failed to pull image "{ECR}/ml/app:1": {UNPACK} "{ECR}/ml/app:1": failed to resolve reference "{ECR}/ml/app:1": '
        f"unexpected status from HEAD request to https://{ECR}/v2/ml/app/manifests/1: 403 Forbidden",
        "denied-or-missing",
    ),
    Message(
        "containerd 1.7 and EKS, cross account",
        f'Failed to pull image "{ECR}/ml/app:1": {UNPACK} "{ECR}/ml/app:1": failed to resolve reference: pull access denied, '
        "repository does not exist or may require authorization: authorization failed: denied: User: "
        "arn:aws:sts::444455556666:assumed-role/eks-node/i-03543d3e416f0f883 is not authorized to perform: ecr:BatchGetImage "
        "on resource: arn:aws:ecr:eu-west-1:111122223333:repository/ml/app because no resource-based policy allows the "
        "ecr:BatchGetImage action",
        "permission",
        ("444455556666", "111122223333", "both sides", "get-repository-policy", "not with the pod's"),
    ),
    Message(
        "FoundationDB/fdb-kubernetes-operator#2294",
        'Failed to pull image "acme/operator:v2.6.0": rpc error: code = NotFound desc = failed to pull and unpack image '
        '"docker.io/acme/operator:v2.6.0": no match for platform in manifest: not found',
        "platform-missing",
        ("kubernetes.io/arch", "inspect acme/operator:v2.6.0"),
    ),
    Message(
        "kata-containers/kata-containers#10109",
        f'Failed to pull image "busybox": {UNPACK} "docker.io/library/busybox:latest": failed to copy: httpReadSeeker: failed '
        f"open: unexpected status code https://registry-1.docker.io/v2/library/busybox/manifests/sha256:{HEX}: 429 Too Many "
        "Requests - Server message: toomanyrequests: You have reached your pull rate limit. You may increase the limit by "
        "authenticating and upgrading: https://www.docker.com/increase-rate-limit",
        "pull-limit",
        ("caches", "ratelimitpreview"),
    ),
    Message(
        "Docker Hub since 2025, containerd 2",
        'Failed to pull image "nginx:1": failed to pull and unpack image "docker.io/library/nginx:1": failed to copy: '
        "httpReadSeeker: failed open: unexpected status from GET request to https://registry-1.docker.io/v2/library/nginx/"
        f"manifests/sha256:{HEX}: 429 Too Many Requests toomanyrequests: You have reached your unauthenticated pull rate limit. "
        "https://www.docker.com/increase-rate-limit",
        "pull-limit",
    ),
    Message(
        "terraform-aws-modules/terraform-aws-eks#1476",
        f'Failed to pull image "{ECR}/test:latest": {UNPACK} "{ECR}/test:latest": failed to resolve reference '
        f'"{ECR}/test:latest": failed to do request: Head "https://{ECR}/v2/test/manifests/latest": dial tcp 10.0.1.141:443: '
        "i/o timeout",
        "timeout",
        ("VPC endpoint", "security group", "10.0.1.141"),
    ),
    Message(
        "awslabs/amazon-eks-ami#1633",
        f'Failed to pull image "{ECR}/eks/pause:3.5": {UNPACK} "{ECR}/eks/pause:3.5": failed to resolve reference '
        f'"{ECR}/eks/pause:3.5": failed to do request: Head "https://{ECR}/v2/eks/pause/manifests/3.5": dial tcp '
        "54.240.1.2:443: i/o timeout",
        "timeout",
        ("NAT", "ecr.api", "ecr.dkr"),
    ),
    Message(
        "terraform-aws-modules/terraform-aws-eks#2685",
        f'Failed to pull image "{ECR}/app:latest": {UNPACK} "{ECR}/app:latest": failed to resolve reference '
        f'"{ECR}/app:latest": failed to do request: Head "https://{ECR}/v2/app/manifests/latest": net/http: TLS handshake '
        "timeout",
        "timeout",
    ),
    Message(
        "aws-quickstart/quickstart-amazon-eks#52",
        f'Failed to pull image "{ECR}/my/container:e877": rpc error: code = Unknown desc = error pulling image configuration: '
        "Get https://prod-eu-west-1-starport-layer-bucket.s3.eu-west-1.amazonaws.com/f00: dial tcp: i/o timeout",
        "layer-store-timeout",
        ("S3 gateway", "prod-eu-west-1-starport-layer-bucket", "create-vpc-endpoint"),
    ),
    Message(
        "awsdocs/amazon-ecr-user-guide#8, containerd",
        f'Failed to pull image "{ECR}/a:1": {UNPACK} "{ECR}/a:1": failed to copy: httpReadSeeker: failed open: unexpected '
        "status code https://prod-eu-west-1-starport-layer-bucket.s3.eu-west-1.amazonaws.com/abc?X-Amz-Security-Token=x: 403 "
        "Forbidden",
        "layer-store-denied",
        ("s3:GetObject",),
    ),
    Message(
        "docker/for-linux#371",
        f"Error response from daemon: Get https://{ECR}/v2/: dial tcp: lookup {ECR} on 10.5.0.2:53: no such host",
        "dns",
        ("enableDnsHostnames", ECR),
    ),
    Message(
        "aws-samples/aws-modern-application-workshop#197",
        "Get https://111122223333.dkr.ecr.us-west-2.amazon.aws.com/v2/: dial tcp: lookup "
        "111122223333.dkr.ecr.us-west-2.amazon.aws.com on 172.31.0.2:53: no such host",
        "dns",
    ),
    Message(
        "aws/amazon-ecs-agent#218",
        f'Failed to pull image "{ECR}/a:1": failed to do request: Head "https://{ECR}/v2/a/manifests/1": dial tcp: lookup {ECR} '
        "on 10.0.0.2:53: read udp 10.0.0.7:37321->10.0.0.2:53: i/o timeout",
        "dns",
    ),
    Message(
        "cnoe-io/idpbuilder#520",
        'Failed to pull image "registry.k8s.io/coredns/coredns:v1.11.1": failed to pull and unpack image '
        '"registry.k8s.io/coredns/coredns:v1.11.1": failed to resolve reference "registry.k8s.io/coredns/coredns:v1.11.1": '
        'failed to do request: Head "https://registry.k8s.io/v2/coredns/coredns/manifests/v1.11.1": tls: failed to verify '
        "certificate: x509: certificate signed by unknown authority",
        "tls",
        ("certs.d", "registry.k8s.io", "openssl s_client"),
    ),
    Message(
        "goharbor/harbor#19496, an old certificate",
        'Error response from daemon: Get "https://harbor.example.com/v2/": tls: failed to verify certificate: x509: certificate '
        "has expired or is not yet valid: current time 2026-11-28T10:00:00Z is after 2026-11-01T00:00:00Z",
        "tls",
        ("run out",),
    ),
    Message(
        "a name that is not on the certificate",
        'failed to do request: Head "https://registry.lan:5000/v2/a/manifests/1": tls: failed to verify certificate: x509: '
        "certificate is valid for registry.example.com, not registry.lan",
        "tls",
        ("another host",),
    ),
    Message(
        "containerd/containerd#4938",
        'pulling image failed: rpc error: code = Unknown desc = failed to pull and unpack image "lab.example.com:5000/j:latest": '
        'failed to resolve reference "lab.example.com:5000/j:latest": failed to do request: Head '
        "https://lab.example.com:5000/v2/j/manifests/latest: http: server gave HTTP response to HTTPS client",
        "plain-http",
        ("hosts.toml", "lab.example.com:5000"),
    ),
    Message(
        "rancher/k3os#55",
        f'Failed to pull image "ghcr.io/a/b:1": {UNPACK} "ghcr.io/a/b:1": failed to extract layer sha256:{HEX}: mount callback '
        "failed on /var/lib/containerd/tmpmounts/containerd-mount252943319: write /lib/libc-2.24.so: no space left on device: "
        "unknown",
        "disk-full",
        ("DiskPressure",),
    ),
    Message(
        "namespacelabs/foundation#1055",
        "The node was low on resource: ephemeral-storage. Container api was using 108Ki, which exceeds its request of 0.",
        "disk-full",
    ),
    Message(
        "kubernetes scheduler",
        "0/1 nodes are available: 1 node(s) had taint {node.kubernetes.io/disk-pressure: }, that the pod didn't tolerate.",
        "disk-full",
    ),
    Message(
        "zalando-incubator/kubernetes-on-aws#8045",
        'failed to "StartContainer" for "app" with ErrImagePull: "pull QPS exceeded"',
        "kubelet-limit",
        ("registryPullQPS",),
    ),
    Message(
        "saveourtool/save-cloud#1986",
        'Failed to pull image "ghcr.io/a/base:3.10": rpc error: code = FailedPrecondition desc = failed to pull and unpack image '
        f'"ghcr.io/a/base:3.10": failed commit on ref "layer-sha256:{HEX}": "layer-sha256:{HEX}" failed size validation: 6239744 '
        "!= 17386982: failed precondition",
        "cut-short",
    ),
    Message(
        "ovh/cds#7735",
        'Error response from daemon: not implemented: media type "application/vnd.docker.distribution.manifest.v1+prettyjws" is '
        "no longer supported since containerd v2.1, please rebuild the image",
        "schema-1",
        ("containerd since 2.1",),
    ),
    Message(
        "bazelbuild/rules_docker#1253 (crane's library)",
        f'reading image "quay.io/a/b@sha256:{HEX}": unsupported MediaType: '
        '"application/vnd.docker.distribution.manifest.v1+prettyjws", see '
        "https://github.com/google/go-containerregistry/issues/377",
        "schema-1",
    ),
    Message(
        "containerd 2.1.9, run 2026-11-28",
        f'failed to pull and unpack image "reg.example.com/a:1": failed commit on ref "layer-sha512:ab": unexpected commit digest '
        f"sha256:{HEX}, expected sha512:abcdef: failed precondition",
        "sha512",
        ("sha256",),
    ),
    Message("crane 0.20.7, run 2026-11-28", 'Error: pulling image: unsupported hash: "sha512"', "sha512"),
    Message(
        "aws/amazon-ecs-agent#4179",
        "CannotPullContainerError: failed to register layer: Error processing tar file(exit status 1): archive/tar: invalid tar "
        "header",
        "zstd",
        ("Docker before 23",),
    ),
    Message(
        "podman-container-tools/skopeo#1286",
        'Error creating an updated image manifest: Error during manifest conversion: "application/vnd.oci.image.layer.v1.tar+zstd":'
        " zstd compression is not supported for docker images",
        "zstd",
    ),
    Message(
        "containerd/nerdctl#846",
        'failed to pull and unpack image "reg.example.com/charts/a:1": encountered unknown type application/json; children may '
        "not be fetched",
        "manifest-kind",
        ("helm",),
    ),
    Message(
        "containerd, content/local/writer.go",
        f'failed commit on ref "layer-sha256:{HEX}": unexpected commit digest sha256:{OTHER}, expected sha256:{HEX}: failed '
        "precondition",
        "content-damaged",
        ("proxy",),
    ),
    Message(
        "kagent-dev/kagent#2178",
        'Failed to pull image "cr.example.dev/a/controller:0.9.11": rpc error: code = NotFound desc = failed to pull and unpack '
        'image "cr.example.dev/a/controller:0.9.11": failed to resolve reference "cr.example.dev/a/controller:0.9.11": '
        "cr.example.dev/a/controller:0.9.11: not found",
        "no-tag",
        ("doctor cr.example.dev/a/controller:0.9.11",),
    ),
    Message(
        "containerd and ECR: tag that is not there",
        f'Failed to pull image "{ECR}/ml/app:v9": rpc error: code = NotFound desc = failed to pull and unpack image '
        f'"{ECR}/ml/app:v9": failed to resolve reference "{ECR}/ml/app:v9": {ECR}/ml/app:v9: not found',
        "no-tag",
        ("archived", "imageStatus=ANY", "imageTag=v9", "eu-west-1"),
    ),
    Message(
        "kubesphere/kubekey#1165",
        'FATA[0000] pulling image: rpc error: code = Unknown desc = failed to pull and unpack image "hub.example.com/kube/pause:3.5"'
        ': failed to resolve reference "hub.example.com/kube/pause:3.5": pull access denied, repository does not exist or may '
        "require authorization: server message: insufficient_scope: authorization failed",
        "denied-or-missing",
        ("letter by letter",),
    ),
    Message(
        "docker-library/tomcat#321",
        "amazoncorretto:11-al2-jdk: failed to authorize: failed to fetch anonymous token: unexpected status: 401",
        "no-credentials",
    ),
    Message(
        "konpyutaika/nifikop#273",
        'Failed to pull image "ghcr.io/acme/app:1": failed to authorize: failed to fetch oauth token: unexpected status: 403 '
        "Forbidden",
        "denied-or-missing",
        ("old log-in",),
    ),
    # kubelet, its own words
    Message("kubernetes, pkg/kubelet/images", 'Container image "app:1" is not present with pull policy of Never', "never-pull"),
    Message(
        "ContainerSolutions/runbooks#111",
        'Failed to apply default image tag "https://reg.example.com/App:1": couldn\'t parse image name: invalid reference format',
        "bad-name",
        ("no scheme",),
    ),
    Message(
        "kubernetes/cloud-provider-aws#1029",
        "Failed getting credential from external registry credential provider: error execing credential provider plugin "
        f"ecr-credential-provider for image {ECR}/cilium/cilium: context deadline exceeded",
        "no-identity",
        ("IamInstanceProfile",),
    ),
    Message(
        "ElementTech/kube-arch-scheduler#5",
        "ecr: Failed to get authorization token: operation error ECR: GetAuthorizationToken, get identity: get credentials: failed "
        "to refresh cached credentials, no EC2 IMDS role found, operation error ec2imds: GetMetadata, request canceled",
        "no-identity",
        ("hop limit",),
    ),
    Message(
        "kubernetes/kubernetes#117612",
        'image pull failed for reg.example.com/a:1 because the registry is unavailable: RegistryUnavailable',
        "registry-fails",
    ),
    # Docker
    Message(
        "aws/amazon-vpc-cni-k8s#708",
        f"Error response from daemon: Get https://{ECR}/v2/cni/manifests/v1.5.3: no basic auth credentials",
        "no-credentials",
        ("get-login-password --region eu-west-1", "12 hours"),
    ),
    Message(
        "everything2/everything2#2562",
        f"Error response from daemon: pull access denied for {ECR}/e2/lib, repository does not exist or may require 'docker login'"
        ": denied: User: arn:aws:sts::111122223333:assumed-role/Builder-Role/AWSCodeBuild-749228d3 is not authorized to perform: "
        "ecr:BatchGetImage on resource: arn:aws:ecr:eu-west-1:111122223333:repository/e2/lib because no identity-based policy "
        "allows the ecr:BatchGetImage action",
        "permission",
        ("Builder-Role", "ecr:BatchGetImage", "attach-role-policy --role-name Builder-Role"),
    ),
    Message(
        "aws/aws-cli#5592",
        "An error occurred (AccessDeniedException) when calling the GetAuthorizationToken operation: User: "
        "arn:aws:iam::111122223333:user/ci is not authorized to perform: ecr:GetAuthorizationToken on resource: * with an explicit "
        "deny in a service control policy",
        "permission",
        ("service control policy", "is denied ecr:GetAuthorizationToken"),
    ),
    Message(
        "IAM user guide, a VPC endpoint's policy",
        f"denied: User: arn:aws:sts::111122223333:assumed-role/eks-node/i-0 is not authorized to perform: "
        "ecr:GetDownloadUrlForLayer on resource: arn:aws:ecr:eu-west-1:111122223333:repository/ml/app because no VPC endpoint "
        "policy allows the ecr:GetDownloadUrlForLayer action",
        "endpoint-policy",
        ("ecr.dkr", "starport-layer-bucket"),
    ),
    Message(
        "aws/aws-cli#7977",
        f"Error response from daemon: pull access denied for {ECR}/project, repository does not exist or may require 'docker login'"
        ": denied: Your authorization token has expired. Reauthenticate and try again.",
        "token-expired",
        ("12 hours", "get-login-password"),
    ),
    Message(
        "docker/docker-py#1170",
        "error parsing HTTP 403 response body: invalid character 'Y' looking for beginning of value: \"Your Authorization Token "
        "has expired. Please run 'aws ecr get-login' to fetch a new one.\"",
        "token-expired",
    ),
    Message(
        "AWS STS",
        "An error occurred (ExpiredTokenException) when calling the GetAuthorizationToken operation: The security token included "
        "in the request is expired",
        "credentials-expired",
        ("get-caller-identity",),
    ),
    Message(
        "docker-archive-public/docker.kitematic#2755",
        "Get https://registry-1.docker.io/v2/library/ubuntu/manifests/latest: unauthorized: incorrect username or password",
        "wrong-password",
        ("public images",),
    ),
    Message(
        "alexklibisz/terraform-provider-terrifi#50",
        "Error response from daemon: toomanyrequests: retry-after: 985.86us, allowed: 44000/minute",
        "abuse-limit",
        ("no limit of pulls",),
    ),
    Message(
        "docker/hub-feedback#2040",
        f"Error fetching https://registry-1.docker.io/v2/library/redmine/manifests/sha256:{HEX} (remote response: 429: Too Many "
        "Requests)",
        "abuse-limit",
    ),
    Message(
        "public.ecr.aws, AWS re:Post",
        "Error response from daemon: toomanyrequests: Rate exceeded while reading "
        "https://public.ecr.aws/v2/docker/library/node/manifests/20",
        "registry-rate",
        ("500 GB",),
    ),
    Message(
        "RFC 6585",
        "failed to resolve reference \"quay.io/a/b:1\": unexpected status from HEAD request to "
        "https://quay.io/v2/a/b/manifests/1: 429 Too Many Requests",
        "registry-rate",
    ),
    Message(
        "moby/moby#34185",
        "error pulling image configuration: error parsing HTTP 403 response body: invalid character '<' looking for beginning of "
        'value: "<?xml version=\\"1.0\\" encoding=\\"UTF-8\\"?>\\n<Error><Code>AccessDenied</Code><Message>Access '
        'Denied</Message></Error>"',
        "layer-store-denied",
    ),
    Message(
        "aws/amazon-ecs-agent#2235",
        f"CannotPullContainerError: Error response from daemon: Get https://{ECR}/v2/: net/http: request canceled while waiting for "
        "connection (Client.Timeout exceeded while awaiting headers)",
        "timeout",
    ),
    Message(
        "moby/moby#39201",
        "no matching manifest for linux/arm64/v8 in the manifest list entries",
        "platform-missing",
        ("linux/arm64/v8",),
    ),
    Message(
        "aws-samples/eks-alb-istio-with-tls#7",
        "Error response from daemon: repository public.ecr.aws/v2k0k1b1/yelb-ui not found: name unknown: The repository with name "
        "'yelb-ui' does not exist in the registry with id 'v2k0k1b1'",
        "no-repository",
    ),
    Message(
        "plexsystems/sinker#55, a pull",
        f'GET https://{ECR}/v2/ml/app/manifests/1: NAME_UNKNOWN: The repository with name "ml/app" does not exist in the registry '
        "with id '111122223333'",
        "no-repository",
        ("in eu-west-1", "per region", "describe-repositories"),
    ),
    Message(
        "rancher/rancher#32340",
        "standard_init_linux.go:219: exec user process caused: exec format error",
        "wrong-platform",
    ),
    Message(
        "cri-o/cri-o#2331, a proxy",
        'pulling image failed: rpc error: code = Unknown desc = error pinging docker registry registry-1.docker.io: Get '
        '"https://registry-1.docker.io/v2/": proxyconnect tcp: dial tcp: lookup http: Temporary failure in name resolution',
        "proxy",
        ("NO_PROXY",),
    ),
    Message("net package of Go", "Head \"https://10.0.0.9:5000/v2/a/manifests/1\": dial tcp 10.0.0.9:5000: connect: connection refused",
            "refused-connection"),
    Message("aws/aws-sam-build-images#42", 'Error response from daemon: Get "https://reg.example.com/v2/": context deadline exceeded',
            "slow"),
    # CRI-O, skopeo, crane
    Message(
        "containers/image#1953",
        "copying system image from manifest list: Source image rejected: A signature was required, but no signature exists",
        "signature-wanted",
        ("policy.json",),
    ),
    Message(
        "cri-o/cri-o#8656",
        'Failed to pull image "quay.io/crio/signed": SignatureValidationFailed: Source image rejected: Required email '
        "a@example.com not found",
        "signature-wanted",
    ),
    Message(
        "cri-o/cri-o#3626",
        "FATA[0000] pulling image failed: rpc error: code = Unknown desc = Error choosing image instance: no image found in manifest "
        'list for architecture arm64, variant "v8", OS linux',
        "platform-missing",
        ("linux/arm64/v8",),
    ),
    Message(
        "cri-o/cri-o#2331",
        "pulling image failed: rpc error: code = Unknown desc = Error reading manifest latest in docker.io/crio/busybox: errors: "
        "denied: requested access to the resource is denied unauthorized: authentication required",
        "denied-or-missing",
        ("below library/",),
    ),
    Message(
        "containers/image, pkg/shortnames",
        'Failed to pull image "app": short-name resolution enforced but cannot prompt without a TTY',
        "short-name",
    ),
    Message(
        "podman-container-tools/skopeo#2455",
        "initializing source docker://docker.example.com/data/connect:4.39: reading manifest 4.39 in "
        "docker.example.com/data/connect: manifest unknown",
        "no-tag",
        ("docker.example.com/data/connect:4.39",),
    ),
    Message(
        "podman-container-tools/skopeo#1665",
        "initializing source docker://quay.io/a/b:1: reading manifest v1.7.0 in quay.io/a/b: unauthorized: access to the requested "
        "resource is not authorized",
        "denied-or-missing",
    ),
    Message(
        "linode/provider-ceph#46 (crane's library)",
        "HEAD https://index.docker.io/v2/linode/ceph/manifests/v0.0.8: unexpected status code 401 Unauthorized (HEAD responses "
        "have no body, use GET for details)",
        "no-credentials",
    ),
    Message(
        "google/go-containerregistry, pkg/v1/remote/index.go",
        "Error: pulling reg.example.com/a:1: no child with platform linux/arm64 in index reg.example.com/a:1",
        "platform-missing",
        ("linux/arm64",),
    ),
    Message(
        "buildsec/frsca#97",
        "reading tags for localhost:8888/a/b: GET http://localhost:8888/v2/a/b/tags/list?n=1000: NAME_UNKNOWN: repository name not "
        "known to registry; map[name:a/b]",
        "no-repository",
    ),
    # Google
    Message(
        "terraform-google-modules/terraform-google-kubernetes-engine#1779",
        f'Error response from daemon: Head "https://{GAR}/v2/ml-prod/ml/app/manifests/4.19.5": denied: Permission '
        '"artifactregistry.repositories.downloadArtifacts" denied on resource "projects/ml-prod/locations/europe-west1/repositories/'
        'ml" (or it may not exist)',
        "permission",
        ("roles/artifactregistry.reader", "ml-prod", "europe-west1", "add-iam-policy-binding ml"),
    ),
    Message(
        "GKE with containerd",
        f'Failed to pull image "{GAR}/ml-prod/ml/app:1": failed to pull and unpack image "{GAR}/ml-prod/ml/app:1": failed to resolve '
        f'reference "{GAR}/ml-prod/ml/app:1": failed to authorize: failed to fetch oauth token: unexpected status from GET request '
        f"to https://{GAR}/v2/token?scope=repository%3Aml-prod%2Fml%2Fapp%3Apull&service={GAR}: 403 Forbidden",
        "denied-or-missing",
        ("roles/artifactregistry.reader", "node pool's service account"),
    ),
    Message(
        "google/fuzzbench#1981",
        'Failed to pull image "gcr.io/acme/base": Unauthenticated requests do not have permission '
        '"artifactregistry.repositories.downloadArtifacts" on resource "projects/acme/locations/us/repositories/gcr.io"',
        "permission",
        ("nobody was logged in",),
    ),
    Message(
        "GoogleCloudPlatform/cloud-sql-proxy#1686",
        'Error response from daemon: Head "https://gcr.io/v2/cloud-sql-connectors/cloud-sql-proxy/manifests/2.1.1": denied: Request '
        "is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: abC-1",
        "vpc-service-controls",
        ("restricted.googleapis.com", "abC-1"),
    ),
    Message(
        "mozilla/jetstream#2683",
        "denied: Container Registry is deprecated and shutting down, please use the auto migration tool to migrate to Artifact "
        "Registry (gcloud artifacts docker upgrade migrate --projects='acme')",
        "gcr-closed",
        ("from-gcr",),
    ),
    Message(
        "murphye/cheap-gke-cluster#10, private nodes",
        f'Failed to pull image "{GAR}/p/r/a:1": failed to do request: Head "https://{GAR}/v2/p/r/a/manifests/1": dial tcp '
        "142.250.1.82:443: i/o timeout",
        "timeout",
        ("Private Google Access",),
    ),
    Message("nobody's words", "the frobnicator would not pull", "unknown", ("doctor",)),
)
