"""What a person means by a name: a release of the configuration, or any image, wherever it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from registry_pipelines.chain.places import Located
from registry_pipelines.cli.contents import is_release
from registry_pipelines.cli.context import Options

if TYPE_CHECKING:
    from registry_pipelines.chain import Chain


@contextmanager
def located(options: Options, texts: Sequence[str]) -> Iterator[tuple[list[Located], Chain | None]]:
    """Each text as a release where it names an image of the configuration, else as Docker reads it; the registries are
    listening meanwhile. With the chain of the configuration, where there is one. Raises InputError, ReferenceInvalid,
    NotFound (a release)."""
    config = options.config_if_any()
    if config is None:
        with options.places(texts) as places:
            yield [places.locate(text) for text in texts], None
        return
    for text in texts:
        is_release(config, text)  # a slip of the pen is none of Docker Hub's images
    with options.chain() as chain:
        yield [chain.locate(text) for text in texts], chain
