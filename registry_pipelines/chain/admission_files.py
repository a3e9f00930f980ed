"""The rules about clusters as files of other programs. Each form is loaded when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError
from registry_pipelines.evidence.predicates import SIGNATURE_TYPE
from registry_pipelines.promote.admission.model import Form

if TYPE_CHECKING:
    from registry_pipelines.chain.admission import ConfiguredSites


def generated(session: Session, form: Form) -> dict[str, bytes]:
    """The rules in another program's form: content by path below a folder. Raises InputError, RegistryError."""
    return _FORMS[form](session)


def checked(files: Mapping[str, bytes], objects: list[dict[str, Any]]) -> list[list[str]]:
    """What the Rego of :func:`generated` says against making each object; nothing where it may be made. Raises
    ToolMissing, InputError."""
    from registry_pipelines.promote.admission.rego import RegoPolicy

    policy = RegoPolicy(files)
    return [policy.refusals(_review(each)) for each in objects]


def _webhook(session: Session) -> dict[str, bytes]:
    from registry_pipelines.promote.admission.configurations import webhook_objects
    from registry_pipelines.yaml_text import to_yaml

    return {f"{each['kind'].lower()}.yaml": to_yaml(each) for each in webhook_objects(session.config.admission)}


def _containers(session: Session) -> dict[str, bytes]:
    from registry_pipelines.promote.admission.containers import containers_files

    return containers_files(session.config.admission, _sources(session), _keys(session))


def _notation(session: Session) -> dict[str, bytes]:
    own = session.config.signing.notation
    if own is None or own.certificates is None:
        raise InputError(
            "releases are not signed for Notation here",
            where="signing.notation",
            do="Name the certificate that signs, with its chain, in signing.notation.certificates",
        )
    from registry_pipelines.evidence.keys import read_key_file
    from registry_pipelines.evidence.x509 import read_certificates
    from registry_pipelines.promote.admission.notation import notation_files

    places: dict[str, list[str]] = {}
    for name, site in _sites(session).names().items():
        places.setdefault(site.image, []).append(name)
    roots = [own.timestamps.roots] if own.timestamps else []
    signing, stamps = (
        [each for path in paths for each in read_certificates(read_key_file(path), where=str(path))]
        for paths in ([own.certificates], roots)
    )
    return notation_files(places, signing, stamps)


def _rego(session: Session) -> dict[str, bytes]:
    from registry_pipelines.promote.admission.rego import rego_files

    return rego_files(session.config.admission, _sites(session).startable())


def _validating_policy(session: Session) -> dict[str, bytes]:
    from registry_pipelines.promote.admission.examples import validating_policy_files

    return validating_policy_files(session.config.admission, _sites(session).startable())


def _kyverno(session: Session) -> dict[str, bytes]:
    from registry_pipelines.promote.admission.examples import kyverno_files

    return kyverno_files(session.config.admission, _sources(session), _keys(session))


def _sites(session: Session) -> ConfiguredSites:
    from registry_pipelines.chain.admission import ConfiguredSites

    return ConfiguredSites(session)


def _sources(session: Session) -> dict[str, str]:
    """Every place of every image, and where its releases are signed."""
    return {name: str(site.source) for name, site in _sites(session).names().items()}


def _keys(session: Session) -> list[bytes]:
    """Public keys of who signs images, as PEM. Raises InputError."""
    keys = session.verifier().believed_pem(SIGNATURE_TYPE)
    if not keys:
        raise InputError("nobody is believed for image signatures", where="signing", do="Name a key of signing.person")
    return keys


def _review(content: dict[str, Any]) -> dict[str, Any]:
    """An AdmissionReview as it would be asked when the object is made."""
    group, slash, version = str(content.get("apiVersion") or "").rpartition("/")
    kind = {"group": group if slash else "", "version": version, "kind": str(content.get("kind") or "")}
    return {"request": {"operation": "CREATE", "kind": kind, "object": content, "oldObject": None}}


_FORMS: dict[Form, Callable[[Session], dict[str, bytes]]] = {
    "webhook": _webhook,
    "containers": _containers,
    "notation": _notation,
    "rego": _rego,
    "validating-policy": _validating_policy,
    "kyverno": _kyverno,
}
