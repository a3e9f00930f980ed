"""GitHub Actions: a workflow for each image.

Source: GitHub's "Workflow syntax for GitHub Actions", "Security hardening for GitHub Actions" (actions by commit, the
token's permissions by job, names of refs never within scripts) and "Configuring OpenID Connect".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from registry_pipelines.report.pipelines.job import Job, quoted, quoted_list, version_script
from registry_pipelines.report.pipelines.kept import Line, Yours

ACTIONS: Mapping[str, tuple[str, str]] = {
    "actions/checkout": ("3d3c42e5aac5ba805825da76410c181273ba90b1", "v7.0.1"),
    "actions/setup-python": ("5fda3b95a4ea91299a34e894583c3862153e4b97", "v7.0.0"),
    "aws-actions/configure-aws-credentials": ("e6de054238d6b7531b4efff3b6587d9aade6a06c", "v6.2.3"),
    "google-github-actions/auth": ("7c6bc770dae815cd3e89ee6cdf493a5fab2cc093", "v3.0.0"),
}
"""Each action's commit and the tag that named it, as their repositories had them in November 2026."""

RUNNER = "ubuntu-24.04"


def path(job: Job) -> str:
    """From the repository's root."""
    return f".github/workflows/image-{job.image}.yml"


def lines(job: Job) -> list[Line]:
    """The workflow."""
    settings = job.settings
    tags = [f"    tags: {quoted_list([settings.git_tags])}"] if settings.git_tags else []
    container = [f"    container: {quoted(settings.container)}"] if settings.container else []
    return [
        f"name: {quoted(f'image {job.image}')}",
        "on:",
        "  push:",
        f"    branches: {quoted_list([settings.branch])}",
        *tags,
        "    paths:  # of pushes to the branch; a tag counts whatever it touches" if tags else "    paths:",
        *(f"      - {quoted(each)}" for each in (*job.paths, path(job))),
        "  workflow_dispatch: {}",
        Yours("triggers", 2, "more of `on`"),
        "permissions: {}",
        "concurrency:",
        "  # Of each ref: a waiting run gives way to the next, and no tag's may be lost.",
        f"  group: {quoted(f'image-{job.image}-${{{{ github.ref }}}}')}",
        "  cancel-in-progress: false",
        "jobs:",
        "  ship:",
        f"    name: {quoted(f'Make {job.image}')}",
        f"    runs-on: {quoted(settings.runner or RUNNER)}",
        *container,
        f"    timeout-minutes: {job.minutes}",
        f"    environment: {quoted(settings.environment)}",
        "    permissions:",
        "      contents: read",
        "      id-token: write  # who this is, for the roles below; no key is kept here",
        *_environment(job),
        "    steps:",
        *_uses("actions/checkout", job, {"fetch-depth": "0", "persist-credentials": "false"}),
        *_install(job),
        *_logins(job),
        Yours("before", 6, "steps"),
        "      - name: Version",
        "        env:",
        "          GIT_TAG: ${{ github.ref_type == 'tag' && github.ref_name || '' }}",
        "        run: |",
        *(f"          {each}" for each in version_script("GIT_TAG", settings.version)),
        f'          echo "{settings.version}=$version" >> "$GITHUB_ENV"',
        f"      - name: {quoted(f'Up to the stage {settings.until}')}",
        f"        run: {quoted(job.ship)}",
        Yours("after", 6, "steps"),
        Yours("jobs", 2, "more jobs"),
    ]


def _environment(job: Job) -> Iterator[str]:
    if not job.variables and not job.settings.secrets:
        return
    yield "    env:"
    for name, value in job.variables.items():
        yield f"      {name}: {quoted(_literal(value))}"
    for name in job.settings.secrets:
        yield f"      {name}: ${{{{ secrets.{name} }}}}"


def _literal(text: str) -> str:
    """Text as it is, whose ``${{`` begins no expression."""
    return text.replace("${{", "${{ '${{' }}")


def _install(job: Job) -> Iterator[str]:
    if job.settings.container:
        return
    yield from _uses("actions/setup-python", job, {"python-version": quoted(job.settings.python)})
    yield "      - name: Install"
    yield (
        f"        run: python -m pip install {quoted(job.package)[1:-1]}"
        if "[" not in job.package
        else (f"        run: {quoted(f'python -m pip install {chr(39)}{job.package}{chr(39)}')}")
    )


def _logins(job: Job) -> Iterator[str]:
    if (aws := job.settings.aws) is not None:
        options = {"role-to-assume": quoted(aws.role), "aws-region": quoted(aws.region)}
        name = quoted(f"image-{job.image}"[:64])
        yield from _uses("aws-actions/configure-aws-credentials", job, {**options, "role-session-name": name})
    if (google := job.settings.google) is not None and google.provider:
        options = {"workload_identity_provider": quoted(google.provider)}
        account = quoted(google.service_account)
        yield from _uses("google-github-actions/auth", job, {**options, "service_account": account})


def _uses(action: str, job: Job, options: Mapping[str, str]) -> Iterator[str]:
    commit, tag = ACTIONS[action]
    own = job.settings.actions.get(action)
    yield f"      - uses: {action}@{own or commit}" + ("" if own else f" # {tag}")
    yield "        with:"
    for name, value in options.items():
        yield f"          {name}: {value}"


__all__ = ["ACTIONS", "lines", "path"]
