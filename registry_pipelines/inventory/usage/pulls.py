"""Pull times of ECR: what was pulled lately is perhaps in use. A weak source, for scanners and copies pull, too.

ECR leaves out the pulls of roles that are registered (RegisterPullTimeUpdateExclusion, at most a few a registry). A
scanner that the configuration names and that is not registered makes everything look used; it is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from registry_pipelines.inventory.usage.model import Use
from registry_pipelines.registry.ecr.images import EcrImages


class PullSource:
    """See UsageSource. host: of the registry, as references have it. now: with time zone."""

    notes: Sequence[str] = ()

    def __init__(
        self,
        name: str,
        images: EcrImages,
        host: str,
        *,
        within: timedelta,
        scanners: Sequence[str],
        now: datetime,
    ) -> None:
        self.name, self._images, self._host = name, images, host
        self._from, self._within, self._scanners = now - within, within, scanners

    def uses(self) -> Iterator[Use]:
        """See UsageSource."""
        self.notes = self._recorded_scanners()
        for repository in self._images.list_repositories():
            for image in self._images.list_images(repository.name):
                if image.pulled is not None and image.pulled >= self._from:
                    yield Use(
                        source=self.name,
                        image=f"{self._host}/{repository.name}@{image.digest}",
                        digest=image.digest,
                        where=f"pulled {image.pulled:%Y-%m-%d}",
                        since=image.pulled,
                        weak=True,
                    )

    def _recorded_scanners(self) -> list[str]:
        """Scanners whose pulls are recorded."""
        where = f"{self.name} (ECR)"
        calls = self._images.calls
        listed = calls.pages("list_pull_time_update_exclusions", "pullTimeUpdateExclusions", where=where)
        known = {one if isinstance(one, str) else one.get("principalArn", "") for one in listed}
        return [
            f"{self.name}: pulls of the scanner {arn} are recorded as pulls; register it with "
            "RegisterPullTimeUpdateExclusion"
            for arn in self._scanners
            if arn not in known
        ]
