"""An ECR registry of the double, declared in a configuration, and what was asked of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.registry.ecr.calls import AwsCalls
from tests.doubles.aws.ecr_places import Image, Place, Repository
from tests.doubles.aws.ecr_registry import EcrRegistries
from tests.doubles.aws.front import ACCOUNT, AwsDouble

REGION, AWAY = "eu-west-1", "us-east-1"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LIFECYCLE = {
    "rules": [
        {
            "rulePriority": 1,
            "description": "releases",
            "selection": {
                "tagStatus": "tagged", "tagPatternList": ["v*"], "countType": "imageCountMoreThan", "countNumber": 10,
            },
            "action": {"type": "expire"},
        }
    ]
}  # fmt: skip
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Sid": "Ci", "Effect": "Allow", "Principal": {"AWS": ["222233334444"]}, "Action": ["ecr:PutImage"]},
    ],
}


class Cloud:
    """folder: of the configuration. count: calls since the last ``asked``."""

    def __init__(self, aws: AwsDouble, folder: Path) -> None:
        self.aws, self.folder = aws, folder
        self.registries = aws.area(EcrRegistries)
        (folder / "lifecycle.json").write_text(json.dumps(LIFECYCLE, indent=2))
        (folder / "policy.json").write_text(json.dumps(POLICY, indent=2))

    @property
    def here(self) -> Place:
        return self.registries.at(ACCOUNT, REGION)

    @property
    def away(self) -> Place:
        return self.registries.at(ACCOUNT, AWAY)

    def write(self, infra: dict[str, Any] | str, *, name: str = "eu") -> Path:
        """The configuration with such an entry for the registry."""
        section = infra if isinstance(infra, str) else json.dumps({name: {"kind": "ecr", **infra}})
        path = self.folder / "registry-pipelines.yaml"
        path.write_text(
            f'registries:\n  eu: {{kind: ecr, account: "{ACCOUNT}", region: {REGION}, endpoint: "{self.aws.url}"}}\n'
            f"infra: {section}\n"
        )
        return path

    def chain(self, infra: dict[str, Any] | str) -> Chain:
        return Chain(load(self.write(infra)))

    @cached_property
    def calls(self) -> AwsCalls:
        """How AWS is asked, made once: a client of boto3 takes a tenth of a second to make."""
        _, calls = self.chain("{}")._session.places.ecr("eu")
        return calls

    def asked(self) -> Counter[str]:
        """What was asked since the last time, by operation."""
        counted = Counter(call.action for call in self.aws.calls)
        self.aws.calls.clear()
        return counted

    def push(self, place: Place, name: str, tag: str, *, content: str = "") -> str:
        """An image of no layers, under a tag; its digest. Nobody is told."""
        image = Image(json.dumps({"schemaVersion": 2, "layers": [], "about": content or name + tag}).encode(), MANIFEST)
        place.repositories.setdefault(name, Repository(name, self.aws.clock()))
        return place.note(name, tag, image, self.aws.clock()).digest


@contextmanager
def cloud(folder: Path, monkeypatch: Any) -> Iterator[Cloud]:
    with AwsDouble() as aws:
        for name, value in aws.environment.items():
            monkeypatch.setenv(name, value)
        yield Cloud(aws, folder)
