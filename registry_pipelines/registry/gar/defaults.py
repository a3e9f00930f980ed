"""Google's credentials files, and whether there are application default credentials at all.

Files are read here and not by google-auth's own loader: for federated workloads that asks another API of Google's for
the project's name, which fails where only the token services can be reached. Whether there are credentials is looked up
without the network: google-auth asks for the metadata server, and away from Google that cost every pull of a public
image (gcr.io/distroless) up to ten seconds. Sources: google-auth's ``default`` (order, places, forms of files),
AIP-4110 to 4117, and where Cloud Run says that it is Cloud Run (its "Container runtime contract").
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry_pipelines.errors import RegistryPipelinesError, Unauthorized

MAX_FILE_BYTES = 1024 * 1024
_MACHINE = Path("/sys/class/dmi/id/product_name")
_VARIABLES = ("GCE_METADATA_HOST", "K_SERVICE", "CLOUD_RUN_JOB")
_GOOGLE_TOKENS = "https://oauth2.googleapis.com/token"


def default_file(environ: Mapping[str, str] | None = None) -> Path | None:
    """The file of application default credentials: the one that is named, else the one that gcloud left; None."""
    variables = os.environ if environ is None else environ
    if variables.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return Path(variables["GOOGLE_APPLICATION_CREDENTIALS"])
    folder = variables.get("CLOUDSDK_CONFIG") or f"{variables.get('HOME', '')}/.config/gcloud"
    kept = Path(folder, "application_default_credentials.json")
    return kept if kept.is_file() else None


def has_defaults(environ: Mapping[str, str] | None = None, machine: Path = _MACHINE) -> bool:
    """Whether there is a sign of application default credentials: a file, or a machine of Google's. machine: where the
    kernel says what machine this is."""
    variables = os.environ if environ is None else environ
    if default_file(variables) is not None or any(variables.get(name) for name in _VARIABLES):
        return True
    try:
        return variables.get("NO_GCE_CHECK") != "true" and machine.read_text().strip().startswith("Google")
    except (OSError, UnicodeDecodeError):
        return False


def read_credentials(file: Path, scope: str) -> Any:
    """google-auth's credentials of a file: of a service account, a person (gcloud), a federated workload (a file, a
    URL, AWS, a program), or an impersonated account. Raises Unauthorized, what google-auth raises, and ImportError.
    """
    document = _read(file)
    kind = document.get("type")
    if kind == "service_account":
        from google.oauth2 import service_account

        return service_account.Credentials.from_service_account_info(document, scopes=[scope])
    if kind == "authorized_user":
        return _of_person(document, scope)
    if kind == "external_account":
        return _federated(document, scope)
    if kind in ("impersonated_service_account", "external_account_authorized_user"):
        import google.auth

        return google.auth.load_credentials_from_dict(document, scopes=[scope])[0]
    raise _wrong(file, f"its type is {str(kind)[:40]!r}")


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            document = json.loads(stream.read(MAX_FILE_BYTES))
    except OSError as error:
        raise _wrong(file, f"it cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise _wrong(file, "it is no JSON") from None
    if not isinstance(document, dict):
        raise _wrong(file, "it is no JSON object")
    return document


def _wrong(file: Path, why: str) -> RegistryPipelinesError:
    return Unauthorized(
        f"not a file of Google credentials: {why}",
        where=str(file),
        do="Name the JSON file of a service account, of workload identity federation, or of `gcloud auth "
        "application-default login`",
    )


def _of_person(document: Mapping[str, Any], scope: str) -> Any:
    """google-auth's own reader overrides the file's token service, which a private endpoint may have written there."""
    from google.oauth2 import credentials

    return credentials.Credentials(
        None,
        refresh_token=document.get("refresh_token"),
        token_uri=document.get("token_uri") or _GOOGLE_TOKENS,
        client_id=document.get("client_id"),
        client_secret=document.get("client_secret"),
        quota_project_id=document.get("quota_project_id"),
        scopes=[scope],
    )


def _federated(document: Mapping[str, Any], scope: str) -> Any:
    from google.auth import aws, identity_pool, pluggable

    source = document.get("credential_source") or {}
    kinds: Any = identity_pool.Credentials
    if str(source.get("environment_id", "")).startswith("aws"):
        kinds = aws.Credentials
    elif "executable" in source:
        kinds = pluggable.Credentials
    return kinds.from_info(document, scopes=[scope])


__all__ = ["default_file", "has_defaults", "read_credentials"]
