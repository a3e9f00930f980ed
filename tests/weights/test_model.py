"""The artifact: ModelPack's rules, in a copy of our own, and what is not taken from others."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import ContentError, InputError, ManifestInvalid, RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, read_manifest
from registry_pipelines.weights.hashing import read_folder
from registry_pipelines.weights.model import WeightSet, from_manifest, to_manifest
from registry_pipelines.weights.paths import fault_of_all, fault_of_set

CONFIG_FIELDS = {"architecture", "format", "paramSize", "precision", "quantization", "capabilities"}
"""Of ``config`` in ModelPack's schema of 0.0.7, which takes no others."""


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def check_rules(manifest: dict[str, Any], config: dict[str, Any]) -> None:
    """What ModelPack demands of a manifest and its config."""
    assert manifest["schemaVersion"] == 2
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    assert all(layer["annotations"]["org.cncf.model.filepath"] for layer in manifest["layers"])
    assert set(config) == {"descriptor", "config", "modelfs"}
    assert set(config["config"]) <= CONFIG_FIELDS
    assert set(config["modelfs"]) == {"type", "diffIds"}
    assert config["modelfs"]["type"] == "layers"
    assert config["modelfs"]["diffIds"] == [layer["digest"] for layer in manifest["layers"]]


@pytest.fixture
def weights(tmp_path: Path) -> WeightSet:
    files = {"b/model.gguf": b"GGUF\x03\0\0\0 weights", "config.json": b"{}", "README.md": b"# m", "run.py": b"x = 1\n"}
    return read_folder(write(tmp_path / "m", files)).weights


def test_the_manifest_keeps_modelpack_rules(weights: WeightSet) -> None:
    made = to_manifest(weights)
    manifest = json.loads(made.raw)
    check_rules(manifest, json.loads(weights.config))
    assert json.loads(weights.config)["config"] == {"format": "gguf"}
    assert [layer["mediaType"].removeprefix("application/vnd.cncf.model.") for layer in manifest["layers"]] == [
        *("doc.v1.raw", "weight.v1.raw", "weight.config.v1.raw", "code.v1.raw")
    ]
    assert from_manifest(made.content(), weights.config) == weights


def test_the_same_files_elsewhere_make_the_same_digest(weights: WeightSet, tmp_path: Path) -> None:
    again = tmp_path / "elsewhere"
    for file in reversed(weights.files):
        write(again, {file.path: (tmp_path / "m" / file.path).read_bytes()})
        (again / file.path).chmod(0o600)
    assert to_manifest(read_folder(again).weights).digest == to_manifest(weights).digest
    assert (
        to_manifest(weights).digest == "sha256:4a00b16048519b6170680ee47bbb879d49a0646e143695778f4139ac062e66bb"
    )  # golden


def test_a_subject_changes_the_manifest_and_nothing_below(weights: WeightSet) -> None:
    subject = Descriptor(media_type="application/vnd.oci.image.index.v1+json", digest=Digest.of(b"i"), size=1)
    plain, attached = (to_manifest(weights, each).content() for each in (None, subject))
    assert isinstance(plain, Manifest)
    assert isinstance(attached, Manifest)
    assert attached.subject == subject
    assert attached.layers == plain.layers


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../up", "a/../../b", "a//b", "./a", "a\\b", "a\nb", "", "x" * 256, "a\x9b2J", "a\u202egpj.exe"],
)
def test_names_that_lead_out_are_not_taken(weights: WeightSet, path: str) -> None:
    odd = WeightSet((replace(weights.files[0], path=path), *weights.files[1:]), weights.config)
    with pytest.raises(ManifestInvalid):
        from_manifest(to_manifest(odd).content(), weights.config)


def test_paths_that_cannot_stand_beside_each_other() -> None:
    assert "twice" in fault_of_all(["a", "a"])
    assert "folder of" in fault_of_all(["a", "a/b"])
    assert fault_of_all(["a/b", "a/c", "b"]) == ""


@pytest.mark.parametrize(
    "path", ["weights.json", "model.sig", ".registry-pipelines/lock", "Weights.JSON", ".git/hooks/post-checkout"]
)
def test_names_of_what_lies_beside_the_files_are_not_taken(weights: WeightSet, path: str) -> None:
    """A pull would lose such a file, or write what says that the folder is whole, or have git run it."""
    odd = WeightSet((replace(weights.files[0], path=path), *weights.files[1:]), weights.config)
    with pytest.raises(ManifestInvalid, match="kept for what lies beside"):
        from_manifest(to_manifest(odd).content(), weights.config)
    assert fault_of_all([path]) == ""  # a signature of another program may name it


