"""``weights`` between registries, object stores and folders."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.output import show_result
from registry_pipelines.cli.references import named
from registry_pipelines.cli.weights import FORM, PLATFORM, image_wanted, told_of
from registry_pipelines.weights.paths import is_store

if TYPE_CHECKING:
    from registry_pipelines.oci.platforms import Platform
    from registry_pipelines.weights.opening import OpenedWeights


def push_source(options: Options, folder: Path, target: str, follow_links: bool, image: Platform | None = None) -> None:
    """``weights push``. Where it goes is looked at first: to hash a large model takes minutes."""
    from registry_pipelines.chain.weight_sync import check_goal, put, result_of
    from registry_pipelines.weights.ends import from_folder

    began, engine = time.monotonic(), options.engine(None)
    goals = [] if is_store(target) else [target]
    with named(options, [], goals=goals) as locate, options.progress() as progress:
        check_goal(options.config_if_any(), target, locate, image)
        source, read = from_folder(folder, follow_links=follow_links, progress=progress)
        done = put(source, options.config_if_any(), target, locate, replace(engine, progress=progress), image=image)
    show_result(result_of(done, source, began, tuple(told_of(read))), as_json=options.as_json)


def open_at(options: Options, address: str) -> OpenedWeights:
    """A whole set in a store, as one in a registry."""
    from registry_pipelines.chain.weight_sync import store_at
    from registry_pipelines.weights.in_store import open_stored

    return open_stored(store_at(options.config_if_any(), address)).opened


@click.command("sync", short_help="Bring weights from one place to another.")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@FORM
@PLATFORM
@common
def sync(options: Options, source: str, target: str, form: str, platform: str) -> None:
    """Have the weights of FROM at TO, whichever these are: REGISTRY/REPOSITORY:TAG, s3://BUCKET/PREFIX,
    gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, or a folder that begins with / or ./.

    Only files with another digest move, streamed from FROM to TO and never on a disk here. Killed in the middle, the
    same command goes on: behind the last file, in registries and S3 behind the last part. What TO has is whole when its
    list (weights.json) or its tag is there, which comes last. A prefix that has something else is refused. With --form
    image FROM is read twice, since a layer's digest must be known before it is sent.
    """
    from registry_pipelines.chain.weight_sync import put, result_of, source_at

    began, engine, config = time.monotonic(), options.engine(None), options.config_if_any()
    image = image_wanted(form, platform)
    registries = [text for text in (source,) if not is_store(text)]
    goals = [text for text in (target,) if not is_store(text)]
    with named(options, registries, goals=goals) as locate, options.progress() as progress:
        found = source_at(config, source, locate)
        done = put(found, config, target, locate, replace(engine, progress=progress), image=image)
    show_result(result_of(done, found, began), as_json=options.as_json)


COMMANDS = [sync]
