"""What each form says, read back as its program documents that it reads it; schemas here are written from the
documentation of k3s and OpenShift, and no program of theirs runs."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from registry_pipelines.cli import main
from registry_pipelines.errors import InputError
from registry_pipelines.mirror.clusters.forms import write
from registry_pipelines.mirror.clusters.model import Endpoint, Route
from registry_pipelines.mirror.model import CLUSTER_FORMS, ClusterForm
from tests.answers import answered
from tests.doubles.certificates import make_certificates
from tests.mirror.clusters.behind import written

UPSTREAMS = "{image: docker.io/library/app}, {image: python}, {image: quay.io/team/tool, repository: other/name}"
KEEPING = "prefix: in\n    keep_host: true"
PLAIN = "prefix: in"
EXACT: tuple[ClusterForm, ...] = ("registries-yaml", "idms", "itms", "registries-conf")
"""Forms that can name any place for any image."""

HOST = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?"
PATH = r"(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+"
MIRROR_SET = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "config.openshift.io/v1"},
        "kind": {"enum": ["ImageDigestMirrorSet", "ImageTagMirrorSet"]},
        "metadata": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"pattern": "^[a-z0-9.-]{1,253}$"}},
        },
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "minProperties": 1,
            "patternProperties": {
                "^image(Digest|Tag)Mirrors$": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["source"],
                        "properties": {
                            "source": {"type": "string", "pattern": f"^{HOST}({PATH})?$"},
                            "mirrors": {
                                "type": "array",
                                "uniqueItems": True,
                                "items": {"type": "string", "pattern": f"^{HOST}({PATH})?$"},
                            },
                            "mirrorSourcePolicy": {"enum": ["NeverContactSource", "AllowContactingSource"]},
                        },
                    },
                }
            },
        },
    },
}
"""OpenShift's documentation of ``config.openshift.io/v1``."""

REGISTRIES = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "mirrors": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["endpoint"],
                "properties": {
                    "endpoint": {"type": "array", "items": {"type": "string", "pattern": f"^https?://{HOST}$"}},
                    "rewrite": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            },
        },
        "configs": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "tls": {"type": "object", "properties": {"ca_file": {"type": "string"}}},
                },
            },
        },
    },
}
"""k3s's documentation, "Private Registry Configuration"; without ``auth``, which is never written here."""


def one_yaml(folder: Path) -> Any:
    [path] = folder.rglob("*.yaml")
    return yaml.safe_load(path.read_text())


def rewritten(content: Any, name: str) -> str:
    """Where k3s asks for an image: the first rule that matches, of which there must be one at most."""
    host, _, repository = name.partition("/")
    rules = content["mirrors"][host].get("rewrite", {})
    hits = [
        re.sub(old, new.replace("$1", r"\1"), repository) for old, new in rules.items() if re.search(old, repository)
    ]
    assert len(hits) <= 1
    return hits[0] if hits else repository


@pytest.mark.parametrize("settings", [PLAIN, KEEPING])
def test_k3s_asks_for_what_the_mirror_brought(tmp_path: Path, settings: str) -> None:
    host = "private.example.com:5000"
    result = written(tmp_path, "registries-yaml", host=host, upstreams=UPSTREAMS, settings=settings)
    content = one_yaml(tmp_path / "registries-yaml")
    Draft202012Validator(REGISTRIES).validate(content)
    for row in result.tables["images"]:
        assert rewritten(content, str(row["image"])) == row["repository"]
    assert content["mirrors"]["docker.io"]["endpoint"] == ["http://private.example.com:5000"]
    if settings == KEEPING:  # one rule for whatever comes next
        assert rewritten(content, "docker.io/library/new") == "in/docker.io/library/new"
    else:
        assert rewritten(content, "docker.io/library/app2") == "library/app2"


