"""Buildah, which needs no daemon, and no root where users may have user namespaces.

Source: buildah-build(1) of 1.43. Images are made in Docker's format, since in OCI's own Buildah drops HEALTHCHECK,
ONBUILD and SHELL; the manifest becomes OCI's afterwards, around the same config and layers, as BuildKit writes it. How
steps are run (``BUILDAH_ISOLATION``, ``STORAGE_DRIVER``, ``containers.conf``) is for whoever runs the build to say.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec

from registry_pipelines.build.dockerfile.context import find_ignore_file
from registry_pipelines.build.dockerfile.engines.buildkit import ask
from registry_pipelines.build.dockerfile.engines.failures import step_failed, too_long
from registry_pipelines.build.dockerfile.engines.process import running
from registry_pipelines.build.dockerfile.engines.protocol import LAST_LINES, LAYOUT, Built, Found, Order, Step, hidden
from registry_pipelines.build.dockerfile.engines.written import put_manifest, put_top
from registry_pipelines.build.dockerfile.instructions import Dockerfile, Instruction
from registry_pipelines.build.dockerfile.parsing import parse_dockerfile, read_dockerfile
from registry_pipelines.errors import InputError, ManifestInvalid, ToolMissing
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import disk_errors
from registry_pipelines.oci.layout import Layout
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.platforms import Platform

OLDEST = (1, 41)
"""The first with ``--source-date-epoch`` and ``--rewrite-timestamp``."""

MAX_LINE = 1000
"""Characters of a line that are shown."""

MAX_LINE_BYTES = 1 << 20

_STEP = re.compile(r"(?:\[\d+/\d+\] )?STEP (\d+)/(\d+): (.*)\Z")
_NOTE = re.compile(r'time="[^"]*" level=(\w+) msg="(.*)"\Z')
_NUMBER = re.compile(r"(\d+)\.(\d+)")
_OCI = {
    media_types.DOCKER_LAYER_GZIP: media_types.OCI_LAYER_GZIP,
    media_types.DOCKER_LAYER: media_types.OCI_LAYER,
}


class Buildah:
    """See ``protocol.Engine``."""

    name = "buildah"

    def find(self) -> Found:
        """See Engine."""
        program = _program()
        words = ask([program, "--version"]).split()
        version = words[2] if len(words) > 2 else ""
        number = _NUMBER.match(version)
        if not number or (int(number[1]), int(number[2])) < OLDEST:
            raise ToolMissing(
                f"buildah {version or '?'} is too old", do=f"Install {'.'.join(map(str, OLDEST))} or a later one"
            )
        ask([program, "info"])
        return Found(version=f"Buildah {version}", buildkit=False)

    def build(self, order: Order) -> Built:
        """See Engine. Several platforms are built one after the other."""
        text = read_dockerfile(order.spec.path)
        dockerfile = parse_dockerfile(text, args=order.spec.args, where=str(order.spec.path))
        version = self.find().version
        layout = Layout(order.folder / LAYOUT)
        layout.create()
        followings, manifests = [], []
        for platform in order.platforms:
            following = _Following(order, dockerfile, f"{platform} " if len(order.platforms) > 1 else "")
            manifests.append(_build_one(order, platform, following, layout))
            followings.append(following)
        put_top(layout, manifests)
        return Built(
            engine=version,
            steps=tuple(step for following in followings for step in following.steps),
            warnings=tuple(dict.fromkeys(line for following in followings for line in following.warnings)),
        )


def _program() -> str:
    if program := shutil.which("buildah"):
        return program
    raise ToolMissing("there is no buildah", do="Install it (Linux: the package buildah)")


def _build_one(order: Order, platform: Platform, following: _Following, layout: Layout) -> Descriptor:
    identity, folder = order.folder / "image-id", order.folder / "image"
    command = [_program(), "build", *_options(order, platform, following.dockerfile), f"--iidfile={identity}"]
    _run([*command, str(order.spec.context.absolute())], order, following)
    following.end_step()
    _run([_program(), "push", "--quiet", identity.read_text().strip(), f"dir:{folder}"], order, following)
    try:
        return _taken(folder, layout, platform)
    finally:
        shutil.rmtree(folder)
        identity.unlink()


def _options(order: Order, platform: Platform, dockerfile: Dockerfile) -> list[str]:
    spec = order.spec
    options = ["--format=docker", "--layers", f"--platform={platform}", f"--file={spec.path.absolute()}"]
    options += [f"--source-date-epoch={order.source_date}", "--rewrite-timestamp"]
    options += ["--created-annotation=false", "--identity-label=false"]
    if (ignore := find_ignore_file(spec.context, spec.path)) is not None:
        options.append(f"--ignorefile={ignore.absolute()}")
    options += [f"--target={spec.target}"] if spec.target else []
    options += [f"--network={spec.network}"] if spec.network != "default" else []
    args = dict(spec.args)
    if dockerfile.declares("SOURCE_DATE_EPOCH"):
        args.setdefault("SOURCE_DATE_EPOCH", str(order.source_date))
    options += [f"--build-arg={name}={value}" for name, value in args.items()]
    options += [f"--label={name}={value}" for name, value in order.labels.items()]
    for name, secret in spec.secrets.items():
        if secret.file is not None and "," in str(secret.file):
            where = f"dockerfile.secrets.{name}"
            raise InputError("buildah takes no file whose path has a comma", where=where, do="Name another path")
        place = f"src={secret.file.absolute()}" if secret.file is not None else f"env={secret.env}"
        options.append(f"--secret=id={name},{place}")
    if order.docker_config is not None:
        options.append(f"--authfile={order.docker_config / 'config.json'}")
    return options


@dataclass
class _Following:
    """What Buildah prints while it builds."""

    order: Order
    dockerfile: Dockerfile
    prefix: str
    steps: list[Step] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    error: str = ""
    name: str = ""
    line: int = 0
    begun: float = 0.0
    cached: bool = False
    seen: int = 0

    def read(self, output: Iterable[bytes]) -> None:
        """All of its lines."""
        for raw in output:
            text = hidden(raw.decode(errors="replace").rstrip("\n"), self.order.secret_values)[:MAX_LINE]
            if match := _STEP.match(text):
                self._step(match)
            elif text == "--> Using cache" or text.startswith("--> Using cache "):
                self.cached = True
            elif note := _NOTE.match(text):
                if note[1] == "warning":
                    self.warnings.append(note[2].replace('\\"', '"'))
            elif text.startswith("Error: "):
                self.error = text.removeprefix("Error: ")
            elif text.strip() and not text.startswith(("--> ", "subprocess exited with status")):
                self.last_lines.append(text)

    def _step(self, match: re.Match[str]) -> None:
        self.end_step()
        self.name = f"{self.prefix}[{match[1]}/{match[2]}] {match[3]}"
        self.line = self._line_of(match[3])
        self.begun, self.cached = time.monotonic(), False
        self.last_lines.clear()
        self.order.progress.begin(self.name)

    def _line_of(self, text: str) -> int:
        """The instruction that follows the last one and reads so; 0 where none does (triggers of a base, labels)."""
        instructions = list(self.dockerfile.all_instructions())
        for at in range(self.seen, len(instructions)):
            if _reads(instructions[at], text):
                self.seen = at + 1
                return instructions[at].line
        return 0

    def end_step(self) -> None:
        """The one that ran, if any, is over."""
        if self.name:
            self.steps.append(Step(name=self.name, seconds=time.monotonic() - self.begun, cached=self.cached))
            self.order.progress.end(self.name, note="cached" if self.cached else "")
            self.name, self.line = "", 0


def _reads(instruction: Instruction, text: str) -> bool:
    keyword, _, rest = text.partition(" ")
    if keyword.upper() != instruction.keyword:
        return False
    # A FROM may be printed with the id of the stage it goes on from.
    return keyword.upper() == "FROM" or _plain(rest).startswith(_plain(instruction.flag_text + instruction.value)[:60])


def _plain(text: str) -> str:
    return "".join(text.split()).replace('"', "")


def _run(command: list[str], order: Order, following: _Following) -> None:
    """Run a program to its end. Raises BuildFailed, DiskFull, ToolMissing."""
    env = dict(os.environ)
    with running(command, order, env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        following.read(_lines(process.stdout) if process.stdout else ())
        status = process.wait()
    if not status:
        return
    told = following.error or f"buildah ended with status {status}"
    if not order.seconds_left():
        raise too_long(order, following.name, following.line, following.last_lines)
    raise step_failed(order, told, following.name, following.line, following.last_lines, "buildah prune")


def _lines(output: IO[bytes]) -> Iterator[bytes]:
    """Lines, of which those that do not end have a beginning alone: steps print what they like."""
    whole = True
    while piece := output.readline(MAX_LINE_BYTES):
        if whole:
            yield piece
        whole = piece.endswith(b"\n")


def _taken(folder: Path, layout: Layout, platform: Platform) -> Descriptor:
    """The image of a ``dir:`` folder, taken into the layout. Raises ManifestInvalid, DiskFull."""
    try:
        manifest = msgspec.json.decode((folder / "manifest.json").read_bytes())
        config = msgspec.json.decode((folder / _hex(manifest["config"])).read_bytes())
        rows = [(each["mediaType"], Digest.parse(each["digest"]), int(each["size"])) for each in manifest["layers"]]
    except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ManifestInvalid(
            f"what buildah wrote cannot be read: {type(error).__name__}", where=str(folder)
        ) from error
    layers = []
    for media_type, digest, size in rows:
        with disk_errors(layout.folder):
            (folder / digest.hex).replace(layout.blob_path(digest))
        layers.append(Descriptor(media_type=_OCI.get(media_type, media_type), digest=digest, size=size))
    return msgspec.structs.replace(put_manifest(layout, config, layers), platform=platform)


def _hex(descriptor: Any) -> str:
    return Digest.parse(descriptor["digest"]).hex
