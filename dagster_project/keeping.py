"""Reports kept outside Dagster's database, at the URL that the configuration's ``reports`` names.

Buckets are reached through Dagster's own resources for the clouds (dagster-aws, dagster-gcp; extra ``dagster-clouds``),
so credentials, endpoints and time-outs are what those find and what the rest of a Dagster installation uses.
"""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from registry_pipelines.chain.result import StageResult
from registry_pipelines.errors import RegistryPipelinesError, ToolMissing
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.release import Release

JSON = "application/json"


def keep_report(url: str, release: Release, result: StageResult) -> str:
    """Write a release's page below ``url`` (``s3://BUCKET/PREFIX``, ``gs://BUCKET/PREFIX``, ``file:///FOLDER``), over
    the one before; where it is. Raises ToolMissing, LocalError, and errors of ours for what a cloud refuses."""
    parts = urlsplit(url)
    name = "/".join(
        each for each in (parts.path.strip("/"), release.image, f"{release.tag}-{release.digest.hex[:12]}.json") if each
    )
    content = json.dumps({"release": release.key, **result.plain()}, indent=1).encode()
    if parts.scheme == "file":
        path = Path("/", name)
        with local_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, content)
        return path.as_uri()
    where = f"{parts.scheme}://{parts.netloc}/{name}"
    (_to_s3 if parts.scheme == "s3" else _to_gcs)(parts.netloc, name, content, where)
    return where


def _to_s3(bucket: str, name: str, content: bytes, where: str) -> None:
    from registry_pipelines.registry.ecr.failures import translate

    try:
        from dagster_aws.s3 import S3Resource

        S3Resource().get_client().put_object(Bucket=bucket, Key=name, Body=content, ContentType=JSON)
    except Exception as error:
        raise _ours(error, translate, where) from None


def _to_gcs(bucket: str, name: str, content: bytes, where: str) -> None:
    from registry_pipelines.registry.gar.failures import translate

    try:
        from dagster_gcp import GCSResource

        client = GCSResource().get_client()
        client.bucket(bucket).blob(name).upload_from_string(content, content_type=JSON)
    except Exception as error:
        raise _ours(error, translate, where) from None


def _ours(error: Exception, translate: Any, where: str) -> RegistryPipelinesError:
    if isinstance(error, ImportError):
        return ToolMissing(
            "Dagster's resources for clouds are not installed; `reports` needs them",
            where=where,
            do="Install them: pip install 'registry-pipelines[dagster-clouds]'",
        )
    ours: RegistryPipelinesError = translate(error, where=where, doing="keeping a report")
    return ours
