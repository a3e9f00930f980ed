"""Sonatype Nexus Repository 3."""

import json

from tests.doubles.families.table import Answer, Change, Family, Row, When, problem

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
            "no referrers API is announced; 404 is assumed",
            "the fallback tag is read and kept",
            "nothing in Sonatype's public threads (sonatype/nexus-public) or help pages names one",
            "2026-11",
        ),
        Row(
            "second-comer",
            "PUT upload",
            Change(
                status=400,
                body=json.dumps(
                    problem("BLOB_UPLOAD_INVALID", "blob upload invalid", "docker/v2/-/blobs cannot be updated")
                ),
            ),
            "with redeploys disabled, of two clients that send one blob at the same time the second is refused (400)",
            "after a refusal the blob is asked for: what is there is done",
            "sonatype/nexus-public#967",
            "2026-09",
            When(name="raced", status=201),
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
