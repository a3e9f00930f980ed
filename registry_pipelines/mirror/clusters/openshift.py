"""``ImageDigestMirrorSet`` and ``ImageTagMirrorSet`` of OpenShift 4.13 and later (config.openshift.io/v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from registry_pipelines.mirror.clusters.model import CA_FILE, Placed, Written, in_order, names_of, where_to_login
from registry_pipelines.yaml_text import to_yaml

CONFIG_MAP = "registry-pipelines-ca"


def digest_mirrors(name: str, placed: Sequence[Placed]) -> Written:
    """For images that are named by digest; a tag is not looked for in it."""
    return _written("ImageDigestMirrorSet", "imageDigestMirrors", name, placed)


def tag_mirrors(name: str, placed: Sequence[Placed]) -> Written:
    """For images that are named by tag; a digest is not looked for in it."""
    return _written("ImageTagMirrorSet", "imageTagMirrors", name, placed)


def _written(kind: str, field: str, name: str, placed: Sequence[Placed]) -> Written:
    """``NeverContactSource``: nothing behind a gap reaches the source, and waiting for it hides what is missing."""
    content: dict[str, Any] = {
        "apiVersion": "config.openshift.io/v1",
        "kind": kind,
        "metadata": {"name": f"mirror-{name}"},
        "spec": {
            field: [
                {
                    "source": f"{host}/{repository}",
                    "mirrors": [f"{endpoint.host}/{path}" for endpoint, path in in_order(placed, host, repository)],
                    "mirrorSourcePolicy": "NeverContactSource",
                }
                for host, repository in names_of(placed)
            ]
        },
    }
    files = {f"{kind.lower()}.yaml": to_yaml(content)}
    trusted = {
        each.endpoint.host.replace(":", ".."): each.endpoint.certificates.decode()
        for each in placed
        if each.endpoint.certificates
    }
    if trusted:
        files[f"{CONFIG_MAP}.yaml"] = to_yaml(_trusted(trusted))
    return Written(files, _notes(kind, placed, trusts=bool(trusted)))


def _trusted(certificates: dict[str, str]) -> dict[str, Any]:
    """Whom nodes trust: the map that ``additionalTrustedCA`` names; a port is written with two points there."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG_MAP, "namespace": "openshift-config"},
        "data": certificates,
    }


def _notes(kind: str, placed: Sequence[Placed], *, trusts: bool) -> list[str]:
    other, what = ("itms", "tag") if kind == "ImageDigestMirrorSet" else ("idms", "digest")
    notes = [f"An image that is named by {what} is not looked for in this: write the form {other}, too"]
    if trusts:
        notes.append(
            f"{CA_FILE} of the registry is in {CONFIG_MAP}.yaml: name it as spec.additionalTrustedCA.name of "
            "image.config.openshift.io/cluster"
        )
    notes += [
        f"{each.endpoint.host} speaks plain HTTP: name it in spec.registrySources.insecureRegistries of "
        "image.config.openshift.io/cluster, or give it a certificate"
        for each in placed
        if each.endpoint.plain_http
    ]
    login = "in the secret pull-secret of openshift-config; imagePullSecrets are not asked for a mirror"
    return [*notes, *(note for each in placed for note in where_to_login(each.endpoint, login))]
