"""All forms, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from registry_pipelines.errors import InputError
from registry_pipelines.node.setup.containerd import containerd
from registry_pipelines.node.setup.docker import docker
from registry_pipelines.node.setup.kubernetes import kubernetes
from registry_pipelines.node.setup.model import Setup, Written
from registry_pipelines.node.setup.systemd import systemd

Form = Literal["containerd", "docker", "systemd", "kubernetes"]
FORMS: dict[Form, str] = {
    "containerd": "the snapshotter, for containerd 1.6 to 2.x",
    "docker": "the same, and Docker's daemon.json",
    "systemd": "a unit that runs `node serve` on the host",
    "kubernetes": "a DaemonSet that runs it (--image), and the RuntimeClass for pods; nodes need `containerd`, too",
}
_FORMS: dict[Form, Callable[[Setup], Written]] = {
    "containerd": containerd,
    "docker": docker,
    "systemd": systemd,
    "kubernetes": kubernetes,
}


def write(form: Form, setup: Setup) -> Written:
    """The files of a form. Raises InputError, ReferenceInvalid."""
    for path in (setup.program, setup.socket, setup.root, *([setup.config] if setup.config else [])):
        if not path.is_absolute() or any(ord(each) < ord(" ") for each in str(path)):
            raise InputError("other programs take absolute paths in one line alone", where=repr(str(path)))
    if bool(setup.image) != (form == "kubernetes"):
        raise InputError(
            "the image of the agent is for `kubernetes`, and needed there",
            where=f"node setup {form}",
            do="Give --image REF, the product's own image, with `kubernetes` and with nothing else",
        )
    if setup.config is not None and form != "systemd":
        raise InputError(
            "only the unit names a configuration",
            where=f"node setup {form}",
            do="Leave --config out, or take `systemd`",
        )
    return _FORMS[form](setup)
