"""BuildKit through ``buildctl``, with the daemon that ``BUILDKIT_HOST`` names or that listens where it usually does."""

from __future__ import annotations

import json
import shutil

from registry_pipelines.build.dockerfile.engines.buildkit import ask, cache_options, exporter, run
from registry_pipelines.build.dockerfile.engines.buildx import platforms, secret_options
from registry_pipelines.build.dockerfile.engines.protocol import Built, Found, Order
from registry_pipelines.errors import ToolMissing


class Buildctl:
    """See ``protocol.Engine``."""

    name = "buildctl"

    def find(self) -> Found:
        """See Engine."""
        program = _program()
        try:
            workers = json.loads(ask([program, "debug", "workers", "--format", "{{json .}}"]) or "[]")
        except ToolMissing as error:
            raise ToolMissing(error.what, where="buildctl", do="Start buildkitd, or set BUILDKIT_HOST") from None
        except ValueError:
            raise ToolMissing("buildctl gives an answer that cannot be read") from None
        if not workers:
            raise ToolMissing("buildkitd has no worker", do="Start it with one")
        version = ask([program, "--version"]).split()
        first = workers[0] if isinstance(workers, list) and isinstance(workers[0], dict) else {}
        names = [
            "/".join(filter(None, (each.get("os"), each.get("architecture"), each.get("variant"))))
            for each in first.get("platforms") or ()
            if isinstance(each, dict)
        ]
        kit = first.get("buildkitVersion") or {}
        return Found(
            version=f"buildctl {version[2] if len(version) > 2 else ''}, BuildKit {kit.get('version', '')}".strip(),
            buildkit=True,
            platforms=platforms(names),
        )

    def build(self, order: Order) -> Built:
        """See Engine."""
        command = [_program(), "build", "--progress=rawjson", "--frontend=dockerfile.v0", *_options(order)]
        following = run([*command, f"--output={exporter(order)}"], order)
        return Built(engine=self.find().version, steps=following.steps, warnings=following.warnings)


def _program() -> str:
    """Raises ToolMissing."""
    if program := shutil.which("buildctl"):
        return program
    raise ToolMissing("there is no buildctl", do="Install BuildKit")


def _options(order: Order) -> list[str]:
    spec = order.spec
    options = [f"--local=context={spec.context.absolute()}", f"--local=dockerfile={spec.path.absolute().parent}"]
    told = {
        "filename": spec.path.name,
        "platform": ",".join(map(str, order.platforms)),
        **({"target": spec.target} if spec.target else {}),
        **{f"build-arg:{name}": value for name, value in spec.args.items()},
        "build-arg:SOURCE_DATE_EPOCH": str(order.source_date),
        **{f"label:{name}": value for name, value in order.labels.items()},
        "attest:provenance": "mode=max",
        **({"force-network-mode": spec.network} if spec.network != "default" else {}),
    }
    options += [f"--opt={name}={value}" for name, value in told.items()]
    options += ["--allow=network.host"] if spec.network == "host" else []
    options += [f"--secret={text}" for text in secret_options(order)]
    cache_from, cache_to = cache_options(order)
    return options + ([f"--import-cache={cache_from}", f"--export-cache={cache_to}"] if cache_from else [])
