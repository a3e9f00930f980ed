"""Findings about an image as a whole: secrets, the order of its layers, its base, its config."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from registry_pipelines.anatomy.report import FilePart, LayerPart
from registry_pipelines.progress import count_text
from registry_pipelines.registry.image_warnings import EXPIRES
from registry_pipelines.scan.advice.document import Advice
from registry_pipelines.scan.advice.kinds import KINDS, AdviceKind
from registry_pipelines.scan.facts import FoundSecret, LayerContent, OsRelease, PythonDistribution, WheelTags
from registry_pipelines.scan.merge import Tree
from registry_pipelines.scan.redacting import HIDDEN
from registry_pipelines.scan.secrets import is_value, secrets_in_text, short_hash, sounds_secret, without_tokens
from registry_pipelines.stream.lazy.image import NodeImage

NAMED = 50
"""Secrets and wheels that one finding names."""
MIN_DEPENDENCIES_BYTES = 1 << 20
"""Unpacked bytes of dependencies that a layer above the application must have to be told; its own wheel has less."""
BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"
"""Label of the config, or annotation of the manifest (image-spec 1.1, annotations.md)."""

_BUILD_ARGUMENTS = re.compile(r"(?:\A|\s)\|(\d{1,4}) ")
_ASSIGNMENT = re.compile(
    r"(?:\A|[\s;&])(?:--?[a-z-]{1,40}[= ])?([A-Za-z_][A-Za-z0-9_.-]{0,100})=(\"[^\"]*\"|'[^']*'|\S+)"
)
_COPIES = re.compile(r"(?:\A|#\(nop\) +)(?:COPY|ADD) ", re.IGNORECASE)
_CODE = re.compile(
    r"\.(?:py|pyi|ipynb|js|ts|tsx|mjs|go|rs|java|kt|scala|rb|sh|c|cc|cpp|cu|r|jl|php|html|css|sql|proto)\Z"
)
_INSTALL_INPUT = re.compile(r"(?:^|/)(?:setup\.py|conftest\.py|noxfile\.py|constraints[^/]*\.txt|requirements[^/]*)\Z")
_SHELL_AND_PACKAGES = re.compile(
    r"deb (?:apt|libapt-pkg[\d.a-z]*|dpkg|debconf|perl-base|bash|dash|coreutils|util-linux|bsdutils|mount|login|passwd"
    r"|grep|sed|tar|gzip|findutils|diffutils|gpgv|gnupg[a-z0-9-]*|init-system-helpers|sysvinit-utils|adduser|hostname|ncurses-[a-z]+"
    r"|libsystemd0|libudev1|libpam[a-z0-9-]*|e2fsprogs|libext2fs2|mawk|procps|curl|wget|git|vim[a-z-]*|nano)\Z"
)


def image_findings(
    image: NodeImage,
    tree: Tree,
    contents: Sequence[LayerContent],
    files: Sequence[FilePart],
    layers: Sequence[LayerPart],
    *,
    known: Collection[str] = (),
) -> list[Advice]:
    """What an image tells beside its single files, the heaviest first.

    contents: of each layer, base first. files: of all layers. known: kinds that its files were found to be of.
    """
    config = image.config.config or {}
    names = _labels(config.get("Labels"))
    told = {**_labels(image.manifest.annotations), **names}
    rows = [
        *_secrets(contents, files),
        *_secrets_in_config(config, names, image.config.history or []),
        *_order(files, layers),
        *(_base(told, config, image.config.history or [], known)),
        *_slimmer(tree, files, known),
        *_musl(tree),
        *_expiry(told),
        *_root(config),
    ]
    return sorted(rows, key=lambda row: ("error", "warning", "note").index(row.severity))


def _row(kind: AdviceKind, why: str, do: str, **more: Any) -> Advice:
    return Advice(**{"kind": kind, "severity": KINDS[kind].severity, "why": why, "do": do, **more})


def _secrets(contents: Sequence[LayerContent], files: Sequence[FilePart]) -> Iterator[Advice]:
    """Of any layer: a file that a later one deletes is still in the image."""
    wanted = {(each.path, number) for number, content in enumerate(contents, 1) for each in content.secrets}
    parts = {
        (name, each.layer): each for each in files for name in (each.path, *each.also) if (name, each.layer) in wanted
    }
    ours: list[tuple[int, FoundSecret, FilePart | None]] = []
    published: list[tuple[int, FoundSecret, FilePart | None]] = []
    for number, content in enumerate(contents, 1):
        for each in content.secrets:
            part = parts.get((each.path, number))
            packaged = part is not None and bool(part.owner or part.class_ in ("runtime", "dependencies"))
            (published if packaged else ours).append((number, each, part))
    if ours:
        yield _row(
            "secrets",
            f"{_counted(each.kind for _, each, _ in ours)} in the layers: whoever pulls the image has them, where a "
            "later layer deletes them, too",
            "Take the secret out of use now. Then pass it with `RUN --mount=type=secret,id=NAME`, or give it to the "
            "container when it starts; `.dockerignore` keeps such files out of COPY",
            files=len({(number, each.path) for number, each, _ in ours}),
            layers=tuple(sorted({number for number, _, _ in ours})),
            examples=_secret_lines(ours),
        )
    if published:
        yield _row(
            "published-secrets",
            f"{_counted(each.kind for _, each, _ in published)} in what packages bring: they are no secrets, and "
            "nothing may rely on them",
            "Nothing, unless a server of yours uses one of them",
            files=len({(number, each.path) for number, each, _ in published}),
            layers=tuple(sorted({number for number, _, _ in published})),
            examples=_secret_lines(published),
        )


def _secret_lines(found: Sequence[tuple[int, FoundSecret, FilePart | None]]) -> tuple[str, ...]:
    lines = []
    for number, each, part in found[:NAMED]:
        gone = f", {part.gone} by layer {part.gone_by}" if part is not None and part.gone else ""
        lines.append(f"{each.path}:{each.line} {each.kind} #{each.hash} (layer {number}{gone})")
    if len(found) > NAMED:
        lines.append(f"{len(found) - NAMED} more")
    return tuple(lines)


def _counted(kinds: Iterator[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in Counter(kinds).most_common())


def _secrets_in_config(config: dict[str, Any], labels: dict[str, str], history: Sequence[Any]) -> Iterator[Advice]:
    texts: list[tuple[str, str]] = [
        (f"label {without_tokens(name, HIDDEN)}", f"{name}={value}") for name, value in labels.items()
    ]
    env = config.get("Env")
    texts += [("env", text) for text in (env if isinstance(env, list) else []) if isinstance(text, str)]
    for name in ("Cmd", "Entrypoint", "Healthcheck", "OnBuild"):
        if config.get(name):
            texts.append((name.lower(), str(config[name])))
    for number, step in enumerate(history, 1):
        if isinstance(step, dict):
            texts += [(f"history {number}", str(step.get(key) or "")) for key in ("created_by", "comment")]
    lines = list(dict.fromkeys(line for where, text in texts for line in _in_text(where, text)))
    if lines:
        shown = (*lines[:NAMED], *([f"{len(lines) - NAMED} more"] if len(lines) > NAMED else []))
        yield _row(
            "secrets-in-config",
            "tokens or passwords in the image's environment, labels, commands or build arguments, which "
            "`docker history` and `docker inspect` show",
            "Take them out of use now. Then pass them with `RUN --mount=type=secret,id=NAME`, not with ARG or ENV, and "
            "give them to the container when it starts",
            examples=shown,
        )


def _in_text(where: str, text: str) -> Iterator[str]:
    """What one text of the config holds, as ``env HF_TOKEN huggingface-token #0123ab``."""
    said: set[str] = set()
    argument = "build argument " if _BUILD_ARGUMENTS.search(text[:200]) else ""
    for match in _ASSIGNMENT.finditer(text[:100_000]):
        name, value = match[1], match[2].strip("\"'")
        tokens = secrets_in_text(value)
        if not tokens and sounds_secret(name) and is_value(value):
            tokens = [("value", short_hash(value.encode("utf-8", "replace")))]
        for kind, mark in tokens:
            said.add(mark)
            yield f"{where}: {argument}{without_tokens(name, HIDDEN)} {kind} #{mark}"
    for kind, mark in secrets_in_text(text[:100_000]):
        if mark not in said:
            yield f"{where}: {kind} #{mark}"


