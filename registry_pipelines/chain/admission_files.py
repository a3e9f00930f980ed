"""The rules about clusters as files of other programs. Each form is loaded when it is asked for."""

from __future__ import annotations

from collections.abc import Callable

from registry_pipelines.chain.session import Session
from registry_pipelines.promote.admission.model import Form


def generated(session: Session, form: Form) -> dict[str, bytes]:
    """The rules in another program's form: content by path below a folder. Raises InputError, RegistryError."""
    return _FORMS[form](session)


def _webhook(session: Session) -> dict[str, bytes]:
    from registry_pipelines.promote.admission.configurations import to_yaml, webhook_objects

    return {f"{each['kind'].lower()}.yaml": to_yaml(each) for each in webhook_objects(session.config.admission)}


_FORMS: dict[Form, Callable[[Session], dict[str, bytes]]] = {
    "webhook": _webhook,
}
