"""A console on which nobody else's words can do anything: names and texts come from registries that anybody runs."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from registry_pipelines.cli.output import harmless


class HarmlessConsole(Console):
    """Shows a sign in place of every control character that did not come from rich itself; line ends stay."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """See Console."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(harmless(segment.text), segment.style)


__all__ = ["HarmlessConsole"]
