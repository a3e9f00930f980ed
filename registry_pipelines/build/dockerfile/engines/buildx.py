"""BuildKit through ``docker buildx build``, with the builder that Docker's own settings choose."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence

from registry_pipelines.build.dockerfile.engines.buildkit import ask, cache_options, exporter, fields, run
from registry_pipelines.build.dockerfile.engines.protocol import Built, Found, Order
from registry_pipelines.errors import BuildFailed, PlatformInvalid, ToolMissing
from registry_pipelines.oci.platforms import Platform

_FIELD = re.compile(r"^(Driver|BuildKit version|BuildKit|Buildkit|Platforms|Error|Name):[ \t]*(.*)$", re.M)


class Buildx:
    """See ``protocol.Engine``."""

    name = "buildx"

    def find(self) -> Found:
        """See Engine. A builder that is not started yet counts: the build starts it."""
        command = _command()
        version = ask([*command, "version"]).split()
        told = dict(reversed(_FIELD.findall(ask([*command, "inspect"]))))
        if error := told.get("Error"):
            raise ToolMissing(error, where="docker buildx", do="Start the Docker daemon, or set DOCKER_HOST")
        kit = told.get("BuildKit version") or told.get("BuildKit") or told.get("Buildkit") or ""
        number = version[1] if len(version) > 1 else "of an unknown version"
        return Found(
            version=f"buildx {number} ({told.get('Driver', '?')} driver)" + (f", BuildKit {kit}" if kit else ""),
            buildkit=True,
            platforms=platforms(told.get("Platforms", "").split(",")),
        )

    def build(self, order: Order) -> Built:
        """See Engine."""
        command, version = [*_command(), "build", "--progress=rawjson"], self.find().version
        attested = [f"--output={exporter(order)}", "--provenance=mode=max", "--sbom=false", *_cache_options(order)]
        try:
            following = run([*command, *attested, *_options(order), _context(order)], order)
        except BuildFailed as error:
            if not _OLD_DRIVER.search(error.what):
                raise
            return _through_store(command, order, version)
        return Built(engine=version, steps=following.steps, warnings=following.warnings)


_OLD_DRIVER = re.compile(r"(?:OCI exporter|Attestation|Cache export) is not supported for the docker driver")
"""What buildx says, before anything runs, of a daemon that keeps images in its old store."""

_OLD_STORE = "the daemon keeps images in its old store: BuildKit attests nothing, and the provenance has no steps"


def _through_store(command: Sequence[str], order: Order, version: str) -> Built:
    """Have the image made in the daemon's store, and take it from there; it stays there for the next build, untagged.
    Raises as ``Engine.build``."""
    if order.cache is not None or len(order.platforms) > 1:
        what = "the build cache in a registry" if order.cache is not None else "an image of several platforms"
        raise ToolMissing(
            f"the docker driver of buildx cannot make {what}: its daemon keeps images in the old store",
            where=str(order.spec.path),
            do="docker buildx create --driver docker-container --use, or the daemon's feature containerd-snapshotter",
        )
    from registry_pipelines.build.dockerfile.engines.docker import connected, save_image  # needs an extra

    named = order.folder / "image"
    told = ["--output=type=docker", f"--iidfile={named}"]
    following = run([*command, *told, *_options(order), _context(order)], order)
    with connected(order) as client:
        save_image(client, named.read_text().strip(), order)
    return Built(engine=version, steps=following.steps, warnings=(*following.warnings, _OLD_STORE))


def _command() -> list[str]:
    """The plugin of the docker command, or the program alone. Raises ToolMissing."""
    if docker := shutil.which("docker"):
        try:
            ask([docker, "buildx", "version"])
        except ToolMissing:
            pass
        else:
            return [docker, "buildx"]
    if alone := shutil.which("docker-buildx"):
        return [alone]
    raise ToolMissing("there is no docker buildx", do="Install the docker-buildx plugin")


def _context(order: Order) -> str:
    """Absolute: ``-`` would be the standard input, and some paths an address."""
    return str(order.spec.context.absolute())


def _options(order: Order) -> list[str]:
    spec = order.spec
    options = [f"--file={spec.path.absolute()}"]
    options += [f"--platform={','.join(map(str, order.platforms))}"]
    options += [f"--target={spec.target}"] if spec.target else []
    options += [f"--network={spec.network}"]
    options += ["--allow=network.host"] if spec.network == "host" else []
    options += [f"--build-arg={name}={value}" for name, value in spec.args.items()]
    options += [f"--build-arg=SOURCE_DATE_EPOCH={order.source_date}"]
    options += [f"--label={name}={value}" for name, value in order.labels.items()]
    options += [f"--secret={text}" for text in secret_options(order)]
    return options


def _cache_options(order: Order) -> list[str]:
    cache_from, cache_to = cache_options(order)
    return [f"--cache-from={cache_from}", f"--cache-to={cache_to}"] if cache_from else []


def secret_options(order: Order) -> list[str]:
    """Where each secret is; no value."""
    return [
        fields(f"id={name}", f"src={secret.file.absolute()}" if secret.file is not None else f"env={secret.env}")
        for name, secret in order.spec.secrets.items()
    ]


def platforms(texts: Sequence[str]) -> tuple[Platform, ...]:
    """What an engine says it can run; what is no platform is passed over."""
    found = []
    for text in texts:
        try:
            found.append(Platform.parse(text.strip().rstrip("*")))
        except PlatformInvalid:
            continue
    return tuple(dict.fromkeys(found))
