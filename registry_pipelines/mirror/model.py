"""What is taken of a foreign image: the class that the configuration holds and a mirror's plan is made by."""

from __future__ import annotations

from typing import Annotated

from registry_pipelines.settings import REPOSITORY
from registry_pipelines.transfer.closure.choice import Choice


class Upstream(Choice, frozen=True, kw_only=True):
    """A foreign image that is mirrored. `tags`, `newest` and `semver` narrow each other."""

    image: str
    """Image without tag, for example docker.io/library/python, or <registry>/<repository>."""
    repository: Annotated[str, REPOSITORY] | None = None
    """Repository it gets; the upstream's own path unless told."""
