"""Amazon ECR's side that speaks the distribution protocol. Its own API is in tests/doubles/aws."""

from tests.doubles.families.table import Answer, Ask, Cell, Change, Family, Row, StuckRange, When, problem

ECR = Family(
    name="ecr",
    title="Amazon ECR, distribution protocol",
    user=("AWS", "token"),
    needs_repositories=True,
    rows=(
        Row(
            "basic",
            "* *",
            Answer(
                401,
                {"WWW-Authenticate": 'Basic realm="https://ecr.example/",service="ecr.amazonaws.com"'},
                "Not Authorized\n",
            ),
            "basic log-in as `AWS` with a token of 12 h; 403 when it is over",
            "GetAuthorizationToken, renewed a quarter of an hour early",
            "Amazon ECR user guide, private registry authentication",
            "2026-01",
            When(allowed=False),
        ),
        Row(
            "no-catalogue",
            "GET catalogue",
            Answer(405, {}, problem("UNSUPPORTED", "The operation is unsupported.")),
            "no catalogue in the distribution protocol",
            "`Unsupported`; repositories are named in the configuration",
            "google/go-containerregistry#681",
            "2020-02",
        ),
        Row(
            "page-1000",
            "GET tags",
            Answer(
                400, {}, problem("PAGINATION_NUMBER_INVALID", "Invalid parameter at 'maxResults': must be at most 1000")
            ),
            "more than 1,000 tags at once are refused",
            "1,000 are asked for",
            "google/go-containerregistry#681",
            "2020-02",
            When(above=("n", 1000)),
            ("GET", "/v2/{signed}/tags/list?n=10000", {"Authorization": "Basic QVdTOnRva2Vu"}),
        ),
        Row(
            "no-repository",
            "POST uploads",
            Answer(
                404,
                {},
                problem("NAME_UNKNOWN", "The repository with name '{repository}' does not exist in the registry"),
            ),
            "a repository must exist before a push, unless a creation template makes it; some regions only cut the "
            "connection",
            "`NotFound`, `Unavailable` where the connection is cut",
            "aws/containers-roadmap#1970; botocore's model of ECR, RepositoryNotFoundException",
            "2023-03",
            When(missing="repository"),
        ),
        Row(
            "mount-uncommitted",
            "POST uploads",
            Ask(drop=("mount", "from")),
            "mounting is an account's option, and then only for blobs that a manifest of the source names",
            "not an error: the content is sent",
            "aws/containers-roadmap#2860",
            "2026-07",
            When(query="mount"),
        ),
        Row(
            "chunk-201",
            "PATCH upload",
            Change(status=201),
            "a chunk is answered with 201, not 202",
            "both are taken",
            "jdx/mise#11376, cirruslabs/tart#273",
            "2026-06",
            When(status=202),
        ),
        Row(
            "stuck-range",
            "PATCH|GET upload",
            StuckRange(),
            "`Range` stays at the end of the first chunk, though all bytes are kept",
            "our own offset counts; a status behind it proves nothing",
            "aws/containers-roadmap#2831",
            "2026-06",
        ),
        Row(
            "no-cancel",
            "DELETE upload",
            Answer(405, {}, problem("UNSUPPORTED", "The operation is unsupported.")),
            "an upload cannot be cancelled",
            "left to ECR, which drops it",
            "botocore's model of ECR: there is no such operation",
            "2026-11",
        ),
        Row(
            "index-complete",
            "PUT manifest",
            Answer(
                400,
                {},
                problem(
                    "MANIFEST_INVALID",
                    "Images with digests '[sha256:0]' required for pushing image into repository do not exist",
                ),
            ),
            "an index is taken only when all its manifests are there (ReferencedImagesNotFound)",
            "children first; with platforms chosen the advice is `selection: rewritten`",
            "botocore's model of ECR, ReferencedImagesNotFoundException",
            "2026-11",
            When(children=True),
        ),
        Row(
            "immutable",
            "PUT manifest",
            Answer(
                400,
                {},
                problem(
                    "TAG_INVALID",
                    "The image tag '{reference}' already exists in the '{repository}' repository and cannot be "
                    "overwritten because the tag is immutable.",
                ),
            ),
            "an immutable tag is 400 TAG_INVALID",
            "`TagImmutable`",
            "moby/buildkit#3776",
            "2023-04",
            When(taken=True, reference="fixed-.*"),
        ),
    ),
    finds={"referrers_api": True, "chunked_upload": True, "range_reads": True},
    source={"catalogue": Cell("no catalogue", "Unsupported")},
)
