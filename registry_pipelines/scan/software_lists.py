"""Lists of software that a package brings along, read from bytes: SBOMs and vendor lists.

A list says what its maker put into the package. Nothing is taken from it but names, versions and package URLs. Bad
content gives a list with problems, never an exception.

Sources: PEP 770 (``<name>.dist-info/sboms/``), CycloneDX 1.x (JSON), SPDX 2.2, 2.3 (JSON) and 3.0 (JSON-LD), pip's
``vendor.txt``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import msgspec
from packageurl import PackageURL
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from registry_pipelines.oci.decoding import ready
from registry_pipelines.progress import count_text
from registry_pipelines.scan.facts import Listed, SoftwareList
from registry_pipelines.scan.os_databases import MAX_LICENSE_CHARACTERS, MAX_LICENSES

MAX_LIST_BYTES = 32 * 1024 * 1024
"""One list; uv's SBOM, with 566 crates, has 0.8 MiB."""
MAX_LISTED = 50_000
"""Things named by one list."""
MAX_PROBLEMS = 20
"""Entries that could not be read, named one by one."""

_NOT_TOLD = frozenset({"NOASSERTION", "NONE"})
"""What SPDX writes where nothing is known."""
_MAX_TEXT = 1024
"""Characters of a name or a package URL; a longer one counts as absent."""
_VERSION = re.compile(r"[^\s\x00-\x1f]{1,256}\Z")
_COMMENT = re.compile(r"(?:^|\s)#.*")
_OPTIONS = re.compile(r"\s--?[A-Za-z].*")
_NAMES_NOTHING = re.compile(r"-(?!e|r|-editable|-requirement)")
"""The options of a line of their own, but for those that bring software by another way than its name."""
_AUDITWHEEL_REF = re.compile(r"#([0-9a-f]{64})\Z")
_NAMELESS = "an entry of the SBOM has neither a name nor a package URL that can be read"
_T = TypeVar("_T")


class _Unusable(ValueError):
    """The list cannot be used; the text is the reason."""


class _Entry(NamedTuple):
    name: str
    version: str
    purl: str
    ref: str
    described: bool
    licenses: tuple[str, ...] = ()


def read_sbom(raw: bytes) -> SoftwareList:
    """An SBOM; the content tells the format.

    What CycloneDX calls ``excluded`` is counted and not listed: by its definition it is not there at run time.
    """
    digest = hashlib.sha256(raw).hexdigest()
    try:
        entries, excluded = _entries(raw.removeprefix(b"\xef\xbb\xbf"))
        if len(entries) > MAX_LISTED:
            raise _Unusable(f"the SBOM names {count_text(len(entries), 'component')}, at most {MAX_LISTED} are read")
    except _Unusable as problem:
        return SoftwareList(digest=digest, problems=(str(problem),))
    listed = [software for entry in entries if (software := _listed(entry)) is not None]
    about = {software.purl for software in listed if software.described}
    marked = (msgspec.structs.replace(software, described=software.purl in about) for software in listed)
    return SoftwareList(
        digest=digest,
        listed=tuple(dict.fromkeys(marked)),
        excluded=excluded,
        problems=(_NAMELESS,) if len(listed) < len(entries) else (),
    )


def too_large(size: int) -> SoftwareList:
    """The list in a file beyond the limit."""
    return SoftwareList(digest="", problems=(f"the file has {size} bytes, at most {MAX_LIST_BYTES} are read",))


def too_many(found: int, most: int) -> SoftwareList:
    """The list in a file with more entries than are read."""
    return SoftwareList(
        digest="",
        problems=(f"the file has {count_text(found, 'line or entry', 'lines or entries')}, at most {most} are read",),
    )


def read_vendor_list(raw: bytes) -> SoftwareList:
    """``vendor.txt``, a requirements file of pip: one requirement a line; what is not pinned is listed without a
    version. Options, as ``--hash`` behind a requirement, say nothing of what is there."""
    listed: dict[Listed, None] = {}
    problems: list[str] = []
    for number, line in _joined(raw.decode("utf-8", "backslashreplace")):
        text = _OPTIONS.sub("", _COMMENT.sub("", line).strip())
        if not text or _NAMES_NOTHING.match(text):
            continue
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            problems.append(f"line {number} ({text[:60]!r}) is not a requirement")
            continue
        pins = [specifier.version for specifier in requirement.specifier if specifier.operator in ("==", "===")]
        version = pins[0] if len(pins) == 1 and "*" not in pins[0] else ""
        name = str(canonicalize_name(requirement.name))
        purl = PackageURL("pypi", None, name, version or None).to_string()
        listed[Listed(purl=purl, name=name, version=version)] = None
    digest = hashlib.sha256(raw).hexdigest()
    return SoftwareList(digest=digest, is_sbom=False, listed=tuple(listed), problems=_distinct(problems))


