"""Docker Hub."""

from tests.doubles.families.table import (
    Answer,
    Cell,
    Change,
    Family,
    ForPlatform,
    Row,
    Signed,
    When,
    challenge,
    problem,
)

DOCKER_HUB = Family(
    name="docker-hub",
    title="Docker Hub (docker.io)",
    repository="owner/{name}",
    user=("owner", "dckr_pat"),
    rows=(
        Row(
            "catalogue-401",
            "GET catalogue",
            Answer(
                401,
                {
                    "WWW-Authenticate": 'Bearer realm="{elsewhere}/token",service="registry.docker.io",'
                    'scope="registry:catalog:*",error="insufficient_scope"'
                },
                problem("UNAUTHORIZED", "authentication required"),
            ),
            "the catalogue is 401 to everybody: the token service gives no token for it",
            "`Unsupported`; repositories are named in the configuration",
            "regclient/regclient#539",
            "2023-09",
        ),
        Row(
            "token",
            "* ping|tags|manifest|blob|uploads|upload|referrers",
            challenge("{elsewhere}/token", "registry.docker.io"),
            "tokens come from another host (auth.docker.io), also for what is public",
            "the password goes to the token service alone; credentials are looked up as `https://index.docker.io/v1/`",
            "distribution's token specification; updatecli, Docker Hub rate limit",
            "2026-07",
            When(allowed=False),
        ),
        Row(
            "platform-digest",
            "GET|HEAD manifest",
            ForPlatform("amd64"),
            "a tag of an index, asked for without an index's type in `Accept`, gives the manifest of linux/amd64 and "
            "its digest",
            "all types are named, in HEAD as in GET: a digest always is that of the whole",
            "opencontainers/distribution-spec#207; distribution/distribution#3431",
            "2021-06",
            When(reference="[^:]+", header=("Accept", r"^(?!.*(manifest\.list|image\.index))")),
            (
                "HEAD",
                "/v2/{signed}/manifests/v1",
                {"Accept": "application/vnd.docker.distribution.manifest.v2+json", "Authorization": "{basic}"},
            ),
        ),
        Row(
            "rate-limit-headers",
            "GET|HEAD manifest",
            Change(
                set={
                    "ratelimit-limit": "100;w=21600",
                    "ratelimit-remaining": "76;w=21600",
                    "docker-ratelimit-source": "192.0.2.1",
                }
            ),
            "GETs of manifests count (100 in 6 h without an account, 200 with), each answer tells what is left; HEADs "
            "are free",
            "looks are HEADs; what is left is read from the headers, and a fleet pauses before it is spent",
            "docs.docker.com, Docker Hub pull usage and limits",
            "2026-07",
            When(status=200),
        ),
        Row(
            "signed-blobs",
            "GET blob",
            Signed(307),
            "blobs are redirected to signed addresses of an object store",
            "followed without credentials",
            "containers/image#1078",
            "2020-11",
        ),
        Row(
            "immutable",
            "PUT manifest",
            Answer(
                403,
                {},
                problem(
                    "DENIED",
                    "requested access to the resource is denied",
                    "This tag is already assigned to an image in this repository and cannot be updated due to "
                    "immutability settings. To push this image, use a different tag.",
                ),
            ),
            "an immutable tag is refused with 403, the reason is in the text alone",
            "`TagImmutable`",
            "docker/hub-feedback#2466",
            "2025-06",
            When(taken=True, reference="fixed-.*"),
        ),
        Row(
            "no-delete",
            "DELETE manifest|blob",
            Answer(405, {}, problem("UNSUPPORTED", "The operation is unsupported.")),
            "nothing is deleted through the registry's API; hub.docker.com has its own",
            "`Unsupported`",
            "docker/hub-feedback#2360",
            "2023-12",
        ),
    ),
    peers={
        f"{role} oras": Cell("takes no token service at a loopback address, where the double's is", "bearer realm host")
        for role in ("source", "target")
    },
    remark="The referrers API is there since autumn 2025 (awslabs/soci-snapshotter#1828, 2025-12); docker/roadmap#724, "
    "which asks for it, is open all the same. Fallback tags of before are read beside it.",
    finds={"referrers_api": True, "chunked_upload": True, "range_reads": True},
    source={
        "catalogue": Cell("no catalogue", "Unsupported"),
        "collect": Cell("deletes nothing through the registry's API", "Refusals"),
    },
    target={"collect": Cell("deletes nothing through the registry's API", "Refusals")},
)
