"""A Docker daemon of a drill's own, without bridge and without rules of iptables."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from registry_pipelines.recover.failover.drill import processes
from registry_pipelines.recover.failover.drill.kinds import Kind
from registry_pipelines.recover.failover.drill.model import Form, Running

NOWHERE = "http://127.0.0.1:9"
"""A proxy that is not there: after its mirrors Docker asks Docker Hub, and a drill tells Docker Hub nothing. Port 9 is
discard's (RFC 863), which nothing listens on."""
_QUIET = ("--iptables=false", "--ip6tables=false", "--bridge=none", "--ip-forward=false")


@dataclass(frozen=True)
class Docker:
    """A Docker that is installed; see ``Client``. kind: DOCKER or DOCKER_CONTAINERD."""

    program: Path
    docker: Path
    version: str
    kind: Kind
    form: Form = "docker"

    @contextmanager
    def started(self, folder: Path, sockets: Path) -> Iterator[Running]:
        """See Client."""
        config, socket = folder / "daemon.json", sockets / "d.sock"
        settings: dict[str, object] = (
            {"features": {"containerd-snapshotter": True}} if self.kind is Kind.DOCKER_CONTAINERD else {}
        )
        config.write_text(json.dumps(settings))
        env = {**processes.beside(self.program), "DOCKER_HOST": f"unix://{socket}", "HOME": str(folder)}
        asked = [str(self.docker), "version", "--format", "{{.Server.Version}}"]
        command = [
            *(str(self.program), "--config-file", str(config), "--data-root", str(folder / "root")),
            *(
                "--exec-root",
                str(sockets / "run"),
                "--host",
                f"unix://{socket}",
                "--pidfile",
                str(sockets / "d.pid"),
                *_QUIET,
            ),
        ]
        alone = {**env, "HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "NO_PROXY": "127.0.0.1"}
        with processes.daemon(command, folder / "log", asked, alone) as pid:
            yield _Running(config, settings, pid, self.docker, env)


class _Running:
    def __init__(self, config: Path, settings: dict[str, object], pid: int, docker: Path, env: dict[str, str]) -> None:
        self._config, self._settings, self._pid, self._docker, self._env = config, settings, pid, docker, env

    def order(self, files: Mapping[str, bytes]) -> None:
        """See Running. Files of trust have no use: Docker verifies no certificate on loopback."""
        told = json.loads(files["daemon.json"])
        self._config.write_text(json.dumps({**self._settings, **told}))
        os.kill(self._pid, signal.SIGHUP)  # it reads `registry-mirrors` again
        wanted = [f"{url.rstrip('/')}/" for url in told["registry-mirrors"]]
        shown = "{{range .RegistryConfig.Mirrors}}{{println .}}{{end}}"
        processes.until(
            lambda: processes.output([str(self._docker), "info", "--format", shown], self._env).split() == wanted,
            "the daemon did not take the new order",
            str(self._config),
        )

    def pull(self, reference: str, limit_s: float) -> None:
        """See Running."""
        processes.pull([str(self._docker), "pull", reference], limit_s, self._env)


__all__ = ["Docker"]
