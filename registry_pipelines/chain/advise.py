"""Where nodes should pull an image of the configuration from: the price book over what is declared and its size."""

from __future__ import annotations

from pathlib import Path

import msgspec

from registry_pipelines.chain.places import Places, address
from registry_pipelines.chain.prices import price_book
from registry_pipelines.config import Config
from registry_pipelines.doctor.hosts import Host, read_image, read_place
from registry_pipelines.errors import InputError
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.pictures import bars
from registry_pipelines.registry.platforms import read_images
from registry_pipelines.report.advice import Cloud, Nodes, Origin, Way, advise

_CLOUDS: dict[str, Cloud] = {"ecr": "aws", "ecr-public": "aws", "gar": "gcp", "gcr": "gcp"}


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """What to do, with the figures that it was worked out from."""

    ways: tuple[Way, ...]
    nodes: Nodes
    origin: Origin
    image_bytes: int
    releases_per_month: float
    prices_of: str
    """Date and source of the price book."""
    currency: str

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return {
            "ways": [each.row() for each in self.ways],
            "nodes": msgspec.structs.asdict(self.nodes),
            "origin": msgspec.structs.asdict(self.origin),
            "image_bytes": self.image_bytes,
            "releases_per_month": self.releases_per_month,
            "prices_of": self.prices_of,
            "currency": self.currency,
        }

    def picture(self) -> str:
        """Bars of what each way costs a month, as SVG."""
        title = f"{self.currency} a month, nodes in {self.nodes.region}"
        return bars({title: {_short(way): way.usd for way in self.ways}}, most=None)


def advise_on(
    config: Config | None,
    places: Places,
    *,
    source: str,
    nodes: Nodes,
    image_bytes: int = 0,
    releases_per_month: float = 20.0,
    platform: str = "linux/amd64",
    prices: Path | None = None,
) -> Advice:
    """Where nodes should pull an image from. source: an image, whose size is read where ``image_bytes`` is 0; a
    configured registry, or a host. Raises InputError, and RegistryError where the image is read."""
    book = price_book(config, prices)
    host = _host(config, source)
    size = image_bytes or _size_of(places, source, platform)
    origin = _origin(host)
    ways = advise(nodes, origin, book, image_bytes=size, releases_per_month=releases_per_month)
    return Advice(
        ways=tuple(ways),
        nodes=nodes,
        origin=origin,
        image_bytes=size,
        releases_per_month=releases_per_month,
        prices_of=f"{book.date.isoformat()}: {book.source}",
        currency=book.currency,
    )


def origin_of(config: Config, registry: str) -> Origin:
    """Where a configured registry is: its cloud and region, by its kind or its host. Folders, stores and registries of
    one's own are in none."""
    where = address(config.registries[registry])
    return (
        msgspec.structs.replace(_origin(read_place(where)), name=registry)
        if where
        else Origin(name=registry, cloud="other")
    )


def _origin(host: Host) -> Origin:
    return Origin(name=host.name, cloud=_CLOUDS.get(host.kind, "other"), region=host.region)


def _host(config: Config | None, source: str) -> Host:
    first = source.partition("/")[0]
    if config and first in config.registries and (configured := address(config.registries[first])):
        return read_place(configured)
    if "/" in source and (found := read_image(source)):
        return found[0]
    return read_place(first)


def _size_of(places: Places, source: str, platform: str) -> int:
    if "/" not in source:
        raise InputError("a registry alone has no size", where=source, do="Give --size, or an image")
    located = places.locate(source)
    top = located.place.registry.get_manifest(located.place.repository, located.selector)
    wanted = Platform.parse(platform)
    images = [each for each in read_images(located.place, top) if each.serves(wanted)]
    if not images or not isinstance(images[0].content, Manifest):
        raise InputError(f"it has no image for {platform}", where=source, do="Give --platform, or --size")
    return sum(layer.size for layer in images[0].content.layers)


def _short(way: Way) -> str:
    return way.name if len(way.name) <= 34 else f"{way.name[:33]}\N{HORIZONTAL ELLIPSIS}"
