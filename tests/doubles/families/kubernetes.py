"""registry.k8s.io."""

from tests.doubles.families.table import PEERS, Answer, Cell, Family, Row, When

HANDLERS = "kubernetes/registry.k8s.io cmd/archeio/internal/app/handlers.go at 4c89177"
READ_ONLY = Cell("read only", "Unsupported")

KUBERNETES = Family(
    name="registry-k8s-io",
    title="registry.k8s.io",
    read_only=True,
    rows=(
        Row(
            "read-only",
            "POST|PUT|PATCH|DELETE *",
            Answer(405, {"Content-Type": "text/plain; charset=utf-8"}, "Only GET and HEAD are allowed.\n"),
            "nothing can be written",
            "`Unsupported`",
            HANDLERS,
            "2026-08",
        ),
        Row(
            "ping-token",
            "GET ping",
            Answer(
                401,
                {"WWW-Authenticate": 'Bearer realm="{here}/token",service="registry.k8s.io"'},
                "authentication required\n",
            ),
            "`/v2/` wants a token that is no log-in but a trace; all else needs none",
            "the token is fetched where `/v2/` is asked, and never sent to another host",
            HANDLERS,
            "2026-08",
            When(allowed=False),
        ),
        Row(
            "no-catalogue",
            "GET catalogue",
            Answer(404, {"Content-Type": "text/plain; charset=utf-8"}, "_catalog is not supported\n"),
            "there is no catalogue",
            "`Unsupported`; repositories are named in the configuration",
            HANDLERS,
            "2026-08",
        ),
        Row(
            "redirects",
            "GET|HEAD manifest|tags|referrers",
            Answer(307, {"Location": "{elsewhere}/v2/far{rest}"}),
            "manifests, tags and referrers are redirected (307) to an Artifact Registry, below a longer path; its "
            "pages have relative links",
            "followed for GET and HEAD; a relative `Link` belongs to the address that answered",
            HANDLERS,
            "2026-08",
        ),
        Row(
            "blobs-elsewhere",
            "GET|HEAD blob",
            Answer(307, {"Location": "{elsewhere}/v2/far{rest}"}),
            "blobs are redirected (307) to an object store near the client",
            "followed without credentials",
            HANDLERS,
            "2026-08",
        ),
    ),
    peers={f"target {program}": Cell("read only", "405") for program in PEERS},
    finds={},
    source={
        "probe": READ_ONLY,
        "catalogue": Cell("no catalogue", "Unsupported"),
        "sbom": READ_ONLY,
        "sign": READ_ONLY,
        "judge": READ_ONLY,
        "promote": Cell("read only", "PromotionDenied"),
        "verify": Cell("signed by its own project, with keys that are not ours", "EvidenceMissing"),
        "collect": Cell("read only", "Refusals"),
    },
    target={
        "copy": READ_ONLY,
        "sync": Cell("read only", "Refusals"),
        "replicate": READ_ONLY,
        "verify": Cell("nothing was copied"),
        "mirror": Cell("read only", "Refusals"),
        "collect": Cell("nothing was copied"),
    },
)
