"""zot."""

from tests.doubles.families.table import Answer, Change, Family, Row, When, problem

ROUTES = "project-zot/zot pkg/api/routes.go at 005def3"

ZOT = Family(
    name="zot",
    title="zot",
    rows=(
        Row(
            "filters-applied",
            "GET referrers",
            Change(set={"OCI-Filters-Applied": "artifactType"}),
            "referrers are filtered by the server where a type is asked for, and it says so in a header",
            "the header is ignored; types are read from the manifests",
            "project-zot/zot, OCI 1.1 referrers",
            "2026-03",
            When(query="artifactType"),
            ("GET", "/v2/{signed}/referrers/sha256:" + "0" * 64 + "?artifactType=x", {}),
        ),
        Row(
            "range-bytes",
            "PATCH|GET upload",
            Change(set={"Range": "bytes=0-0"}),
            "the `Range` of an upload has `bytes=` in front; versions of 2025 said too little",
            "read with and without `bytes=`; our own offset counts",
            ROUTES + "; regclient/regclient#961",
            "2025-07",
            When(status=202),
        ),
        Row(
            "empty-put-415",
            "POST uploads",
            Answer(415, {}, ""),
            "a blob in one POST is refused unless it is `application/octet-stream`",
            "blobs go by POST and PUT",
            ROUTES,
            "2023-06",
            When(query="digest", header=("Content-Type", "^(?!application/octet-stream)")),
            ("POST", "/v2/{signed}/blobs/uploads/?digest=sha256:" + "0" * 64, {"Content-Type": "text/plain"}),
        ),
        Row(
            "put-without-length",
            "PUT upload",
            Answer(400, {}, problem("BLOB_UPLOAD_INVALID", "blob upload invalid")),
            "a PUT in HTTP's chunked coding is refused (400)",
            "every body has a Content-Length",
            ROUTES,
            "2023-06",
            When(header=("Transfer-Encoding", "chunked")),
            ("PUT", "/v2/{signed}/blobs/uploads/none?digest=sha256:" + "0" * 64, {"Transfer-Encoding": "chunked"}),
        ),
        Row(
            "mount-from-needed",
            "POST uploads",
            Answer(405, {}, ""),
            "a mount without `from` is refused (405)",
            "`from` is always told",
            ROUTES,
            "2023-06",
            When(query="mount", without="from"),
            ("POST", "/v2/{signed}/blobs/uploads/?mount=sha256:" + "0" * 64, {}),
        ),
    ),
    finds={"referrers_api": True, "chunked_upload": True, "range_reads": True},
)
