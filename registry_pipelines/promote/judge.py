"""Ask the gate: read what the registry holds about one digest now, and let the gate's rules answer."""

from __future__ import annotations

from datetime import UTC, datetime

from registry_pipelines.errors import PromotionDenied
from registry_pipelines.evidence.model import Attestations, Verifier
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.promote import gate
from registry_pipelines.promote.documents import Policy, Verdict, in_order
from registry_pipelines.promote.evidence import gather
from registry_pipelines.promote.leaving import read_leaving
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release


def judge(
    place: Place,
    release: Descriptor,
    policy: Policy,
    verifier: Verifier,
    *,
    image: str,
    now: datetime | None = None,
    known: Attestations | None = None,
) -> Verdict:
    """Read the evidence about exactly ``release`` from the registry and apply the policy.

    Steps: (1) the release's manifests must be there and whole; (2) signature, attestations and reports are read and
    verified; (3) every rule of the gate is asked, so that all reasons are known; (4) the verdict names what it rests
    on.
    image: the configuration's name, for exceptions. now: UTC, the clock unless told. known: what was read and verified
    about this digest just now, when the caller has it, by a verifier that is ``under`` the policy's attestors.
    Missing or bad evidence is a deny with reasons. Raises NotFound (no such release), RegistryError (the registry does
    not answer: no verdict is made).
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
    top = place.registry.get_manifest(place.repository, release.digest)
    evidence = gather(
        place,
        top,
        verifier.under(policy.attestor_names),
        image=image,
        now=moment,
        known=known,
        indexes="streaming-index" in policy.required,
        trees="same-tree" in policy.required,
        notation="notation" in policy.required,
        attestors=policy.attestor_names,
        bases=policy.known_bases if "approved-base" in policy.required else None,
        weights=policy.weights if policy.weights.asks else None,
    )
    return gate.judged(evidence, policy)


def require_allowed(
    place: Place, release: Release, policy: Policy, verifier: Verifier, *, now: datetime | None = None
) -> None:
    """Ask before a release is run where releases are made. See :func:`gate.may_run`.

    now: UTC, the clock unless told. Raises PromotionDenied (every reason), RegistryError.
    """
    decision = read_leaving(place, release, policy, verifier).may_run(now or datetime.now(UTC))
    if not decision.passes:
        raise PromotionDenied(
            f"{release.image}:{release.tag} is run only when its verdict is allow",
            reasons=decision.reasons,
            steps=in_order(decision.steps),
            where=f"{place}@{release.digest}",
            do="Remove the reasons, then judge it",
        )


def require_promoted(
    place: Place, release: Release, policy: Policy, verifier: Verifier, *, channel: str, now: datetime | None = None
) -> list[str]:
    """Ask before a release is copied anywhere; what its verdict accepted. See :func:`gate.may_leave`.

    channel: the one its image is promoted to. now: UTC, the clock unless told. Nothing outside the registry is asked.
    Raises PromotionDenied (every reason), RegistryError.
    """
    decision = read_leaving(place, release, policy, verifier).may_leave(channel, now or datetime.now(UTC))
    if not decision.passes:
        raise PromotionDenied(
            f"{release.image}:{release.tag} may leave its source registry only when it is promoted",
            reasons=decision.reasons,
            steps=in_order(decision.steps),
            where=f"{place}@{release.digest}",
            do="Remove the reasons, then judge and promote it",
        )
    return decision.accepted
