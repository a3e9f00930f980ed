"""``ImageDigestMirrorSet`` and ``ImageTagMirrorSet`` of OpenShift 4.13 and later (config.openshift.io/v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from registry_pipelines.mirror.clusters.model import CA_FILE, Endpoint, Route, Written, by_host, where_to_login
from registry_pipelines.yaml_text import to_yaml

CONFIG_MAP = "registry-pipelines-ca"


def digest_mirrors(name: str, endpoint: Endpoint, routes: Sequence[Route]) -> Written:
    """For images that are named by digest; a tag is not looked for in it."""
    return _written("ImageDigestMirrorSet", "imageDigestMirrors", name, endpoint, routes)


def tag_mirrors(name: str, endpoint: Endpoint, routes: Sequence[Route]) -> Written:
    """For images that are named by tag; a digest is not looked for in it."""
    return _written("ImageTagMirrorSet", "imageTagMirrors", name, endpoint, routes)


def _written(kind: str, field: str, name: str, endpoint: Endpoint, routes: Sequence[Route]) -> Written:
    """``NeverContactSource``: nothing behind a gap reaches the source, and waiting for it hides what is missing."""
    found = [route for of_host in by_host(routes).values() for route in of_host]
    content: dict[str, Any] = {
        "apiVersion": "config.openshift.io/v1",
        "kind": kind,
        "metadata": {"name": f"mirror-{name}"},
        "spec": {
            field: [
                {
                    "source": route.name,
                    "mirrors": [f"{endpoint.host}/{route.path}"],
                    "mirrorSourcePolicy": "NeverContactSource",
                }
                for route in found
            ]
        },
    }
    files = {f"{kind.lower()}.yaml": to_yaml(content)}
    if endpoint.certificates:
        files[f"{CONFIG_MAP}.yaml"] = to_yaml(_trusted(endpoint))
    return Written(files, _notes(kind, endpoint))


def _trusted(endpoint: Endpoint) -> dict[str, Any]:
    """Whom nodes trust: the map that ``additionalTrustedCA`` names; a port is written with two points there."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG_MAP, "namespace": "openshift-config"},
        "data": {endpoint.host.replace(":", ".."): endpoint.certificates.decode()},
    }


def _notes(kind: str, endpoint: Endpoint) -> list[str]:
    other, what = ("itms", "tag") if kind == "ImageDigestMirrorSet" else ("idms", "digest")
    notes = [f"An image that is named by {what} is not looked for in this: write the form {other}, too"]
    if endpoint.certificates:
        notes.append(
            f"{CA_FILE} of the registry is in {CONFIG_MAP}.yaml: name it as spec.additionalTrustedCA.name of "
            "image.config.openshift.io/cluster"
        )
    if endpoint.plain_http:
        notes.append(
            f"{endpoint.host} speaks plain HTTP: name it in spec.registrySources.insecureRegistries of "
            "image.config.openshift.io/cluster, or give it a certificate"
        )
    login = "in the secret pull-secret of openshift-config; imagePullSecrets are not asked for a mirror"
    return [*notes, *where_to_login(endpoint, login)]
