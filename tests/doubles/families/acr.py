"""Azure Container Registry."""

from tests.doubles.families.table import Answer, Family, Pages, Row, When, challenge, problem

MIB = 1024 * 1024

ACR = Family(
    name="acr",
    title="Azure Container Registry (azurecr.io)",
    user=("00000000-0000-0000-0000-000000000000", "refresh"),
    rows=(
        Row(
            "token",
            "* ping|tags|manifest|blob|uploads|upload|referrers",
            challenge("{here}/token", "{here}", ',error="invalid_token"'),
            "tokens live about 75 minutes, from its own `/oauth2/token`",
            "renewed before they end; a refresh token is exchanged by the OAuth2 form",
            "Azure/azure-sdk-for-js, recorded answers of container-registry",
            "2022-04",
            When(allowed=False),
        ),
        Row(
            "body-413",
            "PUT upload",
            Answer(413, {}, "<html><head><title>413 Request Entity Too Large</title></head></html>"),
            "one body above about 20 MB is refused with 413",
            "blobs above 8 MiB go in chunks",
            "goharbor/harbor#21640, #23015; against it Azure/acr#866",
            "2026-03",
            When(body_above=20 * MIB),
            ("PUT", "/v2/{signed}/blobs/uploads/none", {"Content-Length": str(21 * MIB), "Authorization": "{basic}"}),
        ),
        Row(
            "chunk-length",
            "PATCH upload",
            Answer(400, {}, problem("CONTENT_LENGTH_INVALID", "content length must be set")),
            "a chunk in HTTP's chunked coding is refused",
            "a large blob is streamed once; where that is refused it goes in chunks with a length",
            "goharbor/harbor#23016",
            "2026-03",
            When(header=("Transfer-Encoding", "chunked")),
        ),
        Row(
            "range-form",
            "PATCH upload",
            Answer(416, {}, problem("RANGE_INVALID", "the Content-Range header format is invalid")),
            "`Content-Range: bytes 0-99/*` is refused; only `first-last` is read",
            "written as `first-last`, as the specification says",
            "dotnet/sdk-container-builds#258",
            "2022-11",
            When(header=("Content-Range", "bytes")),
            ("PATCH", "/v2/{signed}/blobs/uploads/none", {"Content-Range": "bytes 0-0/*", "Authorization": "{basic}"}),
        ),
        Row(
            "catalogue-100",
            "GET catalogue",
            Pages(100),
            "the catalogue comes in pages of 100 at most",
            "`Link` is followed",
            "regclient/regclient#404",
            "2023-03",
        ),
        Row(
            "resumed-upload",
            "GET upload",
            Answer(404, {}, problem("BLOB_UPLOAD_INVALID", "blob upload invalid")),
            "an upload whose chunk was cut cannot go on",
            "it begins anew",
            "Azure/azure-sdk-for-python#29738",
            "2023-04",
        ),
        Row(
            "locked",
            "PUT manifest",
            Answer(
                405,
                {},
                problem(
                    "REGISTRY_DISALLOWED_OPERATION",
                    "The operation is disallowed on this registry, repository or image. View troubleshooting steps at "
                    "https://aka.ms/acr/faq/#why-does-my-pull-or-push-request-fail-with-disallowed-operation",
                ),
            ),
            "a locked tag, repository or registry is 405 REGISTRY_DISALLOWED_OPERATION",
            "`TagImmutable`, with the command that unlocks it",
            "Azure/azure-sdk-for-net#22827; Azure/acr-cli#70",
            "2021-07",
            When(taken=True, reference="fixed-.*"),
        ),
    ),
    finds={"referrers_api": True, "range_reads": True},
)
