"""CNCF distribution (docker-registry): 2.8, and 3 with the S3 driver."""

from dataclasses import replace

from tests.doubles.families.table import Answer, Cell, Family, HidePrefixed, Row, Signed, When, problem

SEEN = "seen with docker-registry 2.8.2 and 2.8.3"
_OCI = r"application/vnd\.oci\.image\.(index|manifest)\.v1\+json"

NO_REFERRERS = Row(
    "no-referrers",
    "GET referrers",
    Answer(404, {"Content-Type": "text/plain; charset=utf-8"}, "404 page not found\n"),
    "there is no referrers API (404)",
    "the fallback tag is read and kept up to date, also on delete",
    SEEN + "; distribution/distribution#3859",
    "2026-11",
)
NO_TAG_DELETE = Row(
    "delete-by-digest",
    "DELETE manifest",
    Answer(400, {}, problem("DIGEST_INVALID", "provided digest did not match uploaded content")),
    "a tag cannot be deleted",
    "`Unsupported`; the manifest is deleted by digest",
    SEEN,
    "2026-11",
    When(reference="[^:]+"),
)
INDEX_COMPLETE = Row(
    "index-complete",
    "PUT manifest",
    Answer(400, {}, problem("MANIFEST_BLOB_UNKNOWN", "blob unknown to registry")),
    "an index is taken only when all its manifests are there",
    "children first; with platforms chosen the advice is `selection: rewritten`",
    SEEN,
    "2026-11",
    When(children=True),
)
EMPTIED = Row(
    "emptied-repository",
    "GET tags",
    Answer(404, {}, problem("NAME_UNKNOWN", "repository name not known to registry")),
    "a repository without tags is in the catalogue, and its list is 404 NAME_UNKNOWN",
    "no tags, where the name is from the catalogue; a name that a person wrote stays an error",
    SEEN + "; distribution/distribution#4324",
    "2026-11",
    When(name="emptied"),
)

DISTRIBUTION_2 = Family(
    name="distribution-2.8",
    title="distribution 2.8 (docker-registry)",
    rows=(
        NO_REFERRERS,
        NO_TAG_DELETE,
        INDEX_COMPLETE,
        EMPTIED,
        Row(
            "accept",
            "GET|HEAD manifest",
            Answer(
                404, {}, problem("MANIFEST_UNKNOWN", "OCI index found, but accept header does not support OCI indexes")
            ),
            "an OCI manifest is 404 to whoever does not name its type in `Accept`; `*/*` does not count",
            "all types are named, in HEAD as in GET",
            SEEN,
            "2026-11",
            When(type=_OCI, header=("Accept", r"^(?!.*application/vnd\.oci\.image)")),
            ("HEAD", "/v2/{signed}/manifests/v1", {"Accept": "*/*"}),
        ),
    ),
    finds={"referrers_api": False, "chunked_upload": True, "range_reads": True},
)

DISTRIBUTION_3 = Family(
    name="distribution-3-s3",
    title="distribution 3 with the S3 driver",
    tags=("0.1.2", "0.1.20", "0.1.3"),
    hidden=("0.1.20",),
    source={
        "sync": Cell("a tag that the list hides is found when it is named, or among 20 versions and more", lost=True),
        "mirror": Cell("a tag that the list hides is found when it is named, or among 20 versions and more", lost=True),
    },
    rows=(
        replace(NO_REFERRERS, source="oras-project/rust-oci-client#259", date="2026-05"),
        replace(
            INDEX_COMPLETE,
            source="distribution/distribution docs/content/about/configuration.md, `validation.manifests.indexes`",
            date="2026-03",
        ),
        Row(
            "hidden-tag",
            "GET tags",
            HidePrefixed(),
            "a tag that goes on with a letter, digit or `_` where another ends (0.1.20 beside 0.1.2) is missing from "
            "the list, 3.1.0 and 3.1.1",
            "a tag that is named is asked for; retention asks behind each tag, syncs where a list looks as if it hid "
            "some",
            "distribution/distribution#4891, #4898",
            "2026-06",
        ),
        Row(
            "signed-blobs",
            "GET blob",
            Signed(307),
            "blobs are redirected to signed addresses that answer HEAD with 403",
            "followed without credentials; asking whether a blob is there is a HEAD to the registry itself",
            "distribution/distribution docs/content/about/configuration.md, `redirect`",
            "2026-03",
        ),
        Row(
            "pagination-number",
            "GET tags|catalogue",
            Answer(400, {}, problem("PAGINATION_NUMBER_INVALID", "invalid number of results requested")),
            "more than `maxtags` (1,000 unless configured) at once is refused",
            "1,000 are asked for at most",
            "distribution/distribution registry/handlers/tags.go at 03f35e2",
            "2026-05",
            When(above=("n", 1000)),
            ("GET", "/v2/{signed}/tags/list?n=1001", {}),
        ),
    ),
    finds={"referrers_api": False, "chunked_upload": True, "range_reads": True},
)
__all__ = ["DISTRIBUTION_2", "DISTRIBUTION_3"]
