"""GitLab's container registry."""

from tests.doubles.families.table import Answer, Ask, Cell, Family, Row, When, challenge, problem

REPORT = "oras-project/oras-go#1396, shown on registry.gitlab.com"

GITLAB = Family(
    name="gitlab",
    title="GitLab (registry.gitlab.com)",
    repository="group/project/{name}",
    user=("gitlab-ci-token", "glpat"),
    rows=(
        Row(
            "token",
            "* catalogue|ping|tags|manifest|blob|uploads|upload|referrers",
            challenge("{elsewhere}/token", "container_registry"),
            "tokens come from GitLab's own host; none is given for the catalogue",
            "the password goes to the token service alone; the catalogue is `Unsupported`",
            "docs.gitlab.com, container registry: authentication",
            "2026-05",
            When(allowed=False),
        ),
        Row(
            "no-referrers",
            "GET referrers",
            Answer(404, {"Content-Type": "text/plain; charset=utf-8"}, "404 page not found\n"),
            "there is no referrers API (404)",
            "the fallback tag is read and kept",
            REPORT,
            "2026-09",
        ),
        Row(
            "tag-is-digest",
            "GET|HEAD manifest",
            Ask(reference=r"sha256:\1"),
            "a tag `sha256-<hex>` that is not there is read as the digest: the fallback tag gives the image itself",
            "what has the subject's digest is no list of referrers: none for reading, begun anew for writing",
            REPORT,
            "2026-09",
            When(reference="sha256-([0-9a-f]{64})", missing="content"),
        ),
        Row(
            "delete-by-digest",
            "DELETE manifest",
            Answer(400, {}, problem("DIGEST_INVALID", "provided digest did not match uploaded content")),
            "a manifest is deleted by digest through this API",
            "as everywhere",
            "docs.gitlab.com, container registry: delete images",
            "2026-05",
            When(reference="[^:]+"),
        ),
    ),
    peers={
        f"{role} oras": Cell("takes no token service at a loopback address, where the double's is", "bearer realm host")
        for role in ("source", "target")
    },
    finds={"referrers_api": False, "chunked_upload": True, "range_reads": True},
    source={"catalogue": Cell("no token is given for it", "Unsupported")},
)
