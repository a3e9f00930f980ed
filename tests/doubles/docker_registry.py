"""The independent registry: docker-registry (CNCF distribution 2.8) on a free loopback port, by choice with TLS and
htpasswd. It has no referrers API, so it proves the fallback tag."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path
from types import TracebackType

import bcrypt

from tests.patience import patient


class DockerRegistry:
    """``with DockerRegistry(program, folder) as registry: registry.address``."""

    def __init__(
        self,
        program: str,
        root: Path,
        *,
        certificate: Path | None = None,
        key: Path | None = None,
        users: dict[str, str] | None = None,
        address: str = "127.0.0.1:0",
        proxy: str = "",
        notify: str = "",
    ) -> None:
        """address: where it listens; a free port unless told. proxy: an upstream that it caches; it then takes no
        pushes, and asks for a tag again at every pull. notify: URL that is told of every push and pull."""
        self.root = root
        self.address = ""
        root.mkdir(parents=True, exist_ok=True)
        http: dict[str, object] = {"addr": address}
        if certificate:
            http["tls"] = {"certificate": str(certificate), "key": str(key)}
        settings: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(root / "data")}, "delete": {"enabled": True}},
            "http": http,
        }
        if proxy:
            settings["proxy"] = {"remoteurl": proxy}
        if notify:
            endpoint = {"name": "test", "url": notify, "timeout": "5s", "threshold": 3, "backoff": "1s"}
            settings["notifications"] = {"endpoints": [endpoint]}
        if users:
            lines = [
                f"{name}:{bcrypt.hashpw(word.encode(), bcrypt.gensalt(4)).decode()}" for name, word in users.items()
            ]
            (root / "htpasswd").write_text("\n".join(lines) + "\n")
            settings["auth"] = {"htpasswd": {"realm": "test, with a comma", "path": str(root / "htpasswd")}}
        (root / "config.yml").write_text(json.dumps(settings))
        self._command = [program, "serve", str(root / "config.yml")]

    def __enter__(self) -> DockerRegistry:
        environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}  # version 3 looks for a collector unless told
        self._process = subprocess.Popen(
            self._command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        assert self._process.stderr is not None
        lines = []
        for line in self._process.stderr:
            lines.append(line)
            listening = re.search(r"listening on (127\.0\.0\.1:\d+)", line)
            if listening:
                self.address = listening[1]
                break
        else:
            raise AssertionError("docker-registry did not start:\n" + "".join(lines))
        self._drainer = threading.Thread(target=self._process.stderr.read, daemon=True)
        self._drainer.start()
        return self

    def kill(self) -> None:
        """Dead at once; nothing listens there any more."""
        self._process.kill()
        self._process.wait(patient(10))

    def hang(self) -> None:
        """Stopped: the system still accepts connections for it, and nobody answers."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """As if it had never hung."""
        self._process.send_signal(signal.SIGCONT)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.go_on()
        self._process.terminate()
        self._process.wait(patient(10))
        self._drainer.join(patient(10))
        if self._process.stderr is not None:
            self._process.stderr.close()