def _joined(text: str) -> Iterator[tuple[int, str]]:
    """Lines, those that end with a backslash together with the next, and the number of the first. A comment ends such a
    line, as in pip."""
    first, begun = 0, ""
    for number, ended in enumerate(text.split("\n"), 1):
        line = ended.removesuffix("\r")
        first = first or number
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            begun += line[:-1]
            continue
        yield first, f"{begun} {line}"
        first, begun = 0, ""
    yield first, begun


def _distinct(problems: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(problems))[:MAX_PROBLEMS]


def _listed(entry: _Entry) -> Listed | None:
    """The entry with its package URL in canonical form; as ``pkg:generic`` where it has a name only."""
    mark = _AUDITWHEEL_REF.search(entry.ref)
    version = entry.version if _VERSION.match(entry.version) else ""
    try:
        purl = _canonical(PackageURL.from_string(entry.purl), version)
        name = purl.name
    except ValueError:
        try:
            purl = _canonical(PackageURL("generic", None, entry.name), version)
            name = entry.name
        except ValueError:
            return None
    return Listed(
        purl=purl.to_string(),
        name=name,
        version=purl.version or "",
        described=entry.described,
        path_hash=mark[1] if mark else "",
        licenses=entry.licenses,
    )


def _canonical(purl: PackageURL, stated_version: str) -> PackageURL:
    """Without subpath, which names a part of the package, and without folders of the machine that built it; with the
    version that the list gives elsewhere, when the URL has none. Raises ValueError."""
    version = purl.version if purl.version and _VERSION.match(purl.version) else stated_version
    name = str(canonicalize_name(purl.name)) if purl.type == "pypi" else purl.name
    qualifiers = {
        key: value
        for key, value in (purl.qualifiers.items() if isinstance(purl.qualifiers, dict) else ())
        if not (key == "download_url" and value.startswith("file:"))
    }
    # Read again: packageurl-python 0.17 writes a slash in a name as it is, and reads it as the end of a namespace.
    return PackageURL.from_string(PackageURL(purl.type, purl.namespace, name, version or None, qualifiers).to_string())


def _text(value: Any) -> str:
    """A text that can be written again, without blanks around it; empty for anything else."""
    if not isinstance(value, str) or value in _NOT_TOLD:
        return ""
    cleaned = value.encode("utf-8", "backslashreplace").decode("utf-8").strip()
    return cleaned if len(cleaned) <= _MAX_TEXT else ""


def _decode(raw: bytes, shape: type[_T]) -> _T:
    try:
        return msgspec.json.decode(raw, type=ready(shape))
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise _Unusable(f"the SBOM cannot be read: {error}") from error


class _Format(msgspec.Struct):
    """The fields that tell the format."""

    bom_format: Any = msgspec.field(name="bomFormat", default="")
    bom_version: Any = msgspec.field(name="specVersion", default="")
    spdx_version: Any = msgspec.field(name="spdxVersion", default="")
    context: Any = msgspec.field(name="@context", default="")


def _entries(raw: bytes) -> tuple[list[_Entry], int]:
    if raw.lstrip()[:1] != b"{":
        raise _Unusable("an SBOM in a format that is not read; CycloneDX and SPDX are, as JSON")
    signs = _decode(raw, _Format)
    if signs.bom_format == "CycloneDX" and _text(signs.bom_version).startswith("1."):
        return _cyclonedx(_decode(raw, _Bom))
    if _text(signs.spdx_version).startswith("SPDX-2."):
        return _spdx2(_decode(raw, _Spdx2)), 0
    if "spdx.org/rdf/3." in str(signs.context):
        return _spdx3(_decode(raw, _Spdx3)), 0
    named = f"{_text(signs.bom_format)} {_text(signs.bom_version)} {_text(signs.spdx_version)}".strip()[:60]
    raise _Unusable(f"JSON that is no SBOM of a known format{f' ({named})' if named else ''}")


class _Component(msgspec.Struct):
    """A CycloneDX component; documents of others may hold anything in these fields."""

    name: Any = ""
    version: Any = ""
    purl: Any = ""
    scope: Any = ""
    licenses: Any = None
    ref: Any = msgspec.field(name="bom-ref", default="")
    components: list[_Component] | None = None


class _Metadata(msgspec.Struct):
    component: _Component | None = None


