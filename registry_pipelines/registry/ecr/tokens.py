"""Log-ins that ECR and ECR Public give: a user name and a password for twelve hours, as one word of base64."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any

from registry_pipelines.errors import RegistryError
from registry_pipelines.registry.client.credentials import Credentials

RENEW_EARLY_S = 900.0
"""A token (12 h by ECR's guide) is renewed this long before its end: ECR answers 403, not 401, to one that has expired,
so it must never be used then."""


def read_token(data: Mapping[str, Any], *, where: str) -> Credentials:
    """The log-in in an answer's ``authorizationData``. Raises RegistryError for one that cannot be read."""
    try:
        user, colon, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
        expires = data["expiresAt"].timestamp()
    except (LookupError, TypeError, AttributeError, ValueError):
        colon = ""
    if not colon:
        raise RegistryError("ECR gave a token that cannot be read", where=where) from None
    # A clock that is ahead must not ask for a token before every request: half an hour is always believed.
    return Credentials(user, password, use_until=max(expires - RENEW_EARLY_S, time.time() + 1800.0))
