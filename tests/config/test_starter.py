"""The first configuration: whatever is answered, the file is read back and says that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry_pipelines.config import DistributionRegistry, EmbeddedRegistry, load
from registry_pipelines.config.starter import Answers, Spot, starter_file

parts = st.from_regex(r"[a-z0-9]{1,6}([._-][a-z0-9]{1,3})?", fullmatch=True)
paths = st.lists(parts, min_size=1, max_size=3).map("/".join)
hosts = st.sampled_from(["embedded", "ghcr.io", "ghcr.io:5000", "10.0.0.1:5000", "localhost", "[::1]:5000"])
texts = st.text(st.characters(codec="utf-8", min_codepoint=32), min_size=1, max_size=12)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    host=hosts,
    repository=paths,
    requirements=st.lists(texts.filter(str.strip), max_size=2),
    target=st.none() | st.tuples(hosts, paths),
    promote=st.sampled_from(["manual", "auto"]),
)
def test_every_answer_is_a_good_file(
    tmp_path: Path, host: str, repository: str, requirements: list[str], target: tuple[str, str] | None, promote: Any
) -> None:
    answers = Answers(
        source=Spot.read(host, name="local"),
        repository=repository,
        requirements=tuple(requirements),
        target=Spot.read("/".join(target), name="replica") if target else None,
        promote=promote,
    )
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(starter_file(answers))
    config = load(path, {})
    [image] = config.images.values()
    assert (image.repository, image.promote, image.channel) == (repository, promote, "prod")
    assert (image.build.requirements if image.build else ()) == tuple(requirements)
    assert ("provenance" in config.policies["default"].required) == bool(requirements)
    source = config.registries[image.registry]
    assert isinstance(source, EmbeddedRegistry) if host == "embedded" else source.host == host  # type: ignore[union-attr]
    if target:
        goal = config.targets[image.targets[0]]
        where = config.registries[goal.registry]
        assert isinstance(where, EmbeddedRegistry if target[0] == "embedded" else DistributionRegistry)
        assert (goal.registry != image.registry or host == target[0]) and goal.prefix == target[1]


@pytest.mark.parametrize("text", ["", "https://", "a b", "ghcr.io/Team", "user@ghcr.io", "ghcr.io/team:v1"])
def test_what_is_no_registry_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        Spot.read(text, name="local")


def test_a_target_that_is_the_source_is_told() -> None:
    here = Spot.read("ghcr.io", name="local")
    with pytest.raises(ValueError, match="put a prefix behind it"):
        Answers(source=here, repository="team/app", target=here)
