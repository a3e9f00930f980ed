"""From the configuration's policy to the one that promotion judges by."""

from __future__ import annotations

from registry_pipelines.config import Policy
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.promote import interface as promote
from registry_pipelines.scan.interface import Limits

ATTESTATIONS = {
    "provenance": promote.PROVENANCE_TYPE,
    "sbom": promote.CYCLONEDX_TYPE,
    "vulnerabilities": promote.VULNERABILITIES_TYPE,
}
_SECONDS_A_DAY = 86_400


def promote_policy(policy: Policy) -> promote.Policy:
    """The same policy in promotion's words; a configuration without a ``default`` gives promotion's own defaults."""
    limits = policy.limits
    return promote.Policy(
        name=policy.name,
        limits=Limits(
            critical=limits.critical,
            high=limits.high,
            medium=limits.medium,
            low=limits.low,
            unknown=limits.unknown,
            unknowns=limits.unknowns,
            undeclared=policy.undeclared,
        ),
        fixable_only=policy.fixable_only,
        max_advisory_age_days=int(policy.max_advisory_age.total_seconds() // _SECONDS_A_DAY),
        require_signature="signature" in policy.required,
        require_attestations=tuple(kind for name, kind in ATTESTATIONS.items() if name in policy.required),
        require_platforms=tuple(Platform.parse(text) for text in policy.platforms),
        deny_warnings=policy.deny_warnings,
        exceptions=tuple(
            promote.PolicyException(
                advisory=each.advisory,
                reason=each.reason,
                expires=each.expires,
                component=each.component,
                image=each.image,
            )
            for each in policy.exceptions
        ),
        accepted_unknowns=tuple(
            promote.AcceptedUnknown(
                kind=each.kind,
                reason=each.reason,
                subject=each.subject,
                until_age_days=int(each.until_age.total_seconds() // _SECONDS_A_DAY) if each.until_age else 0,
                expires=each.expires,
            )
            for each in policy.accept_unknowns
        ),
    )
