"""What programs and archives say of themselves as components: Go's modules, Java's artifacts."""

from __future__ import annotations

from collections.abc import Iterator

from packageurl import PackageURL

from registry_pipelines.scan.facts import GoModule, GoProgram, JavaArchive, JavaArtifact
from registry_pipelines.scan.go_programs import standard_library
from registry_pipelines.scan.report import Component


def go_components(fact: GoProgram, path: str, *, inside: str = "", owner: str = "") -> Iterator[Component]:
    """A Go program: its main module, below that the others and the standard library. inside: the wheel that brings it
    along. owner: the distribution's package whose file it is."""
    outer = inside
    if fact.main is not None:
        main = _module(fact.main, path, inside, owner)
        outer = main.purl
        yield main
    if fact.go:
        yield _module(standard_library(fact.go), path, outer, owner)
    for module in fact.modules:
        if fact.main is None or module.path != fact.main.path:
            yield _module(module, path, outer, owner)


def _module(module: GoModule, path: str, inside: str, owner: str) -> Component:
    namespace, _, name = module.path.rpartition("/")
    return Component(
        purl=PackageURL("golang", namespace or None, name, module.version or None).to_string(),
        name=module.path,
        version=module.version,
        type="golang",
        ecosystem="Go",
        locations=(path,),
        inside=inside,
        os_owned=owner,
    )


def java_components(fact: JavaArchive, path: str, *, inside: str = "", owner: str = "") -> Iterator[Component]:
    """A Java archive: what it is, below that what was packed into it and the archives inside, each inside the archive
    that holds it. inside, owner: as for :func:`go_components`."""
    around: dict[str, str] = {}
    """By archive: what it is."""
    for artifact in sorted(fact.artifacts, key=lambda each: (each.path.count("!/") + bool(each.path), not each.main)):
        outer = _outer(artifact.path) if artifact.main else artifact.path
        holder = inside if outer is None else around.get(outer, inside)
        component = _artifact(artifact, path, holder, owner)
        if artifact.main:
            around[artifact.path] = component.purl
        yield component


def _outer(path: str) -> str | None:
    """The archive that holds an archive; None: it is the file itself."""
    return path.rpartition("!/")[0] if path else None


def _artifact(artifact: JavaArtifact, path: str, inside: str, owner: str) -> Component:
    known = bool(artifact.group)
    kind, group = ("maven", artifact.group) if known else ("generic", None)
    return Component(
        purl=PackageURL(kind, group, artifact.name, artifact.version or None).to_string(),
        name=f"{artifact.group}:{artifact.name}" if known else artifact.name,
        version=artifact.version,
        type=kind,
        ecosystem="Maven" if known else "",
        locations=(f"{path}!/{artifact.path}" if artifact.path else path,),
        licenses=artifact.licenses,
        evidence="manifest" if known else "content" if artifact.version else "name",
        inside=inside,
        os_owned=owner,
    )
