"""Judges what does not link, the worst first.

Only files for the image's machine are looked at. What is loaded is known of programs and of Python's extensions, and of
all that they link to; every other library is loaded by somebody's own words (``dlopen``), or never.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, cast

from registry_pipelines.build.links.optional import (
    DRIVER,
    base_name,
    cuda_library,
    is_extension,
    known_optional,
    usual_way,
    variants,
)
from registry_pipelines.build.links.report import SEVERITIES, Brought, Kind, LinkFinding, LinkReport, Severity
from registry_pipelines.build.links.root import Root
from registry_pipelines.build.links.search import Search
from registry_pipelines.oci.layer.linkage import LayerLinks
from registry_pipelines.progress import count_text

LINKS_FORMAT = 2
"""Part of the key under which a report is remembered; raised when equal layers shall be judged otherwise."""

NAMED = 6
"""Libraries named in one sentence; all of them are in ``needs``."""

EXAMPLES = 5
"""Files named for one finding."""

ELF_MACHINES = {"amd64": 62, "arm64": 183, "386": 3, "arm": 40, "ppc64le": 21, "s390x": 22, "riscv64": 243}
"""Architectures of images to ``e_machine`` of the System V ABI."""

_GLIBC = re.compile(r"GLIBC_2\.(\d+)\Z")


def check_links(
    layers: Sequence[LayerLinks | None],
    *,
    platform: str,
    architecture: str,
    environment: Iterable[str] = (),
    own: Callable[[int], bool] = lambda layer: True,
) -> LinkReport:
    """Look at every file of the layers that are ``own`` (by number, from 0; the others only bring libraries).

    layers: base first, None for one that nobody can read. environment: ``NAME=value`` of the image's config.
    """
    variables = dict(each.partition("=")[::2] for each in environment)
    check = _Check(Root(layers), variables.get("LD_LIBRARY_PATH", ""), ELF_MACHINES.get(architecture, 0), own)
    return check.report(platform)


class _Want(NamedTuple):
    """Something that a file does not find, in words that are the same for all for which the same is to be done."""

    kind: Kind
    needs: str
    why: str
    """``{}`` stands for all that is needed."""
    do: str


class _Check:
    def __init__(self, root: Root, library_path: str, machine: int, own: Callable[[int], bool]) -> None:
        self._root = root
        self._search = Search(root, library_path)
        self._machine = machine
        self._files = [
            path for path, facts in root.files.items() if facts.machine[2] == machine and own(root.layer[path])
        ]
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        for path, facts in root.files.items():
            for name in {facts.soname, base_name(path)} - {""}:
                self._by_name[name].append(path)
        self._found: dict[str, dict[str, str]] = {}
        """File to library to what is loaded for it; empty: nothing is."""
        self._needed_by: dict[str, set[str]] = defaultdict(set)
        self._before: dict[tuple[str, str], int] = defaultdict(int)
        self._driver: set[str] = set()

    def report(self, platform: str) -> LinkReport:
        self._link()
        loaded = self._loaded()
        groups: dict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
        for path in self._files:
            owners = sorted(self._root.owners.get(path, ()))
            for want in self._wants(path):
                severity = self._severity(path, want, loaded)
                groups[severity, want.kind, want.why, want.do, *owners].append((want.needs, path))
        findings = [_finding(key, found) for key, found in groups.items()]
        findings += [*self._overwritten(), *self._two_majors(), *self._unread()]
        return LinkReport(
            platform=platform,
            checked=len(self._files),
            libraries=len({name for path in self._files for name in self._root.files[path].needed}),
            findings=tuple(sorted(findings, key=lambda each: (SEVERITIES.index(each.severity), each.kind, each.needs))),
            from_driver=tuple(sorted(self._driver)),
            loaded_before=tuple(
                Brought(library=library, file=f"/{path}", needed_by=count)
                for (library, path), count in sorted(self._before.items())
            ),
        )

    def _link(self) -> None:
        missing = []
        for path in self._root.files:
            if self._root.files[path].machine[2] != self._machine:
                continue
            found = self._found[path] = {}
            for name in self._root.files[path].needed:
                library = found[name] = self._search.find(name, path)
                if library:
                    self._needed_by[library].add(path)
                else:
                    missing.append((path, name))
        left = []
        for path, name in missing:
            library = self._found[path][name] = self._search.inherited(name, path, self._needed_by)
            if library:
                self._needed_by[library].add(path)
            else:
                left.append((path, name))
        loaded, own = self._loaded(), set(self._files)
        for path, name in left:
            library = self._found[path][name] = self._loaded_before(path, name, loaded)
            if library and path in own:
                self._before[name, library] += 1

    def _loaded_before(self, path: str, name: str, loaded: set[str]) -> str:
        """A library of this name in a Python package, where the same package needs it, which then loads it by its path,
        or where something links to it that is loaded itself: torch's own parts to NVIDIA's, and extensions of torch
        after them. Others' libraries stay alone until somebody opens them."""
        machine, mine = self._root.files[path].machine, set(self._root.owners.get(path, ()))
        for library in self._by_name.get(name, ()):
            in_package = library in self._root.owners or "-packages/" in library
            near = library in loaded or not mine or mine & self._root.owners.get(library, {}).keys()
            if in_package and near and self._root.files[library].machine == machine:
                return library
        return ""

    def _loaded(self) -> set[str]:
        """Programs, Python's extensions, and all that they link to."""
        seen: set[str] = set()
        todo = [path for path in self._root.files if path in self._found and self._is_start(path)]
        while todo:
            path = todo.pop()
            if path not in seen:
                seen.add(path)
                todo += [library for library in self._found.get(path, {}).values() if library]
        return seen

    def _is_start(self, path: str) -> bool:
        facts, shown = self._root.files[path], f"/{path}"
        program = bool(facts.interpreter) and ".so" not in base_name(path)
        return (program or is_extension(shown)) and not known_optional(shown, "")

    def _severity(self, path: str, want: _Want, loaded: set[str]) -> Severity:
        shown = f"/{path}"
        if known_optional(shown, want.needs):
            return "optional"
        if path in loaded:
            # The environment of the container, or ldconfig when it starts, may name the folder.
            return "likely" if want.kind == "not-searched" else "certain"
        others = variants(shown, (f"/{each}" for each in self._found))
        return "optional" if any(self._links(each[1:]) for each in others) else "likely"

    def _links(self, path: str) -> bool:
        """Whether everything that a file needs itself is there."""
        return all(library or DRIVER.match(name) for name, library in self._found[path].items())

    def _wants(self, path: str) -> Iterator[_Want]:
        facts = self._root.files[path]
        if facts.problem:
            why = f"has a library that cannot be read: {facts.problem}"
            yield _Want("unread", base_name(path), why, "build it again, or leave it out")
        if facts.interpreter and not self._root.resolve(facts.interpreter.lstrip("/")):
            why = "is a program for the loader {}, which the image has not"
            yield _Want("missing", facts.interpreter, why, "take a base with that C library")
        for name, library in self._found[path].items():
            if library:
                gives = set(self._root.files[library].gives)
                for version in facts.versions.get(name, ()) if gives else ():
                    if version not in gives:
                        yield self._older(name, version, library)
            elif DRIVER.match(name):
                self._driver.add(name)
            else:
                yield self._missing(path, name)

    def _older(self, name: str, version: str, library: str) -> _Want:
        why = f"needs {{}}, and {self._has(library, version)}"
        glibc = _GLIBC.match(version)
        do = f"take a base with glibc 2.{glibc[1]} or newer, or another version of the package" if glibc else ""
        return _Want("version", f"{name} {version}", why, do or f"take a base with a newer {name}")

    def _missing(self, path: str, name: str) -> _Want:
        machine = self._root.files[path].machine
        same = [each for each in self._by_name.get(name, ()) if self._root.files[each].machine == machine]
        if same and (found := self._search.after_ldconfig(name, path)):
            why = f"needs {{}}, which stands in /{posixpath.dirname(found)} and not in the loader's cache"
            return _Want("not-searched", name, why, "run ldconfig")
        if same:
            folder = f"/{posixpath.dirname(same[0])}"
            why = f"needs {{}}, which stands in {folder}, where no loader looks, and nothing loaded links to it"
            return _Want("not-searched", name, why, f"load it before by its path, or set LD_LIBRARY_PATH to {folder}")
        if name.startswith(("libc.so.6", "ld-linux")):
            why = "needs {}: it was built for glibc, and the image has none"
            return _Want("missing", name, why, "take a base with glibc")
        nearest = self._nearest(name)
        return _Want("missing", name, f"needs {{}}, nobody brings it{nearest}", _way(name, beside=bool(nearest)))

    def _nearest(self, name: str) -> str:
        """Other versions that are there."""
        stem = name.partition(".so")[0]
        there = sorted(each for each in self._by_name if each != name and each.startswith(f"{stem}.so."))
        if not there:
            return ""
        path = min(self._by_name[there[-1]], key=lambda each: base_name(each) != there[-1])
        owners = ", ".join(sorted(self._root.owners.get(path, ())))
        return f"; {there[-1]} is there{f', of {owners}' if owners else ''}"

    def _has(self, library: str, version: str) -> str:
        gives = self._root.files[library].gives
        prefix = version.rpartition("_")[0]
        same = [each for each in gives if each.rpartition("_")[0] == prefix and each.rpartition("_")[2][:1].isdigit()]
        newest = max(same, key=_numbers, default="")
        return f"/{library} has {newest} at most" if newest else f"/{library} has no such version"

    def _overwritten(self) -> Iterable[LinkFinding]:
        """By folder: libraries that several wheels say are theirs, with different content."""
        folders: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
        for path, hashes in self._root.owners.items():
            projects = {owner.partition(" ")[0] for owner in hashes}
            if len(projects) > 1 and len(set(hashes.values())) > 1 and path in self._found:
                folders[path.rpartition("/")[0], tuple(sorted(hashes))].append(path)
        for (folder, owners), paths in sorted(folders.items()):
            yield LinkFinding(
                severity="likely",
                kind="overwritten",
                needs=tuple(sorted({base_name(path) for path in paths})[:EXAMPLES]),
                owners=owners,
                files=tuple(f"/{path}" for path in sorted(paths)[:EXAMPLES]),
                count=len(paths),
                why=f"write {count_text(len(paths), 'library', 'libraries')} with different content into /{folder}: "
                "those of one of them stand there, whichever was installed last",
                do="take wheels of one CUDA major" if "/nvidia/" in f"/{folder}/" else "leave one of the two out",
            )

    def _two_majors(self) -> Iterable[LinkFinding]:
        majors: dict[int, str] = {}
        for name, paths in self._by_name.items():
            cuda = cuda_library(name)
            if cuda and cuda[0] == "cudart" and name == self._root.files[paths[0]].soname:
                majors.setdefault(cuda[1], paths[0])
        if len(majors) > 1:
            places = sorted(majors.items())
            yield LinkFinding(
                severity="optional",
                kind="two-majors",
                needs=tuple(f"libcudart.so.{major}" for major, _ in places),
                owners=tuple(sorted({owner for _, path in places for owner in self._root.owners.get(path, ())})),
                files=tuple(f"/{path}" for _, path in places),
                count=len(places),
                why=f"bring CUDA {' and '.join(str(major) for major, _ in places)}: their libraries are there twice",
                do="take wheels of one CUDA major where there are such",
            )

    def _unread(self) -> Iterable[LinkFinding]:
        for problem in self._root.problems:
            yield LinkFinding(
                severity="certain",
                kind="unread",
                needs=(),
                owners=(),
                files=(),
                count=0,
                why=f"{problem}: what it brings and needs is not known",
                do="build it in a form that can be read",
            )


def _finding(key: tuple[str, ...], found: list[tuple[str, str]]) -> LinkFinding:
    """Of a group: severity, kind, why, do and owners, and what each file needs."""
    severity, kind, why, do, *owners = key
    needs, files = sorted({each for each, _ in found}), sorted({path for _, path in found})
    more = f" and {len(needs) - NAMED} more" if len(needs) > NAMED else ""
    return LinkFinding(
        severity=cast(Severity, severity),
        kind=cast(Kind, kind),
        needs=tuple(needs),
        owners=tuple(owners),
        files=tuple(f"/{path}" for path in files[:EXAMPLES]),
        count=len(files),
        why=why.replace("{}", ", ".join(needs[:NAMED]) + more),
        do=do,
    )


def _way(name: str, *, beside: bool) -> str:
    """What to do for a library that is missing. beside: another version of it is there."""
    if cuda_library(name):
        one = "take wheels of one CUDA major: a version of one of them that was built for the other's"
        return one if beside else "add NVIDIA's wheels of that CUDA major, or take a base with it"
    return usual_way(name) or "install what has it, or leave out what needs it"


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]
