"""AWS CodeBuild: a build specification for each image, and the webhook that runs it.

Source: AWS's "Build specification reference for CodeBuild" (version 0.2) and the API's ``UpdateWebhook``. The role is
that of the project; a Dockerfile needs its ``privilegedMode``.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

from registry_pipelines.report.pipelines.job import Job, glob_expression, path_expression, quoted, version_script
from registry_pipelines.report.pipelines.kept import Line, Yours


def path(job: Job) -> str:
    """From the repository's root."""
    return f"codebuild/image-{job.image}.buildspec.yml"


def lines(job: Job) -> list[Line]:
    """The specification."""
    settings = job.settings
    # A webhook's pushes of tags have the tag's name in the reference alone.
    tag = (
        'reference="${CODEBUILD_WEBHOOK_HEAD_REF:-}"',
        'case "$reference" in refs/tags/*) git_tag="${reference#refs/tags/}" ;; *) git_tag= ;; esac',
    )
    return [
        "version: 0.2",
        *_environment(job),
        "phases:",
        "  install:",
        *([] if settings.container else ["    runtime-versions:", f"      python: {quoted(settings.python)}"]),
        "    commands:",
        *(
            []
            if settings.container
            else [f"      - {quoted(f'python -m pip install {chr(39)}{job.package}{chr(39)}')}"]
        ),
        Yours("install", 6, "commands"),
        "  build:",
        "    on-failure: ABORT",
        "    commands:",
        Yours("before", 6, "commands"),
        "      - |",
        "        set -eu",
        *(f"        {each}" for each in (*tag, *version_script("git_tag", settings.version), job.ship)),
        Yours("after", 6, "commands"),
        Yours("more", 0, "reports, artifacts, cache"),
    ]


def webhook(job: Job) -> str:
    """The command that says which pushes run it. CodeBuild keeps that beside the project, not in the file."""
    settings = job.settings
    touched = "|".join(path_expression(each) for each in (*job.paths, path(job)))
    groups = [
        [
            {"type": "EVENT", "pattern": "PUSH"},
            {"type": "HEAD_REF", "pattern": f"^refs/heads/{glob_expression(settings.branch)[1:]}"},
            {"type": "FILE_PATH", "pattern": touched},
        ]
    ]
    if settings.git_tags:
        reference = f"^refs/tags/{glob_expression(settings.git_tags)[1:]}"
        groups.append([{"type": "EVENT", "pattern": "PUSH"}, {"type": "HEAD_REF", "pattern": reference}])
    name = f"image-{job.image}"
    words = ("aws", "codebuild", "update-webhook", "--project-name", name, "--filter-groups", json.dumps(groups))
    return shlex.join(words)


def _environment(job: Job) -> Iterator[str]:
    if not job.variables and not job.settings.secrets:
        return
    yield "env:"
    if job.variables:
        yield "  variables:"
        yield from (f"    {name}: {quoted(value)}" for name, value in job.variables.items())
    if job.settings.secrets:
        yield "  secrets-manager:"
        yield from (f"    {name}: {quoted(name)}" for name in job.settings.secrets)


__all__ = ["lines", "path", "webhook"]
