"""Cloud Build: a build file for each image, and the trigger that runs it.

Source: Google's "Build configuration file schema" and the API's ``Build`` and ``BuildTrigger``. A build has no folder
``.git`` when its trigger is of a connected repository: the version of a push to a branch is the build's own time and
the commit that Cloud Build names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from registry_pipelines.report.pipelines.job import Job, glob_expression, quoted, quoted_list
from registry_pipelines.report.pipelines.kept import Line, Yours

MOST_NAME = 64
"""Characters of a trigger's name."""


def path(job: Job) -> str:
    """From the repository's root."""
    return f"cloudbuild/image-{job.image}.yaml"


def trigger_path(job: Job, on: str) -> str:
    """The same of the trigger for pushes to the ``branch`` or of a ``tag``."""
    return f"cloudbuild/image-{job.image}.{on}.trigger.yaml"


def lines(job: Job) -> list[Line]:
    """The build."""
    settings = job.settings
    script = [
        'version="${TAG_NAME:-}"',
        'if [ -z "$version" ]; then version="$(date -u +%Y.%m.%d-%H%M%S)-g$(printf %.12s "$COMMIT_SHA")"; fi',
        f'export {settings.version}="$version"',
        job.ship,
    ]
    return [
        "steps:",
        Yours("before", 2, "steps"),
        f"  - name: {quoted(settings.container or '')}",
        f"    id: {quoted(f'image-{job.image}')}",
        "    automapSubstitutions: true",
        *_environment(job),
        *([f"    secretEnv: {quoted_list(settings.secrets)}"] if settings.secrets else []),
        "    script: |",
        "      #!/bin/sh",
        "      set -eu",
        *(f"      {each}" for each in script),
        Yours("after", 2, "steps"),
        f"timeout: {job.minutes * 60}s",
        *_account(job),
        *_secrets(job),
        "options:",
        "  logging: CLOUD_LOGGING_ONLY",
        Yours("options", 2, "more options"),
    ]


def trigger(job: Job, on: str) -> list[Line]:
    """For ``gcloud builds triggers import --source=FILE``; which repository it is about, people write."""
    settings = job.settings
    event = (
        ["    tag: " + quoted(glob_expression(settings.git_tags or ""))]
        if on == "tag"
        else ["    branch: " + quoted(glob_expression(settings.branch))]
    )
    included = [] if on == "tag" else ["includedFiles:", *(f"  - {quoted(each)}" for each in (*job.paths, path(job)))]
    return [
        f"name: {quoted(_trigger_name(job.image, on))}",
        f"filename: {quoted(path(job))}",
        *included,
        *_account(job),
        "repositoryEventConfig:",
        "  push:",
        *event,
        Yours("repository", 2, "repository: projects/PROJECT/locations/REGION/connections/NAME/repositories/NAME"),
    ]


def _trigger_name(image: str, on: str) -> str:
    """At most 64 characters, and of each image and event another one: who imports a name again replaces what had it."""
    name = f"image-{image}-{on}"
    if len(name) <= MOST_NAME:
        return name
    return f"image-{image[:40].rstrip('-_')}-{hashlib.sha256(image.encode()).hexdigest()[:8]}-{on}"


def _environment(job: Job) -> Iterator[str]:
    if job.variables:
        yield "    env:"
        for name, value in job.variables.items():
            yield f"      - {quoted(f'{name}={value}'.replace('$', '$$'))}"


def _account(job: Job) -> Iterator[str]:
    if (google := job.settings.google) is not None:
        project = google.service_account.partition("@")[2].partition(".")[0]
        yield f"serviceAccount: {quoted(f'projects/{project}/serviceAccounts/{google.service_account}')}"


def _secrets(job: Job) -> Iterator[str]:
    if not job.settings.secrets:
        return
    yield "availableSecrets:"
    yield "  secretManager:"
    for name in job.settings.secrets:
        yield f"    - versionName: {quoted(f'projects/$PROJECT_ID/secrets/{name}/versions/latest')}"
        yield f"      env: {quoted(name)}"


__all__ = ["lines", "path", "trigger", "trigger_path"]