def _order(files: Sequence[FilePart], layers: Sequence[LayerPart]) -> Iterator[Advice]:
    """The lowest layer with the application's code, where dependencies are installed above it."""
    dependencies: Counter[int] = Counter()
    code: dict[int, list[str]] = {}
    for each in files:
        if each.class_ == "dependencies":
            dependencies[each.layer] += each.size
        elif each.class_ == "application" and _CODE.search(each.path) and not _INSTALL_INPUT.search(each.path):
            code.setdefault(each.layer, []).append(each.path)
    for layer in layers:
        if layer.number not in code or (layer.made_by and not _COPIES.search(layer.made_by)):
            continue
        above = [
            each
            for each in layers
            if each.number > layer.number and dependencies[each.number] >= MIN_DEPENDENCIES_BYTES
        ]
        if above:
            yield _row(
                "application-below-dependencies",
                f"layer {layer.number} has the application's code, and "
                f"{count_text(len(above), 'layer')} above it with dependencies: each change of code builds them "
                "anew, and every node pulls them again",
                "COPY only the list of dependencies (requirements.txt, pyproject.toml with its lock file), install, "
                "and COPY the code behind that",
                compressed=sum(each.compressed for each in above),
                size=sum(each.unpacked for each in above),
                layers=tuple(each.number for each in above),
                examples=tuple(sorted(code[layer.number])[:5]),
            )
            return


