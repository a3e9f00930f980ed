"""Sonatype Nexus Repository 3."""

from tests.doubles.families.table import Answer, Ask, Family, Row, When, problem

NEXUS = Family(
    name="nexus",
    title="Sonatype Nexus 3",
    user=("ci", "secret"),
    rows=(
        Row(
            "basic",
            "* *",
            Answer(
                401,
                {"WWW-Authenticate": 'BASIC realm="Sonatype Nexus Repository Manager"'},
                problem("UNAUTHORIZED", "access to the requested resource is not authorized"),
            ),
            "basic log-in, the scheme in capitals",
            "schemes are read in any case",
            "sonatype/nexus-public#967",
            "2026-04",
            When(allowed=False),
        ),
        Row(
            "no-referrers",
            "GET referrers",
            Answer(404, {"Content-Type": "text/html"}, "<!DOCTYPE html><title>404 - Nexus Repository</title>"),
            "there is no referrers API (404)",
            "the fallback tag is read and kept",
            "sonatype/nexus-public#967",
            "2026-04",
        ),
        Row(
            "mount-ignored",
            "POST uploads",
            Ask(drop=("mount", "from")),
            "mounts open an upload (202)",
            "not an error: the content is sent",
            "sonatype/nexus-public#967",
            "2026-04",
            When(query="mount"),
        ),
        Row(
            "redeploy",
            "PUT manifest",
            Answer(
                400,
                {},
                problem(
                    "BLOB_UPLOAD_INVALID", "blob upload invalid", "Repository does not allow updating assets: docker"
                ),
            ),
            "with redeploys disabled a tag that exists is refused as a bad blob upload (400)",
            "`TagImmutable`",
            "GoogleContainerTools/jib#3057, #2395",
            "2021-02",
            When(taken=True, reference="fixed-.*"),
        ),
    ),
    finds={"referrers_api": False, "chunked_upload": True, "range_reads": True},
)
