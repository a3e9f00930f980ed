"""OpenVEX documents: what somebody says about whether a vulnerability matters in a product (openvex/spec, v0.2.0).

Read strictly where a mistake would let something pass (status, justification, time, product), and generously elsewhere:
fields that nobody here needs are passed over. Whether a statement is believed, and what it excuses, is the gate's to
say. Nothing here reads or writes a registry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from registry_pipelines.errors import DigestInvalid, ManifestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import decode_json
from registry_pipelines.oci.times import read_time
from registry_pipelines.scan.report import Finding, Report, is_notice

CONTEXT = "https://openvex.dev/ns/v0.2.0"
"""``@context`` of what is written here; any other version of it is read."""

MAX_VEX_BYTES = 8 * 1024 * 1024
"""A document holds a few hundred bytes for each vulnerability; one about all findings of a large image has 2 MiB."""

MAX_STATEMENTS = 20_000

_OWN_ID = "urn:registry-pipelines:vex:"

Status = Literal["not_affected", "affected", "fixed", "under_investigation"]
CAUTIOUS: tuple[Status, ...] = ("affected", "under_investigation", "fixed", "not_affected")
"""Of statements of one moment the first of these counts."""

Justification = Literal[
    "",
    "component_not_present",
    "vulnerable_code_not_present",
    "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary",
    "inline_mitigations_already_exist",
]


class _Identifiers(msgspec.Struct):
    purl: str = ""


class _Component(msgspec.Struct):
    id: str = msgspec.field(name="@id", default="")
    identifiers: _Identifiers = msgspec.field(default_factory=_Identifiers)
    hashes: dict[str, str] = {}


class _Product(_Component):
    subcomponents: list[_Component] = []


class _Vulnerability(msgspec.Struct):
    name: str
    aliases: list[str] = []


class _Statement(msgspec.Struct):
    vulnerability: _Vulnerability
    status: Status
    products: list[_Product] = []
    timestamp: str = ""
    last_updated: str = ""
    justification: Justification = ""
    impact_statement: str = ""
    action_statement: str = ""


class _Document(msgspec.Struct):
    context: str = msgspec.field(name="@context")
    id: str = msgspec.field(name="@id")
    author: str
    timestamp: str
    statements: list[_Statement]
    last_updated: str = ""


class VexProduct(msgspec.Struct, frozen=True, kw_only=True):
    """What a statement is about. It has a digest (an image), a package URL (a package, in whatever image), or both."""

    digests: tuple[Digest, ...] = ()
    """Of image manifests or indexes; any of them is the product."""
    purls: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    """Package URLs of the packages in the image that it is about; empty: all of them."""
    of_parts: bool = False
    """Whether it names parts at all: one whose parts cannot be read is about none, and not about all."""


class VexStatement(msgspec.Struct, frozen=True, kw_only=True):
    """One statement with everything it inherits."""

    names: tuple[str, ...]
    """Of the vulnerability, its own first."""
    status: Status
    products: tuple[VexProduct, ...]
    time: str
    """RFC 3339, UTC; of the statement, else of its document."""
    author: str
    justification: Justification = ""
    impact: str = ""
    action: str = ""
    derived: bool = False
    """Whether the document was written here, from a report: what it says was known before, and vouches for nothing."""

    @property
    def why(self) -> str:
        """The justification, else the author's own words; empty for what needs none."""
        return self.justification or self.impact

    def concerns(self, finding: Finding, release: Digest, covers: Sequence[Digest]) -> bool:
        """Whether it speaks of this finding of a release. covers: all platform manifests of the release: a statement
        about one of several says nothing about the release.

        A notice that mends several faults (``DSA-...``) is another name of none of them: it counts only where the
        statement is about the notice itself.
        """
        names = {self.names[0], *(name for name in self.names[1:] if not is_notice(name))}
        if names.isdisjoint(finding.ids):
            return False
        about = [product for product in self.products if _holds_part(product, finding.component)]
        if any(release in product.digests or _is_package(product, finding.component) for product in about):
            return True
        named = {digest for product in about for digest in product.digests}
        return bool(covers) and named.issuperset(covers)


def read_openvex(raw: bytes, *, where: str = "", subject: Digest | None = None) -> tuple[VexStatement, ...]:
    """The statements of a document. subject: the digest that an attestation which carries the document is about, for
    statements that name no product. Raises ManifestInvalid, which names the field: one bad statement makes the document
    bad, since nobody knows what its author meant."""
    if len(raw) > MAX_VEX_BYTES:
        raise ManifestInvalid(f"the VEX document has {len(raw)} bytes, at most {MAX_VEX_BYTES} are read", where=where)
    document = decode_json(raw, _Document, where=where, what="OpenVEX document")
    if not document.context.startswith("https://openvex.dev/ns"):
        raise ManifestInvalid(f"`@context` of the VEX document is {document.context[:80]!r}, not OpenVEX", where=where)
    if len(document.statements) > MAX_STATEMENTS:
        raise ManifestInvalid(f"the VEX document has more than {MAX_STATEMENTS} statements", where=where)
    return tuple(
        _statement(statement, document, subject, f"{where}: statement {number}")
        for number, statement in enumerate(document.statements, 1)
    )


def write_openvex(statements: Iterable[VexStatement], *, author: str, now: datetime) -> bytes:
    """A document with these statements; the same statements, author and time give the same bytes. now: when it is
    issued."""
    time = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    listed = [_written(statement) for statement in statements]
    document = {
        "@context": CONTEXT,
        "@id": "",
        "author": author,
        "timestamp": time,
        "version": 1,
        "statements": listed,
    }
    content = hashlib.sha256(msgspec.json.encode(document, order="sorted")).hexdigest()
    return msgspec.json.format(msgspec.json.encode({**document, "@id": f"{_OWN_ID}{content}"}))


