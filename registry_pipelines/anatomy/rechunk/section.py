"""What is wanted of an image whose files are put into other layers: the class that the configuration holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from registry_pipelines.anatomy.rechunk.model import RechunkOptions
from registry_pipelines.settings import TAG
from registry_pipelines.stream.model import RECHUNKED

AUTOMATIC, NO_LAYOUT = "automatic", "none"
"""Words for ``Rechunk.previous`` that are no tags."""


class Rechunk(RechunkOptions, frozen=True, kw_only=True):
    """How an image's files are put into layers of a package each. `rechunk: {}` is the default: every file stays, times
    are one date, and layers are laid out as in the release before."""

    previous: Annotated[str, TAG] = AUTOMATIC
    """Whose layout is taken, so that what did not change stays in its layer. `automatic`: the release before; `none`:
    nobody's; else the tag of a release that was rechunked."""

    @property
    def options(self) -> RechunkOptions:
        """What the engine is told; whose layout is taken it is told by the layout."""
        return RechunkOptions(**{name: getattr(self, name) for name in RechunkOptions.__struct_fields__})

    def released_tag(self, tag: str) -> str:
        """The tag of what is made of the image with this tag."""
        return f"{tag}-{RECHUNKED}"


def problems(rechunk: Rechunk) -> Iterator[tuple[str, str]]:
    """What does not go together: the field, and what is wrong with it."""
    for field in ("drop", "platforms"):
        told = getattr(rechunk, field)
        if len(set(told)) < len(told):
            yield field, "names something twice"
