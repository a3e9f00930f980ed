"""Google Artifact Registry."""

from tests.doubles.families.table import AddFallbackTag, Answer, Cell, Family, Row, When, challenge, problem

ARTIFACT_REGISTRY = Family(
    name="artifact-registry",
    title="Google Artifact Registry (pkg.dev)",
    repository="project/repo/{name}",
    user=("oauth2accesstoken", "ya29"),
    rows=(
        Row(
            "token",
            "* catalogue|ping|tags|manifest|blob|uploads|upload|referrers",
            challenge("{here}/token", ""),
            "log-in by an access token of an hour, as the user `oauth2accesstoken`",
            "user name and password, or Docker's credential helper, asked again when a token is refused",
            "cloud.google.com, Artifact Registry, authentication for Docker",
            "2026-03",
            When(allowed=False),
        ),
        Row(
            "no-repository",
            "POST uploads",
            Answer(404, {}, problem("NAME_UNKNOWN", 'Repository "app" not found')),
            "the repository (project and repository, not the image) must exist before a push",
            "`NotFound`",
            "cloud.google.com/artifact-registry/docs/docker/names",
            "2025-08",
            When(name="missing/.*|[^/]+"),
        ),
        Row(
            "no-chunks",
            "PATCH upload",
            Answer(416, {}, problem("BLOB_UPLOAD_INVALID", "chunked uploads are not supported")),
            "a blob is taken in one piece only: no second chunk, no upload that goes on",
            "one PUT with the length; a broken upload begins anew; `chunks=False` of its host in the rules",
            "kitops-ml/kitops#777; cloud.google.com, Artifact Registry, Docker API",
            "2025-11",
            When(header=("Content-Range", ".")),
        ),
        Row(
            "adds-fallback-tags",
            "PUT manifest",
            AddFallbackTag(),
            "the referrers API is there, and the server writes fallback tags (`sha256-…`) besides",
            "they are lists of referrers: never chosen as tags, never judged by retention alone",
            "notaryproject/notation#1222",
            "2025-04",
            When(status=201),
        ),
        Row(
            "immutable",
            "PUT manifest",
            Answer(
                400,
                {},
                problem(
                    "MANIFEST_INVALID", "cannot update tag {reference}. The repository has enabled tag immutability"
                ),
            ),
            "a tag of a repository with immutable tags is refused as MANIFEST_INVALID",
            "`TagImmutable`",
            "cloud.google.com, Artifact Registry, push troubleshooting; GoogleContainerTools/kaniko executor/push.go",
            "2024-05",
            When(taken=True, reference="fixed-.*"),
        ),
    ),
    finds={"referrers_api": True, "chunked_upload": False, "range_reads": True},
    source={"catalogue": Cell("its token is for repositories", "Unsupported")},
)
