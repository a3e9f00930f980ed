"""Bytes that need not be in an image, and what to write instead. A file counts in one kind at most: what was copied
only to be installed first, then what a later layer hides; equal files and layers are beside that."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from registry_pipelines.anatomy.report import Equal, FilePart
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.repeats import EMPTY_DIFF_IDS, repeated_layers
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.warning_kinds import MAX_AZURE_LAYER_BYTES
from registry_pipelines.scan.advice.document import Advice
from registry_pipelines.scan.advice.kinds import KINDS, AdviceKind
from registry_pipelines.settings import Size
from registry_pipelines.transfer.limits.rules import rule_for

EXAMPLES = 5
"""Paths named for one kind."""
MIN_EQUAL_BYTES = 4096
"""Smaller files are equal by the thousand (``py.typed``, licences), and weigh nothing."""

_MOST_BYTES = {
    "Azure (users' reports)": MAX_AZURE_LAYER_BYTES,
    "Artifact Registry": rule_for("us-docker.pkg.dev").max_layer_bytes,
    "GitHub": rule_for("ghcr.io").max_layer_bytes,
    "ECR": rule_for("111122223333.dkr.ecr.us-east-1.amazonaws.com").max_layer_bytes,
}
"""What registries take of one layer."""


class _Kind(NamedTuple):
    name: AdviceKind
    folders: tuple[str, ...]
    """The folder of every path that fits, with its slash, has one of them, or the path has one of ``endings``: most
    folders have none of any kind, and are asked once for all their files."""
    endings: tuple[str, ...]
    path: re.Pattern[str]
    why: str
    do: str
    owner: re.Pattern[str] | None = None
    """Files of such packages, too, whatever their names."""

    def has(self, names: Sequence[str]) -> bool:
        """Whether all names of a file are such. What is linked from a cache into an environment, as conda and uv do, is
        used there: no cache to delete."""
        return all(self.path.search(name) for name in names)


def _kind(name: AdviceKind, marks: str, path: str, why: str, do: str, owner: str = "") -> _Kind:
    """marks: separated by blanks; those that begin with ``*`` are endings."""
    folders = tuple(mark for mark in marks.split() if mark[0] != "*")
    endings = tuple(mark[1:] for mark in marks.split() if mark[0] == "*")
    return _Kind(name, folders, endings, re.compile(path), why, do, re.compile(owner) if owner else None)


_CACHE = "a package manager's cache: nothing reads it when the image runs"
FILE_KINDS = (
    _kind(
        "pip-cache",
        ".cache/pip/",
        r"(?:^|/)\.cache/pip/",
        _CACHE,
        "`pip install --no-cache-dir`, or RUN --mount=type=cache",
    ),
    _kind(
        "uv-cache",
        ".cache/uv/",
        r"(?:^|/)\.cache/uv/",
        _CACHE,
        "`uv pip install --no-cache`, or RUN --mount=type=cache",
    ),
    _kind(
        "poetry-cache",
        ".cache/pypoetry/",
        r"(?:^|/)\.cache/pypoetry/",
        _CACHE,
        "RUN --mount=type=cache,target=/root/.cache/pypoetry",
    ),
    _kind(
        "conda-cache",
        "/pkgs/",
        r"(?:^|/)(?:(?:ana|mini|micro)?(?:conda|forge|mamba)\d?|\.conda|\.mamba)/pkgs/",
        _CACHE,
        "`conda clean -afy` in the same RUN as the installation",
    ),
    _kind(
        "apt-cache",
        "var/",
        r"^var/(?:cache/apt/|lib/apt/lists/|cache/debconf/[^/]*-old$)",
        _CACHE,
        "`rm -rf /var/lib/apt/lists/* && apt-get clean` in the same RUN",
    ),
    _kind("apk-cache", "apk/", r"^(?:var/cache/apk/|etc/apk/cache/)", _CACHE, "`apk add --no-cache`"),
    _kind(
        "dnf-cache", "var/cache/", r"^var/cache/(?:dnf|yum|libdnf5|zypp)/", _CACHE, "`dnf clean all` in the same RUN"
    ),
    _kind(
        "npm-cache",
        "_cacache .cache/ .yarn/",
        r"(?:^|/)(?:\.npm/_cacache|\.cache/(?:yarn|pnpm)|\.yarn/cache)/",
        _CACHE,
        "`npm cache clean -f`",
    ),
    _kind(
        "cargo-go-cache",
        ".cargo/ go/pkg/ go-build",
        r"(?:^|/)(?:\.cargo/registry|go/pkg/mod/cache|\.cache/go-build)/",
        _CACHE,
        "Build in a stage",
    ),
    _kind(
        "git", ".git/", r"(?:^|/)\.git/", "a repository's history came with `COPY .`", "Put `.git` into `.dockerignore`"
    ),
    _kind(
        "devel-base",
        "usr/local/cuda opt/nvidia/",
        r"\Ausr/local/cuda[^/]*/(?:targets/[^/]+/)?(?:bin/(?:nvcc|cicc|ptxas|nvlink|fatbinary|cudafe\+\+|cuobjdump"
        r"|nvdisasm|nsys|ncu)|nvvm|include|compute-sanitizer|nsight[^/]*|extras|(?:lib64|lib)/stubs)(?:/|\Z)"
        r"|\Aopt/nvidia/nsight[^/]*/",
        "development packages of CUDA, which its `-devel` images have and its `-runtime` images do not",
        "Build in a stage FROM the `-devel` image, and let the last stage be FROM the `-runtime` image of the same "
        "version (`-base` where wheels bring CUDA's libraries)",
        r"(?:deb|rpm) (?:cuda-(?:[a-z-]+-)?(?:devel|dev)(?:-\d|\Z)|cuda-(?:nvcc|crt|cccl|cuobjdump|cuxxfilt|nvprune"
        r"|nvprof|nvdisasm|gdb|profiler-api|sanitizer|nsight|minimal-build|command-line-tools|compiler|toolkit|visual-tools|tools)"
        r"|nsight-|lib(?:cu|npp|nv|nccl)[a-z0-9]*-(?:devel|dev|headers)|cudnn\d*-[a-z-]*dev|libnvvm|tensorrt-dev)",
    ),
    _kind(
        "slimmer-base",
        "",
        r"(?!)",
        "what the full Debian image brings beside its `-slim` one, for those who compile",
        "Let the last stage be FROM the `-slim` image of the same version, and compile in a stage before it",
    ),
    _kind(
        "compilers",
        "bin/ /gcc/ usr/local/go/ .rustup/ usr/lib/llvm- usr/lib/go-",
        r"(?:^|/)(?:usr/(?:local/)?|opt/[^/]+/|root/\.cargo/)?bin/(?:[a-z0-9_]+-linux-[a-z]+-)?(?:gcc|g\+\+|cpp|c\+\+|gfortran|clang"
        r"|clang\+\+|clangd|lld|ld\.(?:bfd|gold|lld)|nvcc|cmake|ctest|cpack|make|ninja|go|gofmt|rustc|cargo|rustup|bazel|javac)"
        r"(?:-[\d.]+)?\Z|(?:^|/)(?:usr/)?(?:lib|libexec)/gcc/|\Ausr/local/go/|(?:^|/)\.rustup/|\Ausr/lib/llvm-[\d.]+/"
        r"|\Ausr/lib/go-[\d.]+/",
        "compilers and build tools, which a program that is installed does not need",
        "Compile in a stage of its own and COPY --from it what was made",
        r"(?:deb|rpm|apk) (?!gcc-[\d.]+-base\Z)"
        r"(?:(?:gcc|g\+\+|cpp|gfortran|gobjc|clang|clang-tools|llvm|lld|lldb|golang|cmake|ninja-build"
        r"|binutils|autoconf|automake|bazel|libllvm|rust|rustc|cargo|go)(?:[-.\d].*)?|make|ninja|build-base|build-essential"
        r"|dpkg-dev|libtool|bison|flex|gdb|libgcc-[\d.]+-dev|libstdc\+\+-[\d.]+-dev)\Z"
        r"|python (?:cmake|ninja|ziglang|nvidia-cuda-nvcc[a-z0-9-]*|maturin) "
        r"|conda (?:gcc|gxx|gfortran|clang|clangxx|binutils|cuda-nvcc|cmake|ninja|make|rust|go|sysroot|compilers"
        r"|kernel-headers|libgcc-devel|libstdcxx-devel|ld_impl)[a-z0-9_-]* ",
    ),
    _kind(
        "test-suites",
        "/test",
        r"(?:^|/)(?:site-packages|dist-packages)/(?:[^/]+/)*tests?/|(?:^|/)lib/python3\.\d+/(?:test|[^/]+/tests?)/",
        "test suites of packages, which few programs import",
        "Delete them in the RUN that installs, or build with one layer a wheel that leaves them out",
    ),
    _kind(
        "static-libraries",
        "*.a *.lib",
        r"\.a\Z|_static[^/]*\.lib\Z",
        "static libraries are for linking at build time",
        "Take the `-runtime` base instead of `-devel`, or copy from a build stage",
    ),
    _kind(
        "headers",
        "include/ *.h *.hpp *.hh *.hxx *.cuh *.inl",
        r"(?:^|/)include/.*|\.(?:h|hpp|hh|hxx|cuh|inl)\Z",
        "headers are for compiling; keep them only where programs compile when they run (Triton, torch extensions)",
        "Take the `-runtime` base instead of `-devel`, or copy from a build stage",
    ),
)
_ENDINGS = tuple(ending for kind in FILE_KINDS for ending in kind.endings)
_OTHERS: dict[AdviceKind, tuple[str, str]] = {
    "copied-to-install": (
        "wheels, packages and archives that were copied only to be installed: they stay in their layer, even where a "
        "later one deletes them",
        "`RUN --mount=type=bind,from=builder,source=/wheels,target=/wheels pip install /wheels/*.whl`, or copy the "
        "environment itself (`COPY --from=builder /venv /venv`)",
    ),
    "hidden": (
        "a later layer overwrites or deletes it: every pull moves it, and no container sees it",
        "Delete in the RUN that wrote it, or copy what is wanted from a build stage",
    ),
    "baked-weights": (
        "weights change apart from code, gzip does not make them smaller, and every release moves those that share "
        "a layer with anything else",
        "Mount them as a volume (`weights out` brings them out), or COPY each file in a layer of its own",
    ),
}
_COPIED_WHY = "the same content again: a later layer changed nothing but mode, owner or times, and carries all of it"
_INSTALLERS = re.compile(r"\.(?:whl|deb|rpm|apk|conda|egg)\Z")
_ARCHIVES = re.compile(
    r"\.(?:tar(?:\.(?:gz|bz2|xz|zst))?|tgz|tbz2|txz|zip|run|sh\.bin)\Z|conda[^/]*\.sh\Z|forge[^/]*\.sh\Z"
)
_BUNDLED = re.compile(r"(?:^|/)(?:ensurepip/_bundled|python-wheels)/|\Avar/cache/|(?:^|/)pkgs/|(?:^|/)\.cache/")
MIN_ARCHIVE_BYTES = 1 << 20
"""Smaller archives are data of programs."""
_FULL_DEBIAN = frozenset(
    ("deb autoconf", "deb automake", "deb libmagickcore-dev", "deb libmysqlclient-dev", "deb mercurial")
)
_FULL_ONLY = re.compile(
    r"deb (?:[a-z0-9.+-]+-dev|autoconf|automake|autotools-dev|libtool|m4|patch|imagemagick[a-z0-9.-]*|mercurial[a-z-]*"
    r"|subversion|git|git-man|gir1\.2-[a-z0-9.-]+|g\+\+[\d.-]*|gcc[\d.-]*|cpp[\d.-]*|binutils[a-z0-9-]*|make|dpkg-dev"
    r"|default-libmysqlclient-dev|unzip|procps|wget|libmagick[a-z0-9.+-]+)\Z"
)
_COMPILES_AT_RUN_TIME = re.compile(
    r"python (?:triton|torch|pytorch-triton|deepspeed|flashinfer-python|cupy[a-z0-9-]*) "
)


class Found(NamedTuple):
    """What files tell."""

    rows: list[Advice]
    """The most bytes first."""
    wasted: int
    """Stored bytes of all kinds that are waste, each file once."""
    wasted_unpacked: int


def advice(files: Sequence[FilePart], copied: Sequence[FilePart], equal: Sequence[Equal]) -> Found:
    """What files tell. copied: those that overwrite the same content."""
    owners = {each.owner for each in files if not each.gone}
    compiles = any(_COMPILES_AT_RUN_TIME.match(owner) for owner in owners)
    full_debian = len(owners & _FULL_DEBIAN) >= 3
    kinds: dict[AdviceKind, list[FilePart]] = {}
    for each in files:
        if name := _kind_of(each, full_debian):
            kinds.setdefault(name, []).append(each)
    told = {kind.name: (kind.why, kind.do) for kind in FILE_KINDS} | _OTHERS
    rows = [_file_row(name, *told[name], parts, compiles=compiles) for name, parts in kinds.items()]
    if copied:
        do = "Use COPY --chmod and --chown, not RUN chmod"
        rows.append(_file_row("copied-for-metadata", _COPIED_WHY, do, copied))
    if equal:
        rows.append(_equal_row(equal))
    counted = [part for name, parts in kinds.items() if _is_waste(name, compiles) for part in parts]
    counted += _more_copies(files, {id(part) for part in counted})
    return Found(
        sorted(rows, key=lambda row: (-row.compressed, row.kind)),
        wasted=sum(each.compressed for each in counted),
        wasted_unpacked=sum(each.size for each in counted),
    )


def _kind_of(part: FilePart, full_debian: bool) -> AdviceKind | None:
    if _is_installer(part):
        return "copied-to-install"
    if part.gone:
        return "hidden"
    if part.class_ == "weights":
        return "baked-weights"
    names = part.standing
    name, by_owner = names[0], _kind_of_owner(part.owner, full_debian)
    marked = _kinds_of_folder(name[: name.rfind("/") + 1])
    if name.endswith(_ENDINGS):
        ended = [number for number, kind in enumerate(FILE_KINDS) if name.endswith(kind.endings)]
        marked = tuple(sorted({*marked, *ended}))
    for number in marked:
        if number > by_owner:
            break
        if FILE_KINDS[number].has(names):
            return FILE_KINDS[number].name
    return FILE_KINDS[by_owner].name if by_owner < len(FILE_KINDS) else None


@lru_cache(maxsize=1024)
def _kinds_of_folder(folder: str) -> tuple[int, ...]:
    """Those that a file in it may be of, by what it is called itself."""
    return tuple(number for number, kind in enumerate(FILE_KINDS) if any(mark in folder for mark in kind.folders))


@lru_cache(maxsize=4096)
def _kind_of_owner(owner: str, full_debian: bool) -> int:
    """The first of the kinds that a package's files are, whatever their names; how many there are where it is none.
    Asked of each file of a package."""
    for number, kind in enumerate(FILE_KINDS):
        if kind.owner is not None and kind.owner.match(owner):
            return number
        if kind.name == "slimmer-base" and full_debian and _FULL_ONLY.match(owner):
            return number
    return len(FILE_KINDS)


def _is_installer(part: FilePart) -> bool:
    if part.owner or _BUNDLED.search(part.path):
        return False
    if _INSTALLERS.search(part.path):
        return True
    return part.size >= MIN_ARCHIVE_BYTES and part.class_ == "application" and _ARCHIVES.search(part.path) is not None


def _is_waste(kind: AdviceKind, compiles: bool) -> bool:
    """Of an image that compiles when it runs, what compiles is none."""
    return KINDS[kind].wasted and not (compiles and kind in ("compilers", "headers"))


def _more_copies(files: Sequence[FilePart], counted: set[int]) -> list[FilePart]:
    """Of equal files all but one; those that count already are none of them."""
    seen: set[tuple[str, int]] = set()
    more = []
    for each in files:
        if each.gone or each.size < MIN_EQUAL_BYTES or id(each) in counted:
            continue
        if (each.crc32, each.size) in seen:
            more.append(each)
        seen.add((each.crc32, each.size))
    return more


def _file_row(kind: AdviceKind, why: str, do: str, parts: Iterable[FilePart], *, compiles: bool = False) -> Advice:
    parts = sorted(parts, key=lambda each: -each.size)
    severity = KINDS[kind].severity
    if compiles and kind in ("compilers", "devel-base"):
        severity = "note"
        why += "; torch.compile, Triton and extensions of this image compile when they run, and need a C compiler"
    by_layer: Counter[int] = Counter()
    for each in parts:
        by_layer[each.layer] += each.compressed
    deleted = sum(1 for each in parts if each.gone)
    if deleted and kind == "copied-to-install":
        why += f" ({deleted} of {len(parts)} are deleted or overwritten here)"
    return Advice(
        kind=kind,
        severity=severity,
        files=len(parts),
        size=sum(each.size for each in parts),
        compressed=sum(by_layer.values()),
        layers=tuple(sorted(by_layer)),
        layer_bytes=tuple(by_layer[number] for number in sorted(by_layer)),
        why=why,
        do=do,
        examples=tuple(each.path for each in parts[:EXAMPLES]),
    )


def _equal_row(equal: Sequence[Equal]) -> Advice:
    return Advice(
        kind="equal-files",
        severity=KINDS["equal-files"].severity,
        files=sum(each.copies - 1 for each in equal),
        size=sum(each.wasted for each in equal),
        compressed=sum(each.wasted_compressed for each in equal),
        layers=tuple(sorted({layer for each in equal for layer in each.layers})),
        why="files with the same content stand in the image several times",
        do="Install a package once, and make links instead of copies",
        examples=tuple(path for each in equal[:EXAMPLES] for path in each.paths[:2])[:EXAMPLES],
    )


def layer_advice(layers: Sequence[Descriptor], diff_ids: Sequence[Digest], empty: Sequence[int]) -> list[Advice]:
    """What layers tell as a whole. empty: numbers, from 1, of those without an entry."""
    rows = []
    for layer, places in repeated_layers(layers, diff_ids):
        rows.append(
            _layer_row(
                "repeated-layer",
                layer.size * (len(places) - 1),
                places,
                "the image has this layer more than once; GKE's Image streaming takes no such image",
                "Remove the step that is there twice",
            )
        )
    empties = sorted({*empty, *(number for number, each in enumerate(diff_ids, 1) if each in EMPTY_DIFF_IDS)})
    if empties:
        size = sum(layers[number - 1].size for number in empties)
        rows.append(
            _layer_row(
                "empty-layer",
                size,
                empties,
                "it holds nothing; GKE's Image streaming takes no image with one",
                "Remove the step that changes no file, or join it with another",
            )
        )
    for number, layer in enumerate(layers, 1):
        refusing = [f"{name} {Size(most)}" for name, most in _MOST_BYTES.items() if layer.size > most]
        if refusing:
            rows.append(
                _layer_row(
                    "too-large-layer",
                    layer.size,
                    [number],
                    f"over what these registries take of one layer: {', '.join(refusing)}",
                    "Split the step: files of one package each, or one COPY for each large file",
                )
            )
    return rows


def _layer_row(kind: AdviceKind, compressed: int, numbers: Sequence[int], why: str, do: str) -> Advice:
    return Advice(
        kind=kind, severity=KINDS[kind].severity, compressed=compressed, layers=tuple(numbers), why=why, do=do
    )
