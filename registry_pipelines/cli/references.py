"""What a person means by a name: a release of the configuration, or any image, wherever it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from registry_pipelines.chain.places import Located
from registry_pipelines.cli.context import Options
from registry_pipelines.errors import InputError
from registry_pipelines.settings import closest, unknown

if TYPE_CHECKING:
    from registry_pipelines.chain import Chain
    from registry_pipelines.config import Config


def is_release(config: Config | None, text: str) -> bool:
    """Whether a person means a release: what stands before the tag is an image of the configuration.

    Raises InputError for what Docker would take for an image of Docker Hub and is more likely a slip of the pen: a word
    alone, and a name before a slash that is almost that of a registry. Docker Hub's own are written with its host.
    """
    name = text.partition("@")[0].partition(":")[0]
    if config is not None and name in config.images:
        return True
    first, slash, _ = text.partition("/")
    if not slash and not _is_host(config, text):
        known = config.images if config else {}
        what = unknown(name, known, "image") if config else f"{name!r} names no registry, and there is no configuration"
        raise InputError(what, do=f"For the one of Docker Hub write docker.io/library/{text}")
    if slash and config is not None and not _is_host(config, first) and closest(first, config.registries):
        raise InputError(unknown(first, config.registries, "registry"), do=f"For Docker Hub write docker.io/{text}")
    return False


def whole(config: Config | None, text: str) -> str:
    """A release with its registry and repository in front; anything else as it is. Raises as :func:`is_release`."""
    if not is_release(config, text) or config is None:
        return text
    name = text.partition("@")[0].partition(":")[0]
    image = config.images[name]
    return f"{image.registry}/{image.repository}{text.removeprefix(name)}"


def _is_host(config: Config | None, text: str) -> bool:
    """Whether this names a registry, which is the next to say what is missing."""
    name = text.partition("@")[0].partition(":")[0]
    return bool(config and text in config.registries) or "." in name or name == "localhost"


@contextmanager
def named(options: Options, texts: Sequence[str], *, goals: Sequence[str] = ()) -> Iterator[Callable[..., Located]]:
    """A function that reads a text as a release where it names an image of the configuration, else as Docker does
    (``default_tag`` as in :meth:`~registry_pipelines.chain.places.Places.locate`); the registries that the texts name
    are listening meanwhile. goals: texts that something is written to, so none is a release. Raises InputError,
    ReferenceInvalid, NotFound (a release)."""
    config = options.config_if_any()
    for goal in goals:
        if is_release(config, goal):
            raise InputError(
                f"{goal!r} is an image of the configuration, and a repository is wanted",
                do=f"Write REGISTRY/REPOSITORY; releases of {goal.partition(':')[0]} are copied by `replicate`",
            )
    releases = [text for text in texts if is_release(config, text)]
    if releases:
        with options.chain() as chain:
            yield chain.locate
    else:
        with options.places([*texts, *goals]) as places:
            yield places.locate


@contextmanager
def located(options: Options, texts: Sequence[str]) -> Iterator[tuple[list[Located], Chain | None]]:
    """Each text as :func:`named` reads it, with the chain of the configuration, where there is one."""
    config = options.config_if_any()
    for text in texts:
        is_release(config, text)
    if config is None:
        with options.places(texts) as places:
            yield [places.locate(text) for text in texts], None
        return
    with options.chain() as chain:
        yield [chain.locate(text) for text in texts], chain
