"""The log-in of a Google host that the configuration gives none: application default credentials, where there are any.

Whether there are is looked up without the network: google-auth itself asks for the metadata server, and away from
Google that cost every pull of a public image (gcr.io/distroless) up to ten seconds. Sources: google-auth's ``default``
(order and places), and where Cloud Run says that it is Cloud Run (its "Container runtime contract").
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_MACHINE = Path("/sys/class/dmi/id/product_name")
_VARIABLES = ("GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST", "K_SERVICE", "CLOUD_RUN_JOB")


def has_defaults(environ: Mapping[str, str] | None = None, machine: Path = _MACHINE) -> bool:
    """Whether there is a sign of application default credentials: a file that is named or that gcloud left, or a
    machine of Google's. machine: where the kernel says what machine this is."""
    variables = os.environ if environ is None else environ
    if any(variables.get(name) for name in _VARIABLES):
        return True
    folder = variables.get("CLOUDSDK_CONFIG") or f"{variables.get('HOME', '')}/.config/gcloud"
    if Path(folder, "application_default_credentials.json").is_file():
        return True
    try:
        return variables.get("NO_GCE_CHECK") != "true" and machine.read_text().strip().startswith("Google")
    except (OSError, UnicodeDecodeError):
        return False


__all__ = ["has_defaults"]