def stated_affected(report: Report, finding: Finding, *, author: str, action: str) -> VexStatement:
    """That a release is affected by one of its findings, and what is to be done. action: required by the standard."""
    return VexStatement(
        names=tuple(sorted(finding.ids, key=_prominence)),
        status="affected",
        products=(VexProduct(digests=(report.subject,), parts=(finding.component,), of_parts=True),),
        time=report.scanned_at,
        author=author,
        action=action,
    )


def _prominence(name: str) -> tuple[bool, str]:
    return not name.startswith("CVE-"), name


def _statement(statement: _Statement, document: _Document, subject: Digest | None, where: str) -> VexStatement:
    text = statement.last_updated or statement.timestamp or document.last_updated or document.timestamp
    moment = read_time(text, zone=UTC)
    if moment is None:
        raise ManifestInvalid(f"its time is {text[:40]!r}, not a time", where=where)
    if statement.status == "not_affected" and not (statement.justification or statement.impact_statement.strip()):
        raise ManifestInvalid("`not_affected` has neither `justification` nor `impact_statement`", where=where)
    if not statement.vulnerability.name:
        raise ManifestInvalid("its vulnerability has no name", where=where)
    products = [_product(product, where) for product in statement.products]
    if not products and subject is not None:
        products = [VexProduct(digests=(subject,))]
    if not products:
        raise ManifestInvalid("it names no product", where=where)
    return VexStatement(
        names=(statement.vulnerability.name, *statement.vulnerability.aliases),
        status=statement.status,
        products=tuple(products),
        time=moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        author=document.author,
        justification=statement.justification,
        impact=" ".join(statement.impact_statement.split())[:500],
        action=" ".join(statement.action_statement.split())[:500],
        derived=document.id.startswith(_OWN_ID),
    )


def _product(product: _Product, where: str) -> VexProduct:
    digests, purls = _named(product)
    parts = [purl for part in product.subcomponents for purl in _named(part)[1]]
    if not digests and not purls:
        raise ManifestInvalid("a product has no package URL and no digest by which it could be told", where=where)
    return VexProduct(
        digests=tuple(digests), purls=tuple(purls), parts=tuple(parts), of_parts=bool(product.subcomponents)
    )


def _named(component: _Component) -> tuple[list[Digest], list[str]]:
    """Digests and package URLs of a component. A ``pkg:oci`` is an image: the digest in it counts, and one without says
    of which bytes it speaks to nobody."""
    digests, purls = [], []
    texts = list(dict.fromkeys(text for text in (component.id, component.identifiers.purl) if text))
    for text in texts:
        if not text.startswith("pkg:"):
            digests += _digests(text.rpartition("@")[2])
            continue
        purl = _parsed(text)
        if purl is not None and purl.type in ("oci", "docker"):
            digests += _digests(purl.version or "")
        elif purl is not None:
            purls.append(text)
    digests += [each for name in ("sha-256", "sha-512") for each in _hash(name, component.hashes)]
    return list(dict.fromkeys(digests)), purls


def _hash(name: str, hashes: dict[str, str]) -> list[Digest]:
    return _digests(f"{name.replace('-', '')}:{hashes[name].lower()}") if name in hashes else []


def _digests(text: str) -> list[Digest]:
    try:
        return [Digest.parse(text)]
    except DigestInvalid:
        return []


def _parsed(text: str) -> Any:
    from packageurl import PackageURL

    try:
        return PackageURL.from_string(text)
    except ValueError:
        return None


def _holds_part(product: VexProduct, component: str) -> bool:
    """Whether it is about this component. Of a package, as product, it is about the package itself."""
    return not product.of_parts or any(names_package(part, component) for part in product.parts)


def _is_package(product: VexProduct, component: str) -> bool:
    """Whether the product itself is this component: with parts it would be about what is inside of that."""
    return not product.of_parts and any(names_package(purl, component) for purl in product.purls)


def names_package(pattern: str, component: str) -> bool:
    """Whether a package URL in a statement is about a component: same type, namespace and name, and version and
    qualifiers where it has them."""
    wanted, there = _parsed(pattern), _parsed(component)
    if wanted is None or there is None:
        return False
    if (wanted.type, wanted.namespace, wanted.name) != (there.type, there.namespace, there.name):
        return False
    if wanted.version and wanted.version != there.version:
        return False
    qualifiers = dict(there.qualifiers or {})
    return all(qualifiers.get(name) == value for name, value in dict(wanted.qualifiers or {}).items())


def _written(statement: VexStatement) -> dict[str, Any]:
    aliases = list(dict.fromkeys(name for name in statement.names[1:] if name != statement.names[0]))
    written: dict[str, Any] = {
        "vulnerability": {"name": statement.names[0], **({"aliases": aliases} if aliases else {})},
        "timestamp": statement.time,
        "products": [_written_product(product) for product in statement.products],
        "status": statement.status,
    }
    texts = {
        "justification": statement.justification,
        "impact_statement": statement.impact,
        "action_statement": statement.action,
    }
    return written | {name: text for name, text in texts.items() if text}


def _written_product(product: VexProduct) -> dict[str, Any]:
    parts = {"subcomponents": [{"@id": part} for part in product.parts]} if product.of_parts else {}
    if product.digests:
        digest = product.digests[0]
        return {"@id": f"pkg:oci/image@{digest.algorithm}%3A{digest.hex}", "hashes": _hashes(digest), **parts}
    return {"@id": product.purls[0], **parts}


def _hashes(digest: Digest) -> dict[str, str]:
    return {digest.algorithm.replace("sha", "sha-"): digest.hex}
