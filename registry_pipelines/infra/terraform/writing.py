"""Files of Terraform from declared settings: one for each registry, one for the providers, one that takes over."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from registry_pipelines.infra.settings import Setting
from registry_pipelines.infra.terraform.aws import CONSTRAINT as AWS_CONSTRAINT
from registry_pipelines.infra.terraform.aws import AwsVersion, AwsWriter
from registry_pipelines.infra.terraform.blocks import Block, LeftOut, document, imports
from registry_pipelines.infra.terraform.google import CONSTRAINT as GOOGLE_CONSTRAINT
from registry_pipelines.infra.terraform.google import GoogleWriter

PROVIDERS_FILE = "providers.tf.json"
IMPORTS_FILE = "imports.tf.json"
HEAD = "Written by registry-pipelines infra terraform; changes belong into its configuration."


class TerraformPlace(msgspec.Struct, frozen=True, kw_only=True):
    """A registry whose settings are written. kind: its cloud. account, region: of ECR, with role and external_id for
    the provider. project, location: of Artifact Registry, with impersonate."""

    name: str
    kind: Literal["ecr", "gar"]
    settings: tuple[Setting, ...]
    account: str = ""
    region: str = ""
    role: str = ""
    external_id: str = ""
    project: str = ""
    location: str = ""
    impersonate: str = ""

    @property
    def provider(self) -> str:
        """The provider that makes its blocks, by its alias."""
        return f"{'aws' if self.kind == 'ecr' else 'google'}.{self.name}"


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """files: content by name. left_out: what was declared and is not in them, one sentence each."""

    files: dict[str, bytes]
    left_out: tuple[str, ...]


def write(places: Sequence[TerraformPlace], *, aws: AwsVersion = 6, take_over: bool = False) -> Written:
    """Files that make Terraform set what is declared. aws: major version of that provider. take_over: with a file by
    which Terraform takes over what exists, in place of failing to make it again; what does not exist must not be in it.

    The same settings give the same bytes. Nothing is left out in silence.
    """
    files: dict[str, bytes] = {}
    left_out: list[str] = []
    taken: list[Block] = []
    for place in places:
        made = _made(place, aws)
        blocks = [each for each in made if isinstance(each, Block)]
        left = [str(each) for each in made if isinstance(each, LeftOut)]
        comment = [HEAD, *(f"Not as declared: {each}" for each in left)]
        files[f"{place.name}.tf.json"] = _bytes(document(blocks, provider=place.provider, comment=comment))
        left_out += [f"{place.name}: {each}" for each in left]
        taken += [each for each in blocks if each.import_id]
        if take_over:
            left_out += [
                f"{place.name}: {each.about}: Terraform finds what exists by its id alone; write an import block for it"
                for each in blocks
                if not each.import_id and not each.data
            ]
    files[PROVIDERS_FILE] = _bytes(_providers(places, aws))
    if take_over and taken:
        files[IMPORTS_FILE] = _bytes({"//": [HEAD], **imports(taken)})
    return Written(files=files, left_out=tuple(left_out))


def _made(place: TerraformPlace, aws: AwsVersion) -> list[Block | LeftOut]:
    writer: AwsWriter | GoogleWriter
    if place.kind == "ecr":
        writer = AwsWriter(place.name, place.account, place.region, aws)
    else:
        writer = GoogleWriter(place.name, place.project, place.location)
    return writer.write(place.settings)


def _providers(places: Iterable[TerraformPlace], aws: AwsVersion) -> dict[str, Any]:
    listed = list(places)
    required: dict[str, Any] = {}
    providers: dict[str, list[dict[str, Any]]] = {}
    if ecr := [each for each in listed if each.kind == "ecr"]:
        required["aws"] = {"source": "hashicorp/aws", "version": AWS_CONSTRAINT[aws]}
        providers["aws"] = [_aws_provider(each) for each in ecr]
    if gar := [each for each in listed if each.kind == "gar"]:
        required["google"] = {"source": "hashicorp/google", "version": GOOGLE_CONSTRAINT}
        providers["google"] = [_google_provider(each) for each in gar]
    return {"//": [HEAD], "terraform": {"required_providers": required}, "provider": providers}


def _aws_provider(place: TerraformPlace) -> dict[str, Any]:
    body: dict[str, Any] = {"alias": place.name, "region": place.region, "allowed_account_ids": [place.account]}
    if place.role:
        role = {"role_arn": place.role}
        body["assume_role"] = [role | ({"external_id": place.external_id} if place.external_id else {})]
    return body


def _google_provider(place: TerraformPlace) -> dict[str, Any]:
    body: dict[str, Any] = {"alias": place.name, "project": place.project}
    return body | ({"impersonate_service_account": place.impersonate} if place.impersonate else {})


def _bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


__all__ = ["IMPORTS_FILE", "PROVIDERS_FILE", "TerraformPlace", "Written", "write"]
