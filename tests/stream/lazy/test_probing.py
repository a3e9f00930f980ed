"""What a kernel carries is tried: what works here is told so, and what is kept from a process with what came."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from registry_pipelines.stream.lazy.mounting import mounts
from registry_pipelines.stream.lazy.probing import Probe, probe, user_namespace
from tests.answers import document
from tests.needs import missing
from tests.patience import patient
from tests.stream.lazy.mounts import mounted, need_fuse, one_file

CLI = [sys.executable, "-c", "from registry_pipelines.cli import main; main()", "node", "probe"]
PARTS = 12


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    folder = tmp_path_factory.mktemp("probe")
    found = probe(folder)
    assert not [each for each in mounts() if each.folder.is_relative_to(folder)] and list(folder.iterdir()) == []
    return found


def test_what_the_other_tests_mount_by_is_found_to_work(found: Probe) -> None:
    need_fuse()
    assert len(found.parts) == PARTS == len({part.name for part in found.parts})
    assert found.works("fuse") and found.works("fuse notify_store") and found.works("overlay on fuse")
    assert found.kernel == os.uname().release and "fuse" in found.carriers
    for part in found.parts:
        assert part.came and part.tried and bool(part.without) == (not part.works)


def test_fanotify_is_a_carrier_where_its_own_test_passes(found: Probe) -> None:
    need_fuse()
    assert ("fanotify" in found.carriers) == found.works("fanotify")
    assert not found.works("fanotify") or found.works("erofs")
    assert found.works("erofs") or not found.works("overlay on erofs")


@pytest.mark.parametrize("kept", ["mounts", "fuse"])
def test_what_is_kept_from_a_process_is_told_with_what_came(kept: str, tmp_path: Path) -> None:
    """A container without the right to mount, or without the device."""
    need_fuse()
    before = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]
    if kept == "fuse":
        own_devices = f"mount -t tmpfs none {tmp_path} && cp -a /dev/null /dev/urandom {tmp_path}"
        before = ["unshare", "--mount", "sh", "-c", f'{own_devices} && mount --move {tmp_path} /dev && exec "$@"', "sh"]
    own = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    ran = subprocess.run([*before, *CLI, "--json"], capture_output=True, text=True, env=own, timeout=patient(60))
    told = document(ran.stdout)["result"]
    works = {part["name"]: part["works"] for part in told["parts"]}
    came = {part["name"]: part["came"] for part in told["parts"]}
    assert not works["fuse"] and not works["overlay on fuse"] and not works["idmapped fuse"]
    if kept == "fuse":
        assert "/dev/fuse" in came["fuse"] and ran.returncode == (0 if works["fanotify"] else 1)
    else:
        assert not any(works[name] for name in works if name not in ("reflink", "user namespaces"))
        assert "CAP_SYS_ADMIN" in came["fanotify"] and told["carriers"] == [] and ran.returncode == 1
        shown = subprocess.run([*before, *CLI], capture_output=True, text=True, env=own, timeout=patient(60))
        assert shown.stdout.splitlines()[-1].endswith("carriers: none, so images are pulled")


def test_a_tree_that_is_served_can_be_shown_with_other_users(found: Probe, tmp_path: Path) -> None:
    """As containerd shows the lower layers of a pod with users of its own."""
    need_fuse()
    if not found.works("idmapped fuse"):
        missing("this needs Linux 6.12")
    with mounted(one_file(b"content"), tmp_path / "top"), user_namespace() as users:
        users.see(tmp_path / "top", "file")
