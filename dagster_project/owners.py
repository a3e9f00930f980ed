"""Who owns what, from the configuration; Dagster shows it, filters by it, and alerts name them."""

from collections.abc import Iterable

import dagster as dg

from registry_pipelines.config import Config
from registry_pipelines.config.location import DUTIES, PLATFORM, SECURITY
from registry_pipelines.report.teams import teams_of


class Owners:
    """Owners by duty, team and image. An asset's own word ``team:platform`` or ``team:security`` is its duty."""

    def __init__(self, config: Config) -> None:
        self._config, self._told = config, config.dagster.owners
        self.platform, self.security = self._of(PLATFORM), self._of(SECURITY)
        self._duties = {f"team:{name}": self._of(name) for name in DUTIES}

    def _of(self, name: str) -> list[str]:
        return list(self._told.get(name) or (f"team:{name}",))

    def team(self, image: str) -> str:
        """The team that an image of ours is of; empty for nobody's."""
        found = self._config.images.get(image)
        return next(iter(teams_of(found.repository, self._config.report.teams)), "") if found else ""

    def of_image(self, image: str) -> list[str]:
        """Of an image's releases: its own owners, else its team's; of the platform where it has none."""
        found, team = self._config.images.get(image), self.team(image)
        if found is not None and found.owners:
            return list(found.owners)
        return self._of(team) if team else self.platform

    def of_asset(self, spec: dg.AssetSpec) -> list[str]:
        """Of an asset: a deployment is its image's, all else who has the duty."""
        kind, *names = spec.key.path
        if kind == "line":
            return self.of_image(names[0])
        place = self._config.deploy.get(names[0]) if kind == "deployed" and names else None
        if place is not None:
            return self.of_image(place.image)
        return [each for owner in spec.owners for each in self._duties.get(owner, [owner])]


def owners_of(assets: Iterable[dg.AssetsDefinition]) -> list[str]:
    """Everybody who owns one of some assets, in the order they are found."""
    return list(dict.fromkeys(owner for each in assets for spec in each.specs for owner in spec.owners))
