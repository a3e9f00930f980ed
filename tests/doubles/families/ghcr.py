"""GitHub Container Registry."""

from tests.doubles.families.table import Answer, Cell, Family, Row, When, challenge, problem

NO_CATALOGUE = Row(
    "no-catalogue",
    "GET catalogue",
    Answer(404, {"Content-Type": "text/plain; charset=utf-8"}, "404 page not found\n"),
    "there is no catalogue",
    "`Unsupported`; repositories are named in the configuration",
    "microsoft/vscode-docker#1525",
    "2020-01",
)

GHCR = Family(
    name="ghcr",
    title="GitHub Container Registry (ghcr.io)",
    repository="owner/{name}",
    user=("owner", "ghp_token"),
    rows=(
        Row(
            "token",
            "* ping|tags|manifest|blob|uploads|upload|referrers",
            challenge("{here}/token", "ghcr.io"),
            "everything needs a token, public images too; the token service is on the same host",
            "a token per set of scopes, without credentials for what is public",
            "distribution's token specification; dataaxiom/ghcr-cleanup-action#13",
            "2024-05",
            When(allowed=False),
        ),
        NO_CATALOGUE,
        Row(
            "referrers-303",
            "GET referrers",
            Answer(303, {"Location": "{elsewhere}/-/v2/packages/container/package/{repository}%2Freferrers%2Fsha256"}),
            "the referrers API redirects (303) to a page of github.com, which answers 404 or 429",
            'followed without credentials; what another host answers and is no index means "no API": the fallback tag '
            "is read and kept",
            "project-zot/zot#4060, docker/hub-feedback#4785",
            "2026-04",
        ),
        Row(
            "tag-not-deleted",
            "DELETE manifest|blob",
            Answer(405, {}, problem("UNSUPPORTED", "The operation is unsupported.")),
            "nothing is deleted through the registry's API; GitHub's own API deletes package versions",
            "`Unsupported`",
            "containers/skopeo#1880; okxlin/docker-mirror-monitor#13",
            "2026-08",
        ),
    ),
    finds={"referrers_api": False, "chunked_upload": True, "range_reads": True},
    source={
        "catalogue": Cell("no catalogue", "Unsupported"),
        "collect": Cell("deletes nothing through the registry's API", "Refusals"),
    },
    target={"collect": Cell("deletes nothing through the registry's API", "Refusals")},
)
