"""Where what keeps mounts goes, by files as the kernel shows them; that it outlives a pod is in
``tests/node/test_product_image.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry_pipelines.stream.lazy.outliving import CGROUPS, GROUP, leave_pod, why_not


def test_it_goes_to_a_group_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_pod()
    assert why_not() == ""  # in no pod
    monkeypatch.setenv(CGROUPS, str(tmp_path))
    for name in ("cgroup.controllers", "cgroup.procs"):
        (tmp_path / name).touch()
    leave_pod()
    assert (tmp_path / GROUP / "cgroup.procs").read_text() == "0" and why_not() == ""
    assert (tmp_path / "cgroup.procs").read_text() == ""


def test_of_version_1_it_leaves_each_hierarchy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CGROUPS, str(tmp_path))
    assert "cannot be changed" in why_not()
    for name in ("cpu,cpuacct", "cpuset", "devices", "unified"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").touch()
    (tmp_path / "cpu").symlink_to("cpu,cpuacct")
    leave_pod()
    found = {str(each.relative_to(tmp_path)) for each in tmp_path.rglob("cgroup.procs") if each.read_text() == "0"}
    own = {f"{name}/{GROUP}/cgroup.procs" for name in ("cpu,cpuacct", "devices", "unified")}
    assert found == {*own, "cpuset/cgroup.procs"}  # which takes nobody into a group without settings
    assert why_not() == ""