class _Bom(msgspec.Struct):
    metadata: _Metadata | None = None
    components: list[_Component] | None = None


def _cyclonedx(bom: _Bom) -> tuple[list[_Entry], int]:
    described = bom.metadata.component if bom.metadata else None
    marks = {_text(described.ref), _text(described.purl)} - {""} if described else set()
    entries: list[_Entry] = []
    excluded = 0
    for component in _walk([*([described] if described else []), *(bom.components or [])]):
        if component.scope == "excluded":
            excluded += 1
            continue
        name, version, purl, ref = (
            _text(value) for value in (component.name, component.version, component.purl, component.ref)
        )
        own = component is described or bool(marks & {ref, purl})
        entries.append(_Entry(name, version, purl, ref, own, _licenses(component.licenses)))
    return entries, excluded


def _licenses(choices: Any) -> tuple[str, ...]:
    """CycloneDX's ``licenses``: expressions, or licences with an SPDX identifier or a name."""
    found: dict[str, None] = {}
    for choice in choices if isinstance(choices, list) else []:
        if isinstance(choice, dict):
            license = choice.get("license")
            named = (license.get("id") or license.get("name")) if isinstance(license, dict) else ""
            found[_text(choice.get("expression")) or _text(named)] = None
    return tuple(text for text in found if 0 < len(text) <= MAX_LICENSE_CHARACTERS)[:MAX_LICENSES]


def _walk(components: list[_Component]) -> Iterator[_Component]:
    todo = components[::-1]
    while todo:
        component = todo.pop()
        yield component
        todo.extend((component.components or [])[::-1])


class _Reference(msgspec.Struct):
    type: Any = msgspec.field(name="referenceType", default="")
    locator: Any = msgspec.field(name="referenceLocator", default="")


class _Package(msgspec.Struct):
    id: Any = msgspec.field(name="SPDXID", default="")
    name: Any = ""
    version: Any = msgspec.field(name="versionInfo", default="")
    references: list[_Reference] | None = msgspec.field(name="externalRefs", default=None)
    license: Any = msgspec.field(name="licenseDeclared", default="")
    concluded: Any = msgspec.field(name="licenseConcluded", default="")


class _Relationship(msgspec.Struct):
    kind: Any = msgspec.field(name="relationshipType", default="")
    target: Any = msgspec.field(name="relatedSpdxElement", default="")


class _Spdx2(msgspec.Struct):
    packages: list[_Package] | None = None
    describes: list[Any] | None = msgspec.field(name="documentDescribes", default=None)
    relationships: list[_Relationship] | None = None


def _spdx2(document: _Spdx2) -> list[_Entry]:
    described = {_text(name) for name in document.describes or []}
    described |= {
        _text(relationship.target) for relationship in document.relationships or [] if relationship.kind == "DESCRIBES"
    }
    entries = []
    for package in document.packages or []:
        purls = [_text(reference.locator) for reference in package.references or [] if reference.type == "purl"]
        entries.append(
            _Entry(
                _text(package.name),
                _text(package.version),
                purls[0] if purls else "",
                "",
                _text(package.id) in described,
                tuple(filter(None, [_text(package.license) or _text(package.concluded)])),
            )
        )
    return entries


class _Element(msgspec.Struct):
    type: Any = ""
    id: Any = msgspec.field(name="spdxId", default="")
    name: Any = ""
    version: Any = msgspec.field(name="software_packageVersion", default="")
    url: Any = msgspec.field(name="software_packageUrl", default="")
    identifiers: Any = msgspec.field(name="externalIdentifier", default=None)
    roots: Any = msgspec.field(name="rootElement", default=None)


class _Spdx3(msgspec.Struct):
    graph: list[_Element] = msgspec.field(name="@graph")


def _spdx3(document: _Spdx3) -> list[_Entry]:
    roots = {_text(root) for element in document.graph if isinstance(element.roots, list) for root in element.roots}
    entries = []
    for element in document.graph:
        if element.type != "software_Package":
            continue
        purls = [_text(element.url), *_identified(element.identifiers)]
        entries.append(
            _Entry(
                _text(element.name),
                _text(element.version),
                next(filter(None, purls), ""),
                "",
                _text(element.id) in roots,
            )
        )
    return entries


def _identified(identifiers: Any) -> Iterator[str]:
    """``externalIdentifier`` entries that are package URLs; blank references to other elements are passed over."""
    for identifier in identifiers if isinstance(identifiers, list) else []:
        if isinstance(identifier, dict) and identifier.get("externalIdentifierType") == "packageUrl":
            yield _text(identifier.get("identifier"))