def _base(
    told: dict[str, str], config: dict[str, Any], history: Sequence[Any], known: Collection[str]
) -> Iterator[Advice]:
    name, digest = told.get(BASE_NAME, ""), told.get(BASE_DIGEST, "")
    if name and not digest and "@" not in name:
        tag = name.rpartition("/")[2].partition(":")[2]
        moves = f"`{name}`" if tag else f"`{name}` (`latest`)"
        yield _row(
            "moving-base",
            f"it says that its base is {moves}, and not which digest that was: nobody can tell which base it stands on",
            f"FROM {name}@sha256:..., for example by `registry-pipelines pin Dockerfile`",
        )
    env = config.get("Env")
    texts = [name, *(str(each) for each in (env if isinstance(env, list) else []))]
    texts += [str(step.get("created_by") or "") for step in history if isinstance(step, dict)]
    by_name = re.search(r":\S*-devel(?:-|\b)", name) or any(
        text.startswith("NV_CUDA_CUDART_DEV_VERSION=") for text in texts
    )
    if by_name and "devel-base" not in known:
        yield _row(
            "devel-base",
            "it stands on a `-devel` image by its name or environment; none of its files are of packages that are "
            "known to be for development",
            "Build in a stage FROM the `-devel` image, and let the last stage be FROM the `-runtime` image",
        )


def _slimmer(tree: Tree, files: Sequence[FilePart], known: Collection[str]) -> Iterator[Advice]:
    """What a distroless base would not have; where the full Debian image was found, that is said instead."""
    parts = [each for each in files if not each.gone and _SHELL_AND_PACKAGES.match(each.owner)]
    if parts and "slimmer-base" not in known:
        owners = Counter[str]()
        for each in parts:
            owners[each.owner.partition(" ")[2]] += each.size
        yield _row(
            "slimmer-base",
            "a shell and package managers, which a program that is installed does not need, and which bring most of a "
            "base's vulnerabilities",
            "Let the last stage be FROM a distroless or `-slim` image of the same Debian, and COPY --from what is "
            "installed; for Alpine see `musl-wheels`",
            files=len(parts),
            size=sum(each.size for each in parts),
            compressed=sum(each.compressed for each in parts),
            layers=tuple(sorted({each.layer for each in parts})),
            examples=tuple(name for name, _ in owners.most_common(10)),
        )


def _musl(tree: Tree) -> Iterator[Advice]:
    """Wheels that were made for glibc alone."""
    systems = {fact.id for fact in tree.facts.values() if isinstance(fact, OsRelease)}
    names = []
    for path, fact in tree.facts.items():
        if not isinstance(fact, WheelTags) or not any("linux" in tag for tag in fact.tags):
            continue
        about = tree.facts.get(f"{posixpath.dirname(path)}/METADATA")
        if isinstance(about, PythonDistribution) and not any("musllinux" in tag for tag in fact.tags):
            names.append(f"{about.name} {about.version}")
    if not names:
        return
    shown = (*sorted(names)[:NAMED], *([f"{len(names) - NAMED} more"] if len(names) > NAMED else []))
    count = count_text(len(names), "wheel")
    if "alpine" in systems:
        why, severity = f"{count} for glibc in an Alpine image, which has musl: they cannot be imported", "warning"
        do = "Install musllinux wheels, or take a Debian base"
    else:
        why, severity = f"on an Alpine base {count} of this image could not be imported: they are for glibc", "note"
        do = "Before you change to Alpine, see that each has a musllinux wheel; else stay with Debian or distroless"
    yield _row("musl-wheels", why, do, severity=severity, files=len(names), examples=shown)


def _expiry(told: dict[str, str]) -> Iterator[Advice]:
    for name in EXPIRES:
        if told.get(name):
            value = without_tokens(told[name], HIDDEN)[:80]
            yield _row(
                "expires-by-label",
                f"the label {name}={value} lets Quay delete the tag, and that of each mirrored copy",
                f"Remove the label where the image is built, or overwrite it: `LABEL {name}=`",
            )


def _root(config: dict[str, Any]) -> Iterator[Advice]:
    user = str(config.get("User") or "").partition(":")[0]
    if user in ("", "0", "root"):
        yield _row(
            "root-user",
            "its program starts as root, which clusters with the restricted Pod Security Standard refuse",
            "`USER 65532` (a number, so that Kubernetes can see that it is not root) before ENTRYPOINT",
        )


def _labels(value: Any) -> dict[str, str]:
    return {str(name): str(text) for name, text in value.items()} if isinstance(value, dict) else {}
