"""A dependency that nothing imports is not one: what an extra brings for a cloud is used by the packages themselves.
Some processes have none."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = {
    "boto3": "boto3",
    "dagster-aws": "dagster_aws",
    "dagster-gcp": "dagster_gcp",
    "google-cloud-artifact-registry": "google.cloud.artifactregistry_v1",
    "google-cloud-binary-authorization": "google.cloud.binaryauthorization_v1",
    "google-cloud-containeranalysis": "grafeas",
    "google-cloud-kms": "google.cloud.kms",
    "google-cloud-pubsub": "google.pubsub_v1",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
}
"""Distributions of the extras for clouds to the module that each is imported by; `grafeas` comes with
google-cloud-containeranalysis alone."""
BY_OTHERS = {"google-cloud-kms": "securesystemslib's signer imports it for gcpkms addresses (evidence.kms)"}


def imported() -> set[str]:
    """Every module that a statement of the two packages imports, in functions, too."""
    names: set[str] = set()
    for path in [*(ROOT / "registry_pipelines").rglob("*.py"), *(ROOT / "dagster_project").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                names.update(each.name for each in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
                names.update(f"{node.module}.{each.name}" for each in node.names)
    return names


@pytest.fixture(scope="module")
def used() -> set[str]:
    return imported()


def extras() -> list[str]:
    """What the extras for clouds bring."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = [each for name in ("aws", "google", "inventory", "dagster-clouds") for each in declared[name]]
    return [each.partition(">")[0].partition("=")[0].strip() for each in wanted]


@pytest.mark.parametrize("distribution", extras())
def test_what_an_extra_brings_is_used(distribution: str, used: set[str]) -> None:
    module = MODULES[distribution]
    found = any(name == module or name.startswith(f"{module}.") for name in used)
    assert found or distribution in BY_OTHERS, f"nothing imports {module}: {distribution} is not needed"


def test_every_exception_is_one(used: set[str]) -> None:
    assert not [each for each in BY_OTHERS if MODULES[each] in used]


@pytest.mark.parametrize(
    "program", ["transfer.blob.courier_process", "stream.lazy.answerer", "stream.lazy.holder", "stream.lazy.keeper"]
)
def test_a_small_process_needs_the_standard_library_alone(program: str) -> None:
    """So it starts in a Python's time, and whatever is installed meanwhile cannot break it."""
    load = f"import sys; sys.path.append(sys.argv[1]); import registry_pipelines.{program}"
    root = str(ROOT)
    done = subprocess.run([sys.executable, "-I", "-S", "-c", load, root], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
