"""A registry of ECR and one of Artifact Registry on the doubles, filled without pushing, and a configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from registry_pipelines.oci import media_types
from tests.doubles.aws.ecr_places import Image, Place
from tests.doubles.aws.ecr_registry import EcrRegistries
from tests.doubles.aws.front import ACCOUNT, AwsDouble
from tests.doubles.google import GoogleCloud

REGION = "eu-west-1"
LOCATION = "europe-west1"
PROJECT = "ml-prod"
DAY_S = 86_400.0


def ecr_place(double: AwsDouble) -> Place:
    return double.area(EcrRegistries).at(ACCOUNT, REGION)


def manifest(number: int, layers: int = 2, *, subject: str = "") -> bytes:
    """An image manifest that is like no other."""

    def descriptor(kind: str, at: int, size: int) -> dict[str, object]:
        return {"mediaType": kind, "digest": f"sha256:{at:064x}", "size": size}

    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": descriptor(media_types.OCI_CONFIG, number, 100),
        "layers": [descriptor(media_types.OCI_LAYER_GZIP, number * 100 + at, 1000) for at in range(layers)],
    }
    if subject:
        document["subject"] = {"mediaType": media_types.OCI_MANIFEST, "digest": subject, "size": 400}
    return json.dumps(document).encode()


def index(children: Sequence[Image]) -> bytes:
    entries = [
        {
            "mediaType": each.media_type,
            "digest": each.digest,
            "size": len(each.raw),
            "platform": {"os": "linux", "architecture": architecture},
        }
        for each, architecture in zip(children, ("amd64", "arm64", "s390x"), strict=False)
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}).encode()


def put(place: Place, repository: str, raw: bytes, *tags: str, at: float) -> Image:
    """An image that was pushed at a time (seconds since 1970)."""
    kind = json.loads(raw)["mediaType"]
    image = Image(raw, kind)
    for reference in tags or (image.digest,):
        place.note(repository, reference, image, at)
    return image


def written(folder: Path, double: AwsDouble | None = None, google: GoogleCloud | None = None, more: str = "") -> Path:
    lines = ["registries:"]
    if double is not None:
        lines.append(f"  ecr: {{kind: ecr, account: '{ACCOUNT}', region: {REGION}, endpoint: '{double.url}'}}")
    if google is not None:
        about = f"project: {PROJECT}, location: {LOCATION}, endpoint: '{google.endpoint}'"
        lines.append(f"  gar: {{kind: gar, {about}}}")
    path = folder / "registry-pipelines.yaml"
    path.write_text("\n".join(lines) + "\n" + more)
    return path
