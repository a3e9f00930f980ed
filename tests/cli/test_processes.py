"""The commands as processes: signals, pipes, other people's tools."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chain.fleet import free_ports, write_config
from tests.cli.test_bad_input import PROGRAM
from tests.doubles.certificates import make_certificates
from tests.needs import needed_module
from tests.patience import patient

READY_S = patient(120)
"""Dagster needs 5 s alone, and a minute beside a full test run on two cores."""


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=patient(5)):
            return True
    except (urllib.error.URLError, OSError):
        return False


def living(group: int) -> list[str]:
    """Commands of the processes of a group that still run; the dead that nobody waited for do not count."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (folder / "stat").read_text().rpartition(")")
        except OSError:
            continue
        state, _, its_group = rest.split()[:3]
        if int(its_group) == group and state not in "ZX":
            found.append(name)
    return found


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_serve_announces_serves_and_ends(tmp_path: Path, how: signal.Signals) -> None:
    path = write_config(tmp_path)
    process = subprocess.Popen([*PROGRAM, "serve", "--json", "--config", str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    text = ""
    while not text.endswith("}\n") or text.count("{") != text.count("}"):
        text += process.stdout.readline()
    served = json.loads(text)["registries"]
    assert [each["name"] for each in served] == ["us", "eu", "gcp", "dmz", "private"]
    assert all(answers(each["url"] + "/v2/") for each in served)
    second = subprocess.run([*PROGRAM, "serve", "--config", str(path)], capture_output=True, text=True)
    assert second.returncode == 9 and "served by another process already" in second.stderr
    third = subprocess.run([*PROGRAM, "releases", "--json", "--config", str(path)], capture_output=True, text=True)
    assert (third.returncode, third.stdout) == (0, "[]\n")
    process.send_signal(how)
    assert process.wait(patient(30)) == 0
    process.stdout.close()
    assert not any(answers(each["url"] + "/v2/") for each in served)


def test_a_killed_server_leaves_no_lock(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    process = subprocess.Popen([*PROGRAM, "serve", "--config", str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    process.kill()
    process.wait(patient(30))
    process.stdout.close()
    again = subprocess.run([*PROGRAM, "releases", "--json", "--config", str(path)], capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (0, "[]\n"), again.stderr


@pytest.mark.peer("skopeo")
def test_serve_with_tls_and_accounts_for_skopeo(tmp_path: Path, peer: Callable[[str], str]) -> None:
    import bcrypt

    made = make_certificates(tmp_path / "tls")
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted" / "ca.crt").write_bytes(made.ca.read_bytes())
    (tmp_path / "htpasswd").write_text(f"ann:{bcrypt.hashpw(b'word', bcrypt.gensalt(4)).decode()}\n")
    [port] = free_ports(1)
    options = ["--port", str(port), "--tls-cert", str(made.certificate), "--tls-key", str(made.key)]
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--root", str(tmp_path / "root"), *options, "--htpasswd", str(tmp_path / "htpasswd")],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == f"https://127.0.0.1:{port} serves {tmp_path / 'root'}\n"
        look = [peer("skopeo"), "list-tags", "--cert-dir", str(tmp_path / "trusted")]
        found = {}
        for word in ("word", "wrong"):
            ran = subprocess.run(
                [*look, "--creds", f"ann:{word}", f"docker://127.0.0.1:{port}/a/b"], capture_output=True, text=True
            )
            found[word] = ran.stderr
        assert "404 (Not Found)" in found["word"]
        assert "unauthorized" in found["wrong"].lower()
    finally:
        process.terminate()
        assert process.wait(patient(30)) == 0
        process.stdout.close()


def test_a_closed_pipe_is_no_failure(tmp_path: Path) -> None:
    first = subprocess.Popen([*PROGRAM, "config", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert first.stdout is not None and first.stderr is not None
    first.stdout.close()
    shown = first.stderr.read()
    first.stderr.close()
    assert (first.wait(patient(30)), shown) == (0, b"")


def test_dev_serves_dagster_and_ends_all_of_it(installed: Path, tmp_path: Path) -> None:
    """The installed wheel's, with no clone and no program of Dagster's on the path."""
    needed_module("dagster_webserver", "dagster")
    path = write_config(tmp_path)
    [port] = free_ports(1)
    environment = {**os.environ, "PATH": "/usr/bin:/bin"}
    # As a shell starts a job in the background: interrupts ignored. Dagster must not inherit that.
    ignored = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", ignored, installed, "dev", "--port", str(port), "--config", str(path)],
        env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + READY_S
        while not answers(f"http://127.0.0.1:{port}/server_info"):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        assert (tmp_path / ".registry-pipelines" / "dagster" / "dagster.yaml").exists()
        family = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        assert len(family) == 1
        group = int(family[0])
    finally:
        process.terminate()
        code = process.wait(patient(60))
    assert code == 0
    until = time.monotonic() + patient(30)
    while left := living(group):  # killed, which a busy machine does when it comes to it
        assert time.monotonic() < until, left
        time.sleep(0.05)
    assert not answers(f"http://127.0.0.1:{port}/server_info")
