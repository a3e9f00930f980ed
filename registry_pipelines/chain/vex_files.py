"""The VEX files that a policy names."""

from __future__ import annotations

from pathlib import Path

import msgspec

from registry_pipelines.errors import InputError, ManifestInvalid
from registry_pipelines.promote.documents import Policy
from registry_pipelines.promote.vex import of_policy
from registry_pipelines.scan.openvex import MAX_VEX_BYTES


def with_vex(policy: Policy) -> Policy:
    """The policy with what its files say now. Raises InputError, which names the file and what is wrong in it."""
    try:
        statements = of_policy([(path.name, _read(path)) for path in policy.vex])
    except ManifestInvalid as error:
        raise InputError(
            error.what, where=error.where, do=f"Correct the file, or take it out of {_where(policy)}"
        ) from error
    return msgspec.structs.replace(policy, vex_statements=statements)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_VEX_BYTES + 1)
    except OSError as error:
        raise InputError(f"the VEX file cannot be read: {error.strerror}", where=str(path)) from error


def _where(policy: Policy) -> str:
    return f"policies.{policy.name}.vex"
