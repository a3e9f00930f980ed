"""What an anatomy says, as the document that is signed."""

from __future__ import annotations

from collections.abc import Iterable

from registry_pipelines.anatomy.report import Anatomy
from registry_pipelines.errors import InputError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.scan.advice.document import RULES, ImageAdvice, PlatformAdvice
from registry_pipelines.scan.advice.kinds import ADVICE_KINDS


def platform_advice(found: Anatomy) -> PlatformAdvice:
    """What an anatomy says of one image."""
    return PlatformAdvice(
        image=Digest.parse(found.digest),
        platform=found.platform,
        compressed=found.compressed,
        unpacked=found.unpacked,
        wasted=found.wasted,
        wasted_unpacked=found.wasted_unpacked,
        advice=found.advice,
        unread=found.unread,
    )


def image_advice(subject: Digest, anatomies: Iterable[Anatomy]) -> ImageAdvice:
    """About one release. anatomies: of each image below it. Raises InputError: there is none."""
    platforms = sorted(map(platform_advice, anatomies), key=lambda each: (each.platform, each.image))
    if not platforms:
        raise InputError("the release holds no image to say anything about", where=str(subject))
    return ImageAdvice(subject=subject, rules=RULES, looked_for=ADVICE_KINDS, platforms=tuple(platforms))