@pytest.mark.parametrize(("form", "kind"), [("idms", "Digest"), ("itms", "Tag")])
def test_openshift_reads_one_place_for_each_image(tmp_path: Path, form: ClusterForm, kind: str) -> None:
    result = written(tmp_path, form, host="private.example.com:5000", upstreams=UPSTREAMS)
    content = one_yaml(tmp_path / form)
    Draft202012Validator(MIRROR_SET).validate(content)
    assert content["kind"] == f"Image{kind}MirrorSet"
    found = {row["source"]: row["mirrors"] for row in content["spec"][f"image{kind}Mirrors"]}
    assert found == {row["image"]: [f"private.example.com:5000/{row['repository']}"] for row in result.tables["images"]}
    assert found["docker.io/library/python"] == ["private.example.com:5000/in/library/python"]
    assert any(f"write the form {'itms' if form == 'idms' else 'idms'}" in note for note in result.notes)


def test_what_a_form_cannot_say_is_told_whole_and_nothing_is_written(tmp_path: Path) -> None:
    """Else half of a cluster's images would come, and the others from nowhere."""
    both = "{image: quay.io/a/b, repository: x/y}, {image: ghcr.io/c/d, repository: z}, {image: quay.io/e/f}"
    with pytest.raises(InputError) as refused:
        written(tmp_path, "hosts-toml", host="private.example.com", upstreams=both)
    assert "quay.io/a/b is in/x/y" in str(refused.value) and "ghcr.io/c/d is in/z" in str(refused.value)
    assert "quay.io/e/f" not in str(refused.value) and not (tmp_path / "hosts-toml").exists()
    with pytest.raises(InputError) as refused:
        written(tmp_path, "docker", host="private.example.com", upstreams="{image: python}, {image: docker.io/a/b}")
    assert "Docker asks a mirror for library/python alone" in str(refused.value) and "for a/b alone" in str(
        refused.value
    )
    with pytest.raises(InputError, match="no image of docker"):
        written(tmp_path, "docker", host="private.example.com", upstreams="{image: quay.io/a/b}")
    for form in EXACT:
        assert written(tmp_path, form, host="private.example.com", upstreams=both).rows


def test_a_path_that_several_upstreams_share_is_said(tmp_path: Path) -> None:
    loose = written(tmp_path, "hosts-toml", host="p.example.com", upstreams="{image: docker.io/a/b}")
    assert any(note.startswith("docker.io: without `keep_host`") for note in loose.notes)
    kept = written(tmp_path, "hosts-toml", host="p.example.com", upstreams="{image: docker.io/a/b}", settings=KEEPING)
    assert not any(note.startswith("docker.io:") for note in kept.notes)


def test_several_paths_of_one_host_are_asked_in_turn(tmp_path: Path) -> None:
    upstreams = "{image: docker.io/a/b}, {image: docker.io/c/d, repository: docker.io/c/d}"
    result = written(tmp_path, "hosts-toml", host="p.example.com", upstreams=upstreams)
    content = tomllib.loads((tmp_path / "hosts-toml/docker.io/hosts.toml").read_text())
    urls = [f"http://p.example.com/v2/in{path}" for path in ("/docker.io", "")]
    assert list(content["host"]) == urls and content["server"] == urls[-1]
    assert all(each["override_path"] is True for each in content["host"].values())
    assert any("below 2 paths, which are asked one after the other: in/docker.io, in" in note for note in result.notes)


@pytest.mark.parametrize("form", CLUSTER_FORMS)
def test_no_account_is_in_any_file_and_where_it_goes_is_said(tmp_path: Path, form: ClusterForm) -> None:
    made = make_certificates(tmp_path / "tls")
    more = ', username: robot, password: "${SECRET}"' + f", ca_file: {made.ca}"
    settings, upstreams = ("", "{image: python}") if form == "docker" else (KEEPING, "{image: python}")
    arguments: dict[str, Any] = {"host": "private.example.com:5000", "upstreams": upstreams, "settings": settings}
    if form == "docker":  # which has no place for one
        with pytest.raises(InputError, match=r"wants an account, and Docker has none for a mirror"):
            written(tmp_path, form, more=more, plain=False, **arguments)
        more = f", ca_file: {made.ca}"
    result = written(tmp_path, form, more=more, plain=False, **arguments)
    texts = [path.read_text() for path in (tmp_path / form).rglob("*") if path.is_file()]
    authority = made.ca.read_text().splitlines()[1]
    assert any(authority in text for text in texts)
    assert not any(word in text for text in (*texts, str(result.plain())) for word in ("s3cret", "robot"))
    assert form == "docker" or any("No account is in these files" in note for note in result.notes)


