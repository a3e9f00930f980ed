"""An image line with YAML alone: an image of ours, and its asset."""

from typing import Annotated, Literal

import dagster as dg
from pydantic import BaseModel, Field

from dagster_project.assets.line import line
from registry_pipelines.config import Image


class Asked(BaseModel):
    """What ``dg scaffold defs`` asks for."""

    registry: str = Field(description="Source registry, by its name in the configuration.")
    repository: str = Field(description="Repository in the source registry.")
    name: str = Field(default="", description="Its name; that of the folder unless told.")


class Scaffolded(dg.Scaffolder[Asked]):
    """Writes a line's first file."""

    @classmethod
    def get_scaffold_params(cls) -> type[Asked]:
        """The options of the command."""
        return Asked

    def scaffold(self, request: dg.ScaffoldRequest[Asked]) -> None:
        """Write `defs.yaml`: what a line needs; all else has its usual value."""
        name = request.params.name or request.target_path.name
        dg.scaffold_component(
            request, {"name": name, "registry": request.params.registry, "repository": request.params.repository}
        )


@dg.scaffold_with(Scaffolded)
class ImageLine(dg.Component, dg.Model, dg.Resolvable):
    """An image of ours whose releases appear in a registry: built elsewhere, and scanned, judged, promoted and copied
    by this code location.

    `registry-pipelines.yaml` names the folder of such files as `image_lines`; the command line knows the image, too.
    Each field is that of `images` there (docs/configuration.md); what an image may have beside them stands there.
    """

    name: Annotated[str, dg.Resolver.default(description="Its name, as `images` of the configuration has them.")]
    registry: Annotated[str, dg.Resolver.default(description="Source registry, by its name in the configuration.")]
    repository: Annotated[str, dg.Resolver.default(description="Repository in the source registry.")]
    policy: str = "default"
    tags: list[str] = []
    channel: str = "prod"
    promote: Literal["manual", "auto"] = "manual"
    targets: list[str] = []
    owners: list[str] = []

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The line's own asset; it needs the resource `chain`, as this code location has it."""
        image = Image(
            name=self.name,
            registry=self.registry,
            repository=self.repository,
            policy=self.policy,
            tags=tuple(self.tags),
            channel=self.channel,
            promote=self.promote,
            targets=tuple(self.targets),
            owners=tuple(self.owners),
        )
        return dg.Definitions(assets=[line(image)])
