"""What stands in docs/iam.md of the table of permissions (tests/pages.py writes it)."""

from __future__ import annotations

import json

from registry_pipelines.registry.permissions import Scope, aws_policy, google_roles, names, needed, operations

EXAMPLES = {
    "A reader: nodes, `scan`, `verify`, the source of a copy": ("pull", "list"),
    "The pipeline: build, sign with KMS, promote, copy": (
        "push",
        "list",
        "sign-kms",
        "verify-kms",
        "create-repository",
    ),
    "Retention": ("delete", "list", "usage"),
    "The push sensor": ("events", "list"),
    "Drift: read only, on a schedule": ("settings-read",),
}
"""Roles that people make, each of some operations."""


def table() -> str:
    """A row for each operation."""
    lines = ["| operation | what | commands | AWS actions | Google roles |", "|---|---|---|---|---|"]
    for each in operations():
        actions, roles = (
            ", ".join(f"`{name}`" for name in names(grants)) or "none: the cloud has no such thing"
            for grants in (needed("aws", each.operation), needed("google", each.operation))
        )
        lines.append(f"| `{each.operation}` | {each.what} | {each.used_by} | {actions} | {roles} |")
    return "\n".join(lines)


def example(title: str, wanted: tuple[str, ...]) -> str:
    """A policy of AWS and the roles of Google for some operations."""
    scope = Scope(
        account="111122223333", region="eu-west-1", names={"repository": ("team/*",), "queue": ("image-pushes",)}
    )
    policy = json.dumps(aws_policy(wanted, scope), indent=2)
    roles = "\n".join(f"| {on} | `{role}` |" for on, role in google_roles(wanted))
    given = f"| given on | role |\n|---|---|\n{roles}\n" if roles else "Google: nothing.\n"
    return (
        f"### {title}\n\nOperations: {', '.join(f'`{each}`' for each in wanted)}.\n\n```json\n{policy}\n```\n\n{given}"
    )


def page() -> str:
    """What stands below the page's mark."""
    examples = "\n".join(example(title, wanted) for title, wanted in EXAMPLES.items())
    return f"{table()}\n\n## Roles to copy\n\n{examples}"
