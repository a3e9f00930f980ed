"""GitLab CI: a file for each image, which the project's ``.gitlab-ci.yml`` includes.

Source: GitLab's "CI/CD YAML syntax reference" (``id_tokens``, ``rules:changes``, ``resource_group``), "Configure OpenID
Connect in AWS" and "Configure OpenID Connect with GCP Workload Identity Federation".
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

from registry_pipelines.progress import count_text
from registry_pipelines.report.pipelines.job import Job, glob_expression, quoted, quoted_list, version_script
from registry_pipelines.report.pipelines.kept import Line, Yours

AWS_AUDIENCE = "sts.amazonaws.com"
"""What AWS's identity providers expect unless they were told another."""


def path(job: Job) -> str:
    """From the repository's root."""
    return f".gitlab/image-{job.image}.gitlab-ci.yml"


def lines(job: Job) -> list[Line]:
    """The file."""
    settings = job.settings
    name = f"image-{job.image}"
    return [
        f"{quoted(name)}:",
        "  image:",
        f"    name: {quoted(settings.container or '')}",
        '    entrypoint: [""]',
        "  rules:",
        *(
            [f"    - if: {quoted(f'$CI_COMMIT_TAG =~ /{_within(glob_expression(settings.git_tags))}/')}"]
            if settings.git_tags
            else []
        ),
        f"    - if: {quoted(f'$CI_COMMIT_BRANCH == {json.dumps(settings.branch)}')}",
        "      changes:",
        "        paths:",
        *(f"          - {quoted(each)}" for each in (*job.paths, path(job))),
        Yours("rules", 4, "more rules"),
        *([f"  tags: {quoted_list([settings.runner])}"] if settings.runner else []),
        f"  resource_group: {quoted(name)}",
        f"  timeout: {count_text(job.minutes, 'minute')}",
        "  interruptible: false",
        *_tokens(job),
        "  variables:",
        '    GIT_DEPTH: "0"',
        *_variables(job),
        "  script:",
        *_logins(job),
        Yours("before", 4, "lines of the script"),
        *(f"    - {quoted(each)}" for each in version_script("CI_COMMIT_TAG", settings.version)),
        f"    - {quoted(job.ship)}",
        Yours("after", 4, "lines of the script"),
        Yours("jobs", 0, "more jobs"),
    ]


def _within(expression: str) -> str:
    """Between slashes."""
    return expression.replace("/", "\\/")


def _tokens(job: Job) -> Iterator[str]:
    aws, google = job.settings.aws, job.settings.google
    provider = google.provider if google is not None else None
    if aws is None and provider is None:
        return
    yield "  id_tokens:  # who this is, for the roles below; no key is kept here"
    if aws is not None:
        yield "    AWS_ID_TOKEN:"
        yield f"      aud: {quoted(AWS_AUDIENCE)}"
    if provider is not None:
        yield "    GOOGLE_ID_TOKEN:"
        yield f"      aud: {quoted(f'https://iam.googleapis.com/{provider}')}"


def _variables(job: Job) -> Iterator[str]:
    if (aws := job.settings.aws) is not None:
        yield f"    AWS_ROLE_ARN: {quoted(aws.role)}"
        yield f"    AWS_REGION: {quoted(aws.region)}"
        yield f"    AWS_ROLE_SESSION_NAME: {quoted(f'image-{job.image}'[:64])}"
    for name, value in job.variables.items():
        yield f"    {name}: {quoted(value.replace('$', '$$'))}"


def _logins(job: Job) -> Iterator[str]:
    """Tokens as files that only this job reads; the SDKs of both clouds take it from there."""
    google = job.settings.google
    commands: list[str] = []
    if job.settings.aws is not None:
        commands += [
            'printf %s "$AWS_ID_TOKEN" > "$identity/aws"',
            'export AWS_WEB_IDENTITY_TOKEN_FILE="$identity/aws"',
        ]
    if google is not None and google.provider is not None:
        before, after = external_account(google.provider, google.service_account, "@").split("@FILE@")
        commands += [
            'printf %s "$GOOGLE_ID_TOKEN" > "$identity/google"',
            f'printf %s%s%s {shlex.quote(before)} "$identity/google" {shlex.quote(after)} > "$identity/google.json"',
            'export GOOGLE_APPLICATION_CREDENTIALS="$identity/google.json"',
        ]
    if commands:
        yield from (f"    - {quoted(each)}" for each in ("identity=$(mktemp -d)", *commands))


def external_account(provider: str, service_account: str, mark: str) -> str:
    """The file with which Google's libraries exchange a token (google.aip.dev/auth/4117), with the place of the token's
    file as ``<mark>FILE<mark>``."""
    impersonated = (
        f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{service_account}:generateAccessToken"
    )
    return json.dumps(
        {
            "type": "external_account",
            "audience": f"//iam.googleapis.com/{provider}",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": {"file": f"{mark}FILE{mark}"},
            "service_account_impersonation_url": impersonated,
        }
    )


__all__ = ["external_account", "lines", "path"]
