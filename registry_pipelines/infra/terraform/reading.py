"""What Terraform's files say that there is: states, what ``terraform show -json`` prints, and ``*.tf.json``.

Source: Terraform's documentation, "JSON Output Format" and "JSON Configuration Syntax"; states have version 4 since
0.12. HCL (``*.tf``) is not read: ``terraform show -json`` prints what it came to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from registry_pipelines.errors import InputError

MAX_BYTES = 256 * 1024 * 1024
"""Of one file: a state of 100,000 repositories has about 150 MB."""
STATE_VERSION = 4

_REFERENCE = re.compile(r"\$\{(?P<address>(?:data\.)?\w+\.[\w-]+)\.(?P<attribute>\w+)\}\Z")
_LITERAL = re.compile(r"([$%])\1(?=\{)")

Body = dict[str, Any]


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """A resource. body: its attributes; text that Terraform would have to work out is left out, and named in
    ``unknown``."""

    type: str
    address: str
    body: Body
    unknown: tuple[str, ...] = ()

    def text(self, name: str) -> str:
        """An attribute that is text; empty where it is not there."""
        value = self.body.get(name)
        return value if isinstance(value, str) else ""

    def blocks(self, name: str) -> list[Body]:
        """Nested blocks of a name: Terraform writes one as an object, and several, or any in a state, as a list."""
        return blocks(self.body, name)

    def texts(self, name: str) -> list[str]:
        """A list of texts, sorted."""
        return sorted(each for each in self.body.get(name) or () if isinstance(each, str))


def blocks(body: Mapping[str, Any], name: str) -> list[Body]:
    """See :meth:`Resource.blocks`."""
    value = body.get(name)
    listed = value if isinstance(value, list) else [] if value is None else [value]
    return [each for each in listed if isinstance(each, dict)]


def read(content: bytes, *, where: str) -> list[Resource]:
    """The managed resources of a file. Raises InputError for what is none of the three."""
    if len(content) > MAX_BYTES:
        raise InputError(f"the file has more than {MAX_BYTES} bytes", where=where)
    do = "Give a state, what `terraform show -json` prints, or a *.tf.json"
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"this is not JSON: {str(error)[:200]}", where=where, do=do) from error
    if not isinstance(document, dict):
        raise InputError("this is no file of Terraform's", where=where, do=do)
    try:
        if document.get("version") == STATE_VERSION and "resources" in document:
            return list(_state(document))
        if "values" in document or "planned_values" in document:
            root = (document.get("values") or document.get("planned_values") or {}).get("root_module", {})
            return list(_module(root))
        if any(name in document for name in ("resource", "terraform", "provider", "import", "data")):
            return list(_configuration(document))
    except (TypeError, AttributeError, LookupError, RecursionError) as error:
        raise InputError(f"this file of Terraform's is damaged ({type(error).__name__})", where=where, do=do) from error
    version = f", of version {document['version']}" if "version" in document else ""
    raise InputError(f"this is no file of Terraform's{version}", where=where, do=do)


def _state(document: Body) -> Iterator[Resource]:
    for resource in document["resources"]:
        if resource.get("mode") != "managed":
            continue
        for instance in resource.get("instances", ()):
            key = f"[{instance['index_key']!r}]" if "index_key" in instance else ""
            address = f"{resource.get('module', '')}.{resource['type']}.{resource['name']}{key}".lstrip(".")
            yield Resource(type=resource["type"], address=address, body=dict(instance.get("attributes") or {}))


def _module(module: Body) -> Iterator[Resource]:
    for each in module.get("resources", ()):
        if each.get("mode", "managed") == "managed":
            yield Resource(type=each["type"], address=each["address"], body=dict(each.get("values") or {}))
    for each in module.get("child_modules", ()):
        yield from _module(each)


def _configuration(document: Body) -> Iterator[Resource]:
    found: dict[str, Body] = {}
    for part, prefix in (("resource", ""), ("data", "data.")):
        for kind, labels in document.get(part, {}).items():
            for label, body in labels.items():
                for each in body if isinstance(body, list) else [body]:
                    found[f"{prefix}{kind}.{label}"] = each
    for address, body in found.items():
        if address.startswith("data."):
            continue
        unknown: list[str] = []
        worked_out = {name: _value(each, found, name, unknown) for name, each in body.items()}
        known = {name: each for name, each in worked_out.items() if each is not None}
        yield Resource(type=address.partition(".")[0], address=address, body=known, unknown=tuple(unknown))


def _value(value: Any, found: Mapping[str, Body], name: str, unknown: list[str]) -> Any:
    """A value as Terraform would have it. What leads to text of the same file is followed; other templates are not
    worked out: None stands in their place, and the attribute is among the unknown."""
    if isinstance(value, dict):
        return {key: _value(each, found, name, unknown) for key, each in value.items()}
    if isinstance(value, list):
        return [_value(each, found, name, unknown) for each in value]
    if not isinstance(value, str):
        return value
    if match := _REFERENCE.fullmatch(value):
        led = _attribute(found.get(match["address"], {}), match["address"], match["attribute"])
        if isinstance(led, str) and not _is_template(led):
            return _LITERAL.sub(r"\1", led)
    if _is_template(value):
        if name not in unknown:
            unknown.append(name)
        return None
    return _LITERAL.sub(r"\1", value)


def _attribute(body: Body, address: str, name: str) -> Any:
    """An attribute of a block of the same file; what is known of those that the provider works out, too: the whole
    name of a repository of Google's, of an alias of KMS the alias itself, of topics and channels their own names."""
    if (name, address.partition(".")[0]) in _OWN_NAMES:
        return body.get(_OWN_NAMES[name, address.partition(".")[0]])
    if address.startswith("data.aws_kms_alias.") and name == "target_key_arn":
        return body.get("name")
    if name == "id" and "repository_id" in body:
        project, location = body.get("project", ""), body.get("location", "")
        return f"projects/{project}/locations/{location}/repositories/{body['repository_id']}"
    return body.get(name)


_OWN_NAMES = {
    ("arn", "aws_sns_topic"): "name",
    ("name", "google_monitoring_notification_channel"): "display_name",
}


def _is_template(text: str) -> bool:
    return re.search(r"[$%]\{", re.sub(r"([$%])\1\{", "", text)) is not None


__all__ = ["Resource", "blocks", "read"]