def test_names_that_some_file_systems_take_for_one() -> None:
    assert "one file" in fault_of_set(["Model.gguf", "model.gguf"])
    assert "one file" in fault_of_set(["e\u0301.txt", "\u00e9.txt"])
    assert fault_of_set(["a", "a"]) == "'a' is there twice"
    assert fault_of_set(["m/weights.json", "M/x", ".gitattributes"]) == ""


def test_one_content_has_one_size(weights: WeightSet) -> None:
    """Else the list of a folder that was pulled would have a size that its file has not."""
    odd = WeightSet((*weights.files, replace(weights.files[0], path="z", size=99)), weights.config)
    with pytest.raises(ManifestInvalid, match="another size"):
        from_manifest(to_manifest(odd).content(), weights.config)


def test_a_config_that_lists_other_content(weights: WeightSet) -> None:
    manifest = to_manifest(weights).content()
    other = weights.config.replace(weights.files[0].digest.hex.encode(), Digest.of(b"other").hex.encode())
    with pytest.raises(ManifestInvalid, match="other content"):
        from_manifest(manifest, other)


def test_an_image_is_no_model(weights: WeightSet) -> None:
    manifest = to_manifest(weights).content()
    assert isinstance(manifest, Manifest)
    raw = json.dumps({"schemaVersion": 2, "config": {"mediaType": "x/y", "digest": Digest.of(b""), "size": 0}})
    with pytest.raises(InputError, match="no weights"):
        from_manifest(read_manifest(raw.encode(), media_type="application/vnd.oci.image.manifest.v1+json"), b"{}")


@pytest.mark.parametrize(
    ("config", "layer", "said"),
    [
        ("application/vnd.kitops.modelkit.config.v1+json", "application/vnd.kitops.modelkit.model.v1.tar", "KitOps"),
        ("application/vnd.docker.ai.model.config.v0.1+json", "application/vnd.docker.ai.gguf.v3", "Docker Model"),
        ("application/vnd.docker.container.image.v1+json", "application/vnd.ollama.image.model", "Ollama"),
    ],
)
def test_a_model_in_the_form_of_another_program(config: str, layer: str, said: str) -> None:
    named = {"digest": Digest.of(b""), "size": 0}
    raw = {"schemaVersion": 2, "config": {"mediaType": config, **named}, "layers": [{"mediaType": layer, **named}]}
    found = read_manifest(json.dumps(raw).encode(), media_type="application/vnd.oci.image.manifest.v1+json")
    with pytest.raises(InputError, match=f"a model as {said}") as refused:
        from_manifest(found, b"{}")
    assert "weights push" in refused.value.do


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: json.dumps({"modelfs": text}).encode()))
def test_any_config_is_read_or_refused(config: bytes) -> None:
    layer = Descriptor(
        media_type="application/vnd.cncf.model.weight.v1.raw",
        digest=Digest.of(b"w"),
        size=1,
        annotations={"org.cncf.model.filepath": "w"},
    )
    described = Descriptor(media_type="application/vnd.cncf.model.config.v1+json", digest=Digest.of(config), size=1)
    manifest = Manifest(
        schema_version=2,
        artifact_type="application/vnd.cncf.model.manifest.v1+json",
        config=described,
        layers=(layer,),
    )
    with pytest.raises(ContentError):
        from_manifest(manifest, config)


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "m", {"a.gguf": b"GGUF1234", "sub/b.gguf": b"GGUF5678", "model.sig": b"{}", ".git/x": b""}
    )
    assert read_folder(folder).left_out == (".git", "model.sig")
    (folder / "link.gguf").symlink_to(folder / "a.gguf")
    with pytest.raises(InputError, match="symbolic link") as refused:
        read_folder(folder)
    assert "link.gguf" in str(refused.value)
    assert len(read_folder(folder, follow_links=True).weights.files) == 3
    (folder / "link.gguf").unlink()
    (folder / "up").symlink_to(tmp_path)
    with pytest.raises(InputError, match="to no file"):
        read_folder(folder, follow_links=True)
    (folder / "up").unlink()
    (folder / "a\\b").write_bytes(b"")
    with pytest.raises(InputError, match="backslash"):
        read_folder(folder)


def test_a_folder_without_files(tmp_path: Path) -> None:
    with pytest.raises(RegistryPipelinesError, match="no files"):
        read_folder(tmp_path)
    with pytest.raises(RegistryPipelinesError, match="no folder"):
        read_folder(tmp_path / "none")
