"""Whether a distribution's package still stands for the Python or npm package that lies at its path.

A distribution backports fixes into what it ships, so a finding of the language's own advisories does not count there.
That holds only while the file is the package's: an upper layer may have put another package over it (``pip install``
into the system's folder), and then nobody backports anything. Name and version inside the file tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from packaging.version import InvalidVersion
from packaging.version import Version as PypiVersion

from registry_pipelines.scan.facts import OsPackage

_PREFIX = re.compile(r"(?:python(?:\d(?:\.\d+)?)?|pypy3?|py\d?|node|nodejs)-(?=.)")
_NATIVE_SUFFIX = re.compile(r"(?:ubuntu|build)[\d.]*\Z")


def agrees(packages: Iterable[OsPackage], manager: str, name: str, version: str) -> bool:
    """Whether one of the distribution's packages is this package in this version.

    manager: ``deb`` or ``apk``. Names are compared without what distributions put in front (``python3-jinja2`` is
    Jinja2), the source package's too (``python3-yaml`` comes from ``pyyaml``). Versions are compared without epoch,
    revision and what marks a repack (``1:3.1.2+dfsg-1+deb12u1`` is 3.1.2).
    """
    names, versions = set(_names(name)), set(_comparable([version]))
    return any(
        names & {form for stated in (package.name, package.source) if stated for form in _names(stated)}
        and versions & {form for stated in _versions(package) for form in _comparable(_upstream(manager, stated))}
        for package in packages
    )


def _versions(package: OsPackage) -> list[str]:
    return [stated for stated in (package.version, package.source_version) if stated]


def _names(name: str) -> Iterator[str]:
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    yield plain
    bare = _PREFIX.sub("", plain, count=1)
    yield bare
    if bare.startswith("py") and len(bare) > len("py"):  # py3-yaml is PyYAML
        yield bare.removeprefix("py").lstrip("-")


def _upstream(manager: str, version: str) -> Iterator[str]:
    """What the packaged version may be called by its makers."""
    if manager == "apk":
        text = re.sub(r"-r\d+\Z", "", version)
        yield from (text, text.replace("_", ""), text.replace("_", "-"), text.partition("_")[0])
        return
    text = version.partition(":")[2] if ":" in version else version
    text = text.rpartition("-")[0] or _NATIVE_SUFFIX.sub("", text)
    text = text.partition("+really")[2] or text
    whole = re.split(r"[+.~-](?:dfsg|ds|repack|debian)", text)[0]
    yield from (text, whole, whole.replace("~", ""), whole.replace("~", "-"), re.split(r"[+~]", whole)[0])


def _comparable(texts: Iterable[str]) -> Iterator[str | PypiVersion]:
    """Equal for equal versions: 1.0 and 1.0.0 are one for Python, whose packages these mostly are."""
    for text in texts:
        yield text
        try:
            yield PypiVersion(PypiVersion(text).public)
        except InvalidVersion:
            continue
