"""BuildKit through ``docker buildx build``, with the builder that Docker's own settings choose."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence

from registry_pipelines.build.dockerfile.engines.buildkit import ask, cache_options, exporter, run
from registry_pipelines.build.dockerfile.engines.protocol import Built, Found, Order
from registry_pipelines.errors import PlatformInvalid, ToolMissing
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
        command = [*_command(), "build", "--progress=rawjson", f"--output={exporter(order)}", *_options(order)]
        following = run([*command, str(order.spec.context)], order)
        return Built(engine=self.find().version, steps=following.steps, warnings=following.warnings)


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


def _options(order: Order) -> list[str]:
    spec = order.spec
    options = [f"--file={spec.dockerfile}", "--provenance=mode=max", "--sbom=false"]
    options += [f"--platform={','.join(map(str, order.platforms))}"]
    options += [f"--target={spec.target}"] if spec.target else []
    options += [f"--network={spec.network}"]
    options += ["--allow=network.host"] if spec.network == "host" else []
    options += [f"--build-arg={name}={value}" for name, value in spec.args.items()]
    options += [f"--build-arg=SOURCE_DATE_EPOCH={order.source_date}"]
    options += [f"--label={name}={value}" for name, value in order.labels.items()]
    options += [f"--secret={text}" for text in secret_options(order)]
    cache_from, cache_to = cache_options(order)
    return options + ([f"--cache-from={cache_from}", f"--cache-to={cache_to}"] if cache_from else [])


def secret_options(order: Order) -> list[str]:
    """Where each secret is; no value."""
    return [
        f"id={name},src={secret.file}" if secret.file is not None else f"id={name},env={secret.env}"
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