def test_who_serves_nothing_is_refused(tmp_path: Path) -> None:
    written(tmp_path, "itms", host="private.example.com", upstreams=UPSTREAMS)
    path = tmp_path / "registry-pipelines.yaml"
    text = path.read_text()
    folder = '{kind: layout, root: "disk"}'
    path.write_text(re.sub(r"private: \{kind.*\}", f"private: {folder}", text))
    words = ["mirror", "clusters", "airgap", "--form", "itms", "--to", str(tmp_path / "out"), "--config", str(path)]
    failed = CliRunner().invoke(main, words)
    assert failed.exit_code == 8 and "is a folder, and no cluster can pull from it" in failed.output
    path.write_text(text)
    assert CliRunner().invoke(main, words).exit_code == 0
    answer = answered(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert [row["file"] for row in answer["rows"]] == [str(tmp_path / "out/imagetagmirrorset.yaml")]
    text = re.sub(r"ours: \{kind.*\}", f"ours: {folder}", text)
    path.write_text(re.sub(r"upstreams: .*", "upstreams: []", text))  # an image that has a name on a disk alone
    assert "no image of this mirror has a name in a registry" in CliRunner().invoke(main, words).output


def test_a_mirror_that_is_named_after_a_command_is_run_by_run(tmp_path: Path) -> None:
    written(tmp_path, "itms", host="private.example.com", upstreams="")
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(path.read_text().replace("airgap:", "clusters:"))
    done = CliRunner().invoke(main, ["mirror", "run", "clusters", "--dry-run", "--config", str(path)])
    assert done.exit_code == 0 and "nothing is to be done" in done.output


NAMES = st.from_regex(r"[a-z0-9]{1,4}(\.[a-z0-9]{1,3})?(/[a-z0-9]{1,4}(-[a-z]{1,2})?){0,2}", fullmatch=True)
ROUTES = st.builds(Route, st.sampled_from(["docker.io", "quay.io", "r.example.com:5000"]), NAMES, NAMES) | st.builds(
    lambda host, repository, prefix: Route(host, repository, f"{prefix}/{repository}"),
    st.sampled_from(["docker.io", "quay.io"]),
    NAMES,
    NAMES,
)


@given(
    st.lists(ROUTES, min_size=1, max_size=6, unique_by=lambda route: route.name), st.sampled_from(list(CLUSTER_FORMS))
)
def test_a_form_brings_each_image_to_its_own_place_or_says_that_it_cannot(
    routes: list[Route], form: ClusterForm
) -> None:
    endpoint = Endpoint("private.example.com:5000")
    try:
        files = {name: raw.decode() for name, raw in write(form, "airgap", endpoint, routes).files.items()}
    except InputError as error:
        assert form in ("hosts-toml", "docker")
        named = [route for route in routes if route.name in str(error)]
        assert named or "no image of docker.io" in str(error)
        return
    for route in routes:
        assert f"{endpoint.host}/{route.path}" in places(form, files, route)


def places(form: ClusterForm, files: dict[str, str], route: Route) -> list[str]:
    """Where a program that read the files asks for an image, in its order."""
    [*_, text] = files.values()
    if form == "hosts-toml":
        content = tomllib.loads(files[f"{route.host}/hosts.toml"])
        paths = [url.removeprefix("https://").replace("/v2", "", 1) for url in content["host"]]
        return [f"{path}/{route.repository}" for path in paths]
    if form == "registries-yaml":
        return [f"private.example.com:5000/{rewritten(yaml.safe_load(text), route.name)}"]
    if form in ("idms", "itms"):
        [rows] = yaml.safe_load(text)["spec"].values()
        return [place for row in rows if row["source"] == route.name for place in row["mirrors"]]
    if form == "registries-conf":
        return [row["location"] for row in tomllib.loads(text)["registry"] if row["prefix"] == route.name]
    assert json.loads(text) == {"registry-mirrors": ["https://private.example.com:5000"]}
    # Another host's image is told of in a note, by its own name in the private registry.
    return [f"private.example.com:5000/{route.repository if route.host == 'docker.io' else route.path}"]
