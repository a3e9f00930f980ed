"""Where the code of an asset is, and the lines of the configuration that it does: what its page in the UI links to.

Dagster's own ``link_code_references_to_git`` knows GitHub and GitLab, and asks for a branch; ours takes the address as
the git host shows it, so that any host will do, and a commit.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_shared.utils.warnings import disable_dagster_warnings

from registry_pipelines.config import Config

ROOT = Path(__file__).parent.parent
SECTIONS = {
    "replica": "targets",
    "mirror": "mirrors",
    "upstreams": "mirrors",
    "artifacts": "mirrors",
    "bundle": "mirrors",
    "loaded": "mirrors",
    "sync": "syncs",
    "base": "bases",
    "backup": "backups",
    "drill": "backups",
    "failover": "failover",
    "failover_drill": "failover",
    "deployed": "deploy",
    "weights": "weights",
    "inventory": "registries",
    "python_package": "python_packages",
    "settings": "infra",
}
"""Section of the configuration that an asset with a name does an entry of, by the first part of its key."""

Reference = dg.LocalFileCodeReference | dg.UrlCodeReference


def references(
    asset: dg.AssetsDefinition | dg.AssetSpec, config: Config, made_by: dg.OpDefinition | None = None
) -> dict[str, Any]:
    """Metadata with where an asset's code is, and its entry of the configuration. made_by: the step that
    reports an asset which has none of its own."""
    function = _function(made_by if isinstance(asset, dg.AssetSpec) else asset.node_def)
    found = [*([_code(function, config)] if function else []), *_entry(asset.key, config)] if _one(asset) else []
    with disable_dagster_warnings():
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=found)} if found else {}


def _one(asset: dg.AssetsDefinition | dg.AssetSpec) -> bool:
    return isinstance(asset, dg.AssetSpec) or len(asset.keys) == 1


def _function(step: Any) -> Callable[..., Any] | None:
    function = getattr(getattr(step, "compute_fn", None), "decorated_fn", None)
    return inspect.unwrap(function) if callable(function) else None


def _code(function: Callable[..., Any], config: Config) -> Reference:
    code = function.__code__
    return _at(Path(code.co_filename), code.co_firstlineno, ROOT, config.dagster.source, "")


def _entry(key: dg.AssetKey, config: Config) -> list[Reference]:
    kind, *names = key.path
    if kind == "line" and names and names[0] in config.lined:
        file, first = config.lined[names[0]]
        return [_at(file, first, config.path.parent, config.dagster.configuration_source, "image line")]
    line = config.lines.get(f"{SECTIONS.get(kind)}.{names[0]}") if names else None
    if line is None:
        return []
    return [_at(config.path, line, config.path.parent, config.dagster.configuration_source, "configuration")]


def _at(file: Path, line: int, root: Path, source: str, label: str) -> Reference:
    with disable_dagster_warnings():  # that references are new says nothing to who runs this
        if source and file.is_relative_to(root):
            within = file.relative_to(root).as_posix()
            return dg.UrlCodeReference(url=f"{source}/{within}#L{line}", label=label or within)
        return dg.LocalFileCodeReference(file_path=str(file), line_number=line, label=label or None)
