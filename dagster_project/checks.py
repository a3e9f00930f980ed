"""The checks, one status per release.

An unpartitioned check has one status for *all* partitions: a good release would turn the light green for a refused
one. Each check here therefore carries the releases' partitions definition, and is told by the asset's own step. Checks
show; what keeps a denied release from shipping is the library's gate in ``promote`` and ``replicate``, which read the
signed evidence of exactly that digest again. None blocks before that gate is asked: a blocking check ends the run with
an error of Dagster's own, and ``promotion`` would never say why.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import dagster as dg

from dagster_project.partitions import RELEASES
from dagster_project.report import bullets

LIMITS = "within_limits"
VERIFIED = "verified"
POLICY = "allowed"
GATE = "may_ship"
EQUAL = "equal"
SHIPS = "ships"
STREAMS = "streams"
COVERED = "covered"
STARTS = "starts"
TREE = "same_tree"
SAME = "same_everywhere"
AGE = "age"

SHOWN_REASONS = 5
"""Reasons in a check's description; all of them are in its metadata."""


def of_releases(name: str, asset: str | dg.AssetKey, description: str, *, blocking: bool = False) -> dg.AssetCheckSpec:
    """The specification of a check of a release asset, for its ``check_specs``."""
    return of_partitions(name, asset, description, RELEASES, blocking=blocking)


def of_partitions(
    name: str,
    asset: str | dg.AssetKey,
    description: str,
    partitions: dg.PartitionsDefinition,
    *,
    blocking: bool = False,
) -> dg.AssetCheckSpec:
    """The same of an asset with other partitions: one status for each of them."""
    with warnings.catch_warnings():
        # Checks with partitions are a preview; without them they are the hole above, so the warning offers no choice.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            name, asset=asset, description=description, blocking=blocking, partitions_def=partitions
        )


def outcome(name: str, *, passed: bool, reasons: Sequence[str] = (), **metadata: Any) -> dg.AssetCheckResult:
    """What a check found; the first reasons also as its description, which the UI shows without a click."""
    shown = {**metadata, **({"reasons": bullets(reasons)} if reasons else {})}
    return dg.AssetCheckResult(
        check_name=name, passed=passed, metadata=shown, description="; ".join(reasons[:SHOWN_REASONS]) or None
    )


def warning(result: dg.AssetCheckResult) -> dg.AssetCheckResult:
    """The same as a warning, where it has not passed."""
    return result._replace(severity=dg.AssetCheckSeverity.WARN)
