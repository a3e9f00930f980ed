"""A unit on the host. Rules: systemd.service(5), systemd.exec(5)."""

from __future__ import annotations

from collections.abc import Sequence

from registry_pipelines.errors import InputError
from registry_pipelines.node.setup.model import ENDED_S, HEAD, NAME, STATE, Setup, Written

_UNIT = """\
# {head}
[Unit]
Description=Snapshotter of containerd: registry-pipelines node serve
After=network-online.target
Wants=network-online.target
Before=containerd.service docker.service

[Service]
Type=notify
ExecStart={command}
Environment=XDG_STATE_HOME={state}
Restart=always
RestartSec=1
TimeoutStopSec={ended_s}
# What keeps the mounts of containers that run stays when the agent is restarted, or killed; so do their descriptors.
KillMode=process
FileDescriptorStoreMax=4096
NotifyAccess=main
# Its mounts are those of the host: no PrivateMounts, and nothing that implies it.
LimitNOFILE=1048576
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
"""


def systemd(setup: Setup, *, arguments: Sequence[str] = ()) -> Written:
    """The unit. arguments: those of this machine unless told. Raises InputError for what no command line says."""
    arguments = arguments or setup.on_host
    if any(each in text for text in (str(setup.program), *arguments) for each in "\"'\\"):
        raise InputError(
            "systemd takes no quotes and no backslashes in the name of a program",
            where=" ".join([str(setup.program), *arguments]),
        )
    program = str(setup.program).replace("%", "%%")  # variables are not looked for in it
    command = " ".join([_quoted(program), *(_quoted(each.replace("%", "%%").replace("$", "$$")) for each in arguments)])
    text = _UNIT.format(head=HEAD, command=command, state=STATE, ended_s=ENDED_S)
    notes = [
        f"{NAME}-node.service into /etc/systemd/system, then `systemctl enable --now {NAME}-node`; what it says is "
        f"in `journalctl -u {NAME}-node`",
        "it can be restarted, also with another version, while containers run; to end it for good drain the node first",
    ]
    return Written({f"{NAME}-node.service": text.encode()}, notes)


def _quoted(text: str) -> str:
    """As systemd splits a command line: systemd.service(5), "Command lines"."""
    return f'"{text}"' if any(each in text for each in " ;") else text
