"""The operating system of an image, for the documents that other programs read: trivy (0.74) looks for it before it
looks at packages of a distribution, and passes over all of them where a document does not name it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from packageurl import PackageURL

from registry_pipelines.scan.report import DISTRIBUTED, Component

_FAMILIES = {
    "almalinux": "alma",
    "amzn": "amazon",
    "mariner": "cbl-mariner",
    "ol": "oracle",
    "rhel": "redhat",
}
"""Where trivy's own word is another than the ID of ``/etc/os-release`` (its pkg/fanal/types/const.go)."""


class InstalledSystem(NamedTuple):
    """id, version: of ``/etc/os-release``, as the package URLs of its packages have them."""

    id: str
    version: str

    @property
    def family(self) -> str:
        """What trivy calls it."""
        return _FAMILIES.get(self.id, self.id)


def is_of_system(component: Component) -> bool:
    """Whether a package manager of the distribution installed it; what wheels bring along may be another's package."""
    return component.type in DISTRIBUTED and not component.inside


def installed_system(components: Iterable[Component]) -> InstalledSystem | None:
    """The one that most packages name; None where there are no packages, or none says."""
    named = Counter(_distribution(each.purl) for each in components if is_of_system(each))
    del named[""]
    if not named:
        return None
    most = max(sorted(named), key=lambda each: named[each])
    distribution, dash, version = most.rpartition("-")
    return InstalledSystem(distribution, version) if dash else InstalledSystem(most, "")


def _distribution(purl: str) -> str:
    try:
        qualifiers = PackageURL.from_string(purl).qualifiers
    except ValueError:  # of a document that somebody else changed
        return ""
    return qualifiers.get("distro", "") if isinstance(qualifiers, dict) else ""


__all__ = ["InstalledSystem", "installed_system", "is_of_system"]
