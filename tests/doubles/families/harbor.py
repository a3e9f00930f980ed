"""Harbor, with a project that caches Docker Hub beside it."""

from tests.doubles.families.table import Answer, Cell, Family, ListTagged, Row, When, challenge, problem

REFERRERS = "goharbor/harbor src/server/registry/referrers.go at 22b249c"

HARBOR = Family(
    name="harbor",
    title="Harbor",
    repository="project/{name}",
    user=("robot$project+ci", "secret"),
    rows=(
        Row(
            "token",
            "* ping|tags|manifest|blob|uploads|upload|referrers",
            challenge("{here}/token", "harbor-registry"),
            "tokens are for projects; robots are called `robot$project+name`",
            "the user name is sent as it is",
            "goharbor/harbor#17097",
            "2022-06",
            When(allowed=False),
        ),
        Row(
            "cache-301",
            "GET|HEAD manifest|tags|blob",
            Answer(301, {"Location": "/v2/{project}/library/{image}{tail}"}),
            "in a project that caches Docker Hub, a name of one part is redirected (301) to `library/`",
            "followed; a relative `Location` belongs to the address that answered",
            "goharbor/harbor#23368",
            "2026-06",
            When(name="cache/[^/]+"),
        ),
        Row(
            "accessories",
            "GET referrers",
            ListTagged(),
            "the list of referrers also holds what cosign 2 stored under `.sig` tags, which names no subject",
            "what names no subject is no referrer: left out of the list, said so, copied as the tag it is",
            REFERRERS + "; goharbor/harbor#18412",
            "2023-03",
        ),
        Row(
            "referrers-empty-object",
            "GET referrers",
            Answer(200, {"Content-Type": "application/vnd.oci.image.index.v1+json"}, "{}\n"),
            "the referrers of a digest that is not there are `{}`",
            "an empty list",
            REFERRERS,
            "2025-12",
            When(missing="content"),
        ),
        Row(
            "no-project",
            "POST uploads",
            Answer(404, {}, problem("NOT_FOUND", "project not found: {repository}")),
            "the project must exist, and a name has a project in front",
            "`NotFound`",
            "goharbor/harbor#17097",
            "2022-06",
            When(name="missing/.*|[^/]+"),
        ),
        Row(
            "policy",
            "GET|HEAD manifest",
            Answer(
                412,
                {},
                problem(
                    "PROJECTPOLICYVIOLATION",
                    "current image with 3 vulnerabilities cannot be pulled due to configured policy in 'Prevent images "
                    "with vulnerability severity of High or higher from running.'",
                ),
            ),
            "an image with vulnerabilities, or without a signature, may not be pulled (412)",
            "`Refused`: not missing, and not for want of a permission; the advice names the policy",
            "goharbor/harbor src/server/middleware/vulnerable/vulnerable.go at c50c7dd; goharbor/harbor#18792",
            "2026-08",
            When(name="project/blocked"),
        ),
        Row(
            "quota",
            "PUT manifest",
            Answer(
                403,
                {},
                problem(
                    "DENIED",
                    "adding 1.2 GiB of storage resource, which when updated to current usage of 9.1 GiB will exceed "
                    "the configured upper limit of 10.0 GiB.",
                ),
            ),
            "a project's quota is spent: 403, the reason is in the text alone",
            "`OverQuota`",
            "goharbor/harbor src/pkg/quota/errors.go at c50c7dd; goharbor/harbor#17390",
            "2026-08",
            When(name="project/full"),
        ),
        Row(
            "immutable",
            "PUT manifest",
            Answer(
                412,
                {},
                problem(
                    "PRECONDITION",
                    "Failed to process request due to '{repository}:{reference}' configured as immutable.",
                ),
            ),
            "a tag under an immutability rule is refused with 412",
            "`TagImmutable`",
            "goharbor/harbor src/pkg/immutable error text; goharbor/harbor#9427",
            "2019-10",
            When(taken=True, reference="fixed-.*"),
        ),
    ),
    peers={"source oras": Cell("takes what the list names wrongly, too", lost=True)},
    finds={"referrers_api": True, "chunked_upload": True, "range_reads": True},
)
