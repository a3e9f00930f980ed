"""JFrog Artifactory, repository path method."""

from tests.doubles.families.table import Answer, Cell, Family, Row, When, challenge, problem

ARTIFACTORY = Family(
    name="artifactory",
    title="JFrog Artifactory",
    repository="docker-local/{name}",
    user=("ci", "token"),
    rows=(
        Row(
            "token",
            "* ping|tags|manifest|blob|uploads|upload|referrers",
            challenge("{here}/token", "artifactory.example:443"),
            "the token service is a path of the same host",
            "a token per set of scopes",
            "containerd/containerd#6339",
            "2021-12",
            When(allowed=False),
        ),
        Row(
            "referrers-406",
            "GET referrers",
            Answer(406, {}, {"errors": [{"status": 406, "message": "Not Acceptable"}]}),
            "the referrers API is answered with 406 before 7.90.1",
            '"no API": the fallback tag is read and kept',
            "google/go-containerregistry#1962, #2026; jfrog.com, Use Referrers REST API",
            "2024-10",
        ),
        Row(
            "accept-406",
            "GET tags",
            Answer(406, {}, {"errors": [{"status": 406, "message": "Not Acceptable"}]}),
            "a list asked for with the `Accept` of manifests is 406",
            "lists are asked for without `Accept`",
            "dotnet/sdk-container-builds#382; deitch/docker_registry2#40",
            "2023-03",
            When(header=("Accept", r"vnd\.(docker|oci)")),
            (
                "GET",
                "/v2/{signed}/tags/list",
                {"Accept": "application/vnd.oci.image.index.v1+json", "Authorization": "{basic}"},
            ),
        ),
        Row(
            "mount-refused",
            "POST uploads",
            Answer(405, {}, problem("UNSUPPORTED", "The operation is unsupported.")),
            "mounts are refused; a blob is shared by itself when a manifest names it",
            "not an error: the content is sent",
            "jfrog.com, Artifactory, Docker registry: cross-repository mounts",
            "2026-01",
            When(query="mount"),
        ),
        Row(
            "no-overwrite",
            "PUT manifest",
            Answer(
                403,
                {},
                problem(
                    "MANIFEST_INVALID",
                    "manifest invalid",
                    {"description": "HTTP 403 Forbidden"},
                ),
            ),
            "a tag that the account may not overwrite is 403 with MANIFEST_INVALID",
            "`TagImmutable`; the advice names the permission",
            "GoogleContainerTools/kaniko#1095",
            "2020-03",
            When(taken=True, reference="fixed-.*"),
        ),
    ),
    peers={"source oras": Cell("stops at 406", "Not Acceptable")},
    finds={"referrers_api": False, "chunked_upload": True, "range_reads": True},
)
