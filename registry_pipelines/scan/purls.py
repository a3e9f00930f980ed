"""From a package URL to what advisories call the package (purl-spec, ``PURL-TYPES``; OSV schema 1.7, "Defined
ecosystems")."""

from __future__ import annotations

import re
from typing import NamedTuple

from packageurl import PackageURL

_BY_TYPE = {
    "pypi": "PyPI",
    "npm": "npm",
    "cargo": "crates.io",
    "golang": "Go",
    "maven": "Maven",
    "gem": "RubyGems",
    "nuget": "NuGet",
    "composer": "Packagist",
    "hex": "Hex",
    "pub": "Pub",
    "swift": "SwiftURL",
    "conan": "ConanCenter",
    "cran": "CRAN",
    "hackage": "Hackage",
}
_SEPARATORS = {"maven": ":"}
"""Between namespace and name; a slash elsewhere."""
_RELEASED = {"debian": "Debian:{}", "ubuntu": "Ubuntu:{}", "alpine": "Alpine:v{}", "almalinux": "AlmaLinux:{}"}
_ROLLING = {"wolfi": "Wolfi", "chainguard": "Chainguard"}
_PACKED_AS = {"deb": ("debian", "ubuntu"), "apk": ("alpine", *_ROLLING), "rpm": ("almalinux",)}
"""Of the distributions with rpm, only AlmaLinux publishes by the name of the installed package (OSV schema 1.7)."""
_ALMA_RELEASE = re.compile(r"\.el(\d+)(?:[._]|\Z)")


class Named(NamedTuple):
    """What advisories call a package."""

    ecosystem: str
    """OSV ecosystem; empty when OSV has none for it, or the package URL does not tell enough to look it up."""
    name: str
    source_name: str = ""
    source_version: str = ""


def ecosystem_of_release(kind: str, distribution: str, version: str) -> str:
    """``Debian:12`` for ``debian`` and ``12``; empty when advisories know no such distribution or it has no version.

    kind: of the package, ``deb``, ``apk`` or ``rpm``. A distribution with other packages says nothing about it: looked
    up there, none would ever be found affected.
    """
    if distribution not in _PACKED_AS[kind]:
        return ""
    if distribution == "almalinux":
        version = version.partition(".")[0]
    if distribution == "alpine":
        version = ".".join(version.split(".")[:2])
    template = _RELEASED.get(distribution, "")
    return template.format(version) if template and version else _ROLLING.get(distribution, "")


def named(purl: PackageURL) -> Named:
    """Ecosystem and name for one package URL.

    Debian's and Alpine's advisories go by source package: without the qualifier ``upstream`` there is no ecosystem,
    since a look-up by the binary package's name finds nothing whatever there is.
    """
    if purl.type in _BY_TYPE:
        name = _SEPARATORS.get(purl.type, "/").join(filter(None, (purl.namespace, purl.name)))
        return Named(_BY_TYPE[purl.type], name)
    qualifiers = purl.qualifiers if isinstance(purl.qualifiers, dict) else {}
    distribution, _, version = qualifiers.get("distro", "").rpartition("-")
    if purl.type == "rpm" and purl.namespace == "almalinux":
        match = _ALMA_RELEASE.search(purl.version or "")
        major = version.partition(".")[0] if distribution == "almalinux" else match[1] if match else ""
        return Named(f"AlmaLinux:{major}" if major else "", purl.name)
    if purl.type in ("deb", "apk") and "upstream" in qualifiers:
        source, _, source_version = qualifiers["upstream"].partition("@")
        if not distribution:
            distribution, version = purl.namespace or "", ""
        return Named(ecosystem_of_release(purl.type, distribution, version), purl.name, source, source_version)
    return Named("", purl.name)
