"""A private registry behind a gap, filled as a mirror would have filled it, and the files for its clusters."""

from __future__ import annotations

import gzip
from pathlib import Path

from registry_pipelines.chain import Chain, StageResult
from registry_pipelines.config import load
from registry_pipelines.mirror.model import ClusterForm
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.stream.layers import pack
from tests.stream.lazy.stacks import entry
from tests.stream.releases import Layer, program, push

CONFIG = """\
registries:
  private: {{kind: distribution, host: "{host}", plain_http: {plain}{more}}}
  ours: {{kind: distribution, host: eu.example.com}}
images:
  app: {{registry: ours, repository: ml/app}}
signing: {{generate: true}}
mirrors:
  airgap:
    to: private
    {settings}
    images: [app]
    upstreams: [{upstreams}]
"""


def written(
    folder: Path,
    form: ClusterForm,
    *,
    host: str,
    upstreams: str,
    settings: str = "prefix: in",
    more: str = "",
    plain: bool = True,
) -> StageResult:
    """The files of a form below ``folder/form``, from a configuration with these upstreams."""
    path = folder / "registry-pipelines.yaml"
    plainly = str(plain).lower()
    path.write_text(CONFIG.format(host=host, upstreams=upstreams, settings=settings, more=more, plain=plainly))
    return Chain(load(path, {"SECRET": "s3cret"})).clusters("airgap", form, folder / form)


def fill(root: Path, result: StageResult, words: str = "hello") -> dict[str, str]:
    """Put an image, which prints its own name, where the files say that it is; digest by name."""
    found = {}
    for row in result.tables["images"]:
        tar = pack([entry("hello", content=program(f"{words} {row['image']}\n".encode()), mode=0o755)])
        place = Place(LayoutRegistry(root), str(row["repository"]))
        made = push(place, Layer(gzip.compress(tar, 1, mtime=0), tar), tag="v1", config={"Cmd": ["/hello"]})
        found[str(row["image"])] = str(made.digest)
    return found
