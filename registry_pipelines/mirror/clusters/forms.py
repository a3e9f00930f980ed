"""All forms, by name."""

from __future__ import annotations

from collections.abc import Sequence

from registry_pipelines.errors import InputError
from registry_pipelines.mirror.clusters.containerd import hosts_toml
from registry_pipelines.mirror.clusters.containers import registries_conf
from registry_pipelines.mirror.clusters.docker import daemon_json
from registry_pipelines.mirror.clusters.k3s import registries_yaml
from registry_pipelines.mirror.clusters.model import Endpoint, Placed, Route, Written
from registry_pipelines.mirror.clusters.openshift import digest_mirrors, tag_mirrors
from registry_pipelines.mirror.model import ClusterForm


def write(form: ClusterForm, name: str, endpoint: Endpoint, routes: Sequence[Route]) -> Written:
    """The files of a mirror in one form. name: of the mirror. Raises InputError with everything that the form cannot
    say, so that nobody installs half of it."""
    written = write_in_order(form, name, [Placed(endpoint, routes)])
    if written.wrong:
        raise InputError(
            "\n".join(written.wrong),
            where=f"mirrors.{name} as {form}",
            do="Set `keep_host` and leave `repository` out, or take a form that names each image: registries-yaml, "
            "registries-conf, idms with itms",
        )
    return written


def write_in_order(form: ClusterForm, name: str, placed: Sequence[Placed]) -> Written:
    """The files of one form for registries that have the same images, in the order in which nodes are to ask them.
    name: of the mirror or fail-over. What the form cannot say is in ``wrong``, and there are no files then."""
    match form:
        case "hosts-toml":
            return hosts_toml(placed)
        case "registries-yaml":
            return registries_yaml(placed)
        case "idms":
            return digest_mirrors(name, placed)
        case "itms":
            return tag_mirrors(name, placed)
        case "docker":
            return daemon_json(placed)
        case "registries-conf":
            return registries_conf(name, placed)
