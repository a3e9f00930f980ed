"""What does not fit together in `deploy`."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from registry_pipelines.config.model import Config, Image
from registry_pipelines.deploying.model import CloudRunDeploy, Deploy, DeploySettings, KubernetesDeploy
from registry_pipelines.registry.client.origins import is_loopback
from registry_pipelines.settings import unknown


def deploy_problems(config: Config) -> Iterable[tuple[str, str]]:
    """Each problem with its path: two that change one workload, channels that are none, registries that an image does
    not come to, gates that wait for another image."""
    seen: dict[tuple[str, ...], str] = {}
    for name, each in config.deploy.items():
        path, image = f"deploy.{name}", config.images[each.image]
        channels = [one.name for one in image.order]
        if each.channel and each.channel not in channels:
            yield f"{path}.channel", unknown(each.channel, channels, f"channel of {image.name}")
        places = registries_of(config, image)
        if each.registry is not None and each.registry not in places:
            yield f"{path}.registry", f"{image.name} does not come to {each.registry}; it is at {', '.join(places)}"
        if each.wait.total_seconds() <= 0:
            yield f"{path}.wait", "without any time nothing comes up"
        yield from ((f"{path}.{field}", why) for field, why in _of_way(each))
        if (first := seen.setdefault(_workload(each), name)) != name:
            yield path, f"`{first}` changes the same container already"
    for image in config.images.values():
        yield from _gates(config, image)


def registries_of(config: Config, image: Image) -> list[str]:
    """Names of the registries that releases of an image come to, the source first, each once."""
    mirrors = [each for each in config.mirrors.values() if image.name in each.images]
    named = [config.targets[target].registry for channel in image.order for target in channel.targets or ()]
    return list(dict.fromkeys([image.registry, *named, *(stop for each in mirrors for stop in each.stops)]))


def _gates(config: Config, image: Image) -> Iterable[tuple[str, str]]:
    order = [each.name for each in image.order]
    for position, channel in enumerate(image.order):
        for name in channel.deployed.names if channel.deployed else ():
            path = f"images.{image.name}.channels[{position}].deployed.names"
            each = config.deploy[name]
            if each.image != image.name:
                yield path, f"`{name}` runs {each.image}, not {image.name}"
            elif (each.channel or order[-1]) not in order[:position]:
                yield path, f"`{name}` runs what {each.channel or order[-1]} names, which is no channel before this one"


def _of_way(each: DeploySettings) -> Iterable[tuple[str, str]]:
    """Tokens go to these addresses; and a cluster is reached in one way."""
    if isinstance(each, CloudRunDeploy):
        yield from _plain(each.endpoint, "endpoint")
        return
    told = [name for name in ("kubeconfig", "eks", "gke") if getattr(each, name) is not None]
    if len(told) > 1:
        yield told[1], f"`{told[0]}` says already how the cluster is reached"
    for name in ("eks", "gke"):
        way = getattr(each, name)
        yield from _plain(way.endpoint, f"{name}.endpoint") if way else ()


def _plain(endpoint: str | None, field: str) -> Iterable[tuple[str, str]]:
    parts = urlsplit(endpoint or "")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        yield field, "tokens would go there without TLS; it begins with https://, but on this machine"


def _workload(each: Deploy) -> tuple[str, ...]:
    """What tells two workloads apart, as far as the file says it."""
    if isinstance(each, CloudRunDeploy):
        return (each.project, each.location, each.service, each.container)
    assert isinstance(each, KubernetesDeploy)  # noqa: S101 - there are two kinds
    way = (str(each.kubeconfig or ""), each.context, repr(each.eks or ""), repr(each.gke or ""))
    return (*way, each.namespace, each.workload, each.object, each.container)
