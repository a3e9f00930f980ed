"""Which of our components a cloud's finding is about: clouds name packages, and not package URLs."""

from __future__ import annotations

import re
from collections.abc import Iterable

from registry_pipelines.scan.report import Component


class Components:
    """The components of one platform's image, by what others call them."""

    def __init__(self, components: Iterable[Component]) -> None:
        self._known: dict[tuple[str, str], list[Component]] = {}
        self.types: set[str] = set()
        self.all = list(components)
        for component in self.all:
            self.types.add(component.type)
            for name in {component.name, component.source_name} - {""}:
                self._known.setdefault((component.type, _spelt(component.type, name)), []).append(component)

    def find(self, types: Iterable[str], name: str, versions: Iterable[str]) -> Component | None:
        """One of these types, of this name and one of these versions, binary or source; the name alone is not enough:
        another version may be in another layer."""
        wanted = {version for version in versions if version}
        for kind in types:
            for component in self._known.get((kind, _spelt(kind, name)), ()):
                if wanted & {component.version, component.source_version, _without_epoch(component.version)}:
                    return component
        return None

    def purl(self, types: tuple[str, ...], name: str, versions: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        """The package URL of a finding, and where it is: of our component, or made of what was said."""
        if component := self.find(types, name, versions):
            return component.purl, component.locations
        from packageurl import PackageURL

        version = next((version for version in versions if version), None)
        kind = types[0] if len(types) == 1 else next((each for each in types if each in self.types), "generic")
        spelt = name or "unnamed"
        namespace, _, last = spelt.rpartition("/") if kind in ("npm", "golang") else ("", "", spelt)
        if kind == "maven" and ":" in spelt:
            namespace, _, last = spelt.partition(":")
        try:
            return str(PackageURL(type=kind, namespace=namespace or None, name=last, version=version)), ()
        except (ValueError, TypeError):  # TypeError: of a name of blanks alone
            return f"pkg:generic/{re.sub(r'[^A-Za-z0-9._-]', '-', spelt)[:200] or 'unnamed'}", ()


def _spelt(kind: str, name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower() if kind == "pypi" else name


def _without_epoch(version: str) -> str:
    return version.partition(":")[2] if ":" in version else version
