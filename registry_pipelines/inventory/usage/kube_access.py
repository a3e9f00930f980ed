"""How an API server of Kubernetes is reached: by a kubeconfig file, or from inside of a pod.

Source: client-go's ``clientcmd/api/v1`` (kubeconfig), ``rest.InClusterConfig``, and client.authentication.k8s.io/v1
(programs that give credentials, as ``aws eks get-token`` and ``gke-gcloud-auth-plugin``).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any
from urllib.parse import urlsplit

import yaml

from registry_pipelines.errors import InputError, LocalError, ToolMissing
from registry_pipelines.redacting import redact_text
from registry_pipelines.registry.client.origins import is_loopback
from registry_pipelines.settings import unknown
from registry_pipelines.threads import run_child

MAX_FILE_BYTES = 4 * 1024 * 1024
"""Of a kubeconfig; one with a hundred clusters has about 500 KB."""
EXEC_S = 60.0
"""For a program that gives credentials; those of clouds ask over the internet."""
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
EXEC_KIND = "ExecCredential"


@dataclass(frozen=True)
class KubeAccess:
    """One API server. server: its address. tls: None for plain HTTP on loopback. server_name: whom its certificate must
    be for, where that is not its host. authorization: the header, empty for none; never shown."""

    server: str
    tls: ssl.SSLContext | None
    server_name: str = ""
    authorization: str = field(default="", repr=False)


def in_cluster(folder: Path = SERVICE_ACCOUNT) -> KubeAccess:
    """From inside of a pod, as its service account. folder: with ``token`` and ``ca.crt``. Raises InputError: this is
    no pod, or it has no service account."""
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{each}", "") for each in ("HOST", "PORT"))
    if not host:
        raise InputError(
            "no kubeconfig is told, and this is no pod (KUBERNETES_SERVICE_HOST is not set)",
            do="Say `kubeconfig` in the source of usage",
        )
    token = _text(folder / "token").strip()
    named = f"[{host}]" if ":" in host else host
    tls = _context(_text(folder / "ca.crt"))
    return KubeAccess(f"https://{named}:{port or '443'}", tls, authorization=f"Bearer {token}")


def by_kubeconfig(path: Path, context: str = "") -> KubeAccess:
    """By a kubeconfig file. context: the file's own unless told. Raises InputError (what the file says cannot be
    followed), ToolMissing, LocalError (a program that gives credentials fails)."""
    config = _load(path)
    name = context or str(config.get("current-context") or "")
    chosen = _named(config, "contexts", "context", name, path)
    cluster = _named(config, "clusters", "cluster", str(chosen.get("cluster", "")), path)
    user = _named(config, "users", "user", str(chosen["user"]), path) if chosen.get("user") else {}
    server = str(cluster.get("server", "")).rstrip("/")
    parts = urlsplit(server)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username:
        raise InputError(f"cluster {chosen.get('cluster')} has no address of a server", where=str(path))
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise InputError("credentials would go to the API server without TLS", where=str(path), do="Write https://")
    if cluster.get("proxy-url"):
        raise InputError(
            "`proxy-url` of a cluster is not followed",
            where=str(path),
            do="Save its usage from a place that reaches it",
        )
    given = _given_by_program(user["exec"], path) if user.get("exec") else {}
    if user.get("auth-provider"):
        raise InputError("`auth-provider` is gone from Kubernetes since 1.26", where=str(path), do="Use `exec`")
    tls = _tls(cluster, user, given, path) if parts.scheme == "https" else None
    return KubeAccess(server, tls, str(cluster.get("tls-server-name") or ""), _authorization(user, given, path))


def _load(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(_text(path))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError("this is no kubeconfig: it is no YAML", where=str(path)) from error
    if not isinstance(found, dict):
        raise InputError("this is no kubeconfig", where=str(path))
    return found


def _named(config: Mapping[str, Any], section: str, inside: str, name: str, path: Path) -> dict[str, Any]:
    listed = config.get(section)
    entries = {
        str(each.get("name")): each.get(inside) or {}
        for each in (listed if isinstance(listed, list) else ())
        if isinstance(each, dict)
    }
    found = entries.get(name)
    if name not in entries or not isinstance(found, dict):
        raise InputError(unknown(name, entries, inside), where=str(path))
    return found


def _authorization(user: Mapping[str, Any], given: Mapping[str, Any], path: Path) -> str:
    token = given.get("token") or user.get("token")
    if not token and user.get("tokenFile"):
        token = _text(path.parent / str(user["tokenFile"])).strip()
    if token:
        return f"Bearer {token}"
    if user.get("username"):
        both = f"{user['username']}:{user.get('password', '')}"
        return f"Basic {base64.b64encode(both.encode()).decode()}"
    return ""


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], given: Mapping[str, Any], path: Path) -> ssl.SSLContext:
    context = _context(_pem(cluster, "certificate-authority", path), str(path))
    if cluster.get("insecure-skip-tls-verify") is True:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    certificate = str(given.get("clientCertificateData") or "") or _pem(user, "client-certificate", path)
    key = str(given.get("clientKeyData") or "") or _pem(user, "client-key", path)
    if certificate:
        try:
            with _file(certificate + "\n" + key) as both:
                context.load_cert_chain(both)
        except (ssl.SSLError, ValueError) as error:
            raise InputError("the client's certificate or its key cannot be read", where=str(path)) from error
    return context


def _context(authority: str, where: str = "") -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=authority or None)
    except (ssl.SSLError, ValueError) as error:
        raise InputError("the certificates of the cluster's authority cannot be read", where=where) from error


def _pem(entry: Mapping[str, Any], name: str, path: Path) -> str:
    """What stands in a field as a file's path, or with ``-data`` as base64, which wins; empty for neither."""
    if data := entry.get(f"{name}-data"):
        try:
            return base64.b64decode(str(data), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise InputError(f"`{name}-data` is no base64 of a PEM text", where=str(path)) from error
    return _text(path.parent / str(entry[name])) if entry.get(name) else ""


@contextmanager
def _file(content: str) -> Iterator[str]:
    """A file that only this user can read, for what takes no bytes."""
    with tempfile.NamedTemporaryFile("w", prefix="registry-pipelines-", suffix=".pem") as file:
        file.write(content)
        file.flush()
        yield file.name


def _given_by_program(told: Any, path: Path) -> dict[str, Any]:
    """What a program of the file prints: the ``status`` of an ExecCredential."""
    if not isinstance(told, dict) or not told.get("command"):
        raise InputError("`exec` names no command", where=str(path))
    version = str(told.get("apiVersion") or "client.authentication.k8s.io/v1")
    program = str(told["command"])
    command = [str(path.parent / program) if "/" in program else program, *map(str, told.get("args") or ())]
    more = {str(each["name"]): str(each.get("value", "")) for each in told.get("env") or () if "name" in each}
    asked = json.dumps({"apiVersion": version, "kind": EXEC_KIND, "spec": {"interactive": False}})
    try:
        done = run_child(command, timeout_s=EXEC_S, env={**os.environ, **more, "KUBERNETES_EXEC_INFO": asked})
    except FileNotFoundError as error:
        do = redact_text(str(told.get("installHint") or ""))[:300] or "Install it, or name another user"
        raise ToolMissing(f"{program} gives the credentials, and is not installed", where=str(path), do=do) from error
    except (OSError, TimeoutExpired) as error:
        raise LocalError(f"{program}, which gives the credentials, did not end", where=str(path)) from error
    if done.returncode:
        said = redact_text(done.stderr.decode(errors="replace").strip())[:300]
        raise LocalError(f"{program}, which gives the credentials, failed: {said}", where=str(path))
    try:
        document = json.loads(done.stdout)
        if document["kind"] != EXEC_KIND:
            raise ValueError("another kind")
        return dict(document["status"])
    except (ValueError, LookupError, TypeError) as error:
        raise LocalError(f"{program} printed no ExecCredential", where=str(path)) from error


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    if len(raw) > MAX_FILE_BYTES:
        raise InputError(f"is larger than {MAX_FILE_BYTES} bytes", where=str(path))
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InputError("is no text", where=str(path)) from error


__all__ = ["SERVICE_ACCOUNT", "KubeAccess", "by_kubeconfig", "in_cluster"]
