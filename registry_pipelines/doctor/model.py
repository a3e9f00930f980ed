"""The answer of the doctor: one plain value for each thing that is wrong, or that a person should know."""

from __future__ import annotations

from typing import Literal

import msgspec

Cause = Literal[
    "abuse-limit",
    "archived",
    "bad-name",
    "content-damaged",
    "credentials-expired",
    "cut-short",
    "denied-or-missing",
    "disk-full",
    "dns",
    "endpoint-policy",
    "far-away",
    "gcr-closed",
    "kubelet-limit",
    "layer-store-denied",
    "layer-store-timeout",
    "manifest-kind",
    "never-pull",
    "no-credentials",
    "no-identity",
    "no-repository",
    "no-tag",
    "not-asked",
    "other-account",
    "other-region",
    "permission",
    "plain-http",
    "platform-missing",
    "pods-role",
    "proxy",
    "pull-limit",
    "refused-connection",
    "registry-fails",
    "registry-rate",
    "schema-1",
    "sha512",
    "short-name",
    "signature-wanted",
    "slow",
    "timeout",
    "tls",
    "token-expired",
    "unknown",
    "vpc-service-controls",
    "wrong-password",
    "wrong-platform",
    "zstd",
]
"""Stable words: scripts look at them."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One cause. command: what to run next, in one line that can be copied; empty where there is nothing to run.
    sure: False where the words fit several causes, and this is the likeliest."""

    cause: Cause
    what: str
    """What is wrong, one sentence without full stop."""
    evidence: tuple[str, ...] = ()
    """What it was concluded from: the words of the message, or what was asked and answered."""
    do: str = ""
    command: str = ""
    sure: bool = True
    note: bool = False
    """It keeps nothing from being pulled; a person should know it."""

    def row(self) -> dict[str, str | bool]:
        """For tables and JSON."""
        return {
            "cause": self.cause,
            "what": self.what,
            "evidence": "; ".join(self.evidence),
            "do": self.do,
            "command": self.command,
            "sure": self.sure,
            "note": self.note,
        }


class Patient(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a failed pull. Everything may be empty: a message tells some of it, a pod more."""

    image: str = ""
    """The reference as the pod or the message has it."""
    message: str = ""
    """The words of the kubelet, the runtime or the tool."""
    reason: str = ""
    """Of the container's state or of the event: ``ErrImagePull``, ``InvalidImageName``, ``ErrImageNeverPull``."""
    principal: str = ""
    """Who asked, as an ARN or an account, where the words name it."""
    action: str = ""
    """The permission that is missing, where the words name it."""
    resource: str = ""
    missing_by: str = ""
    """Why AWS says no: ``identity-based policy``, ``resource-based policy``, ``VPC endpoint policy``, ..."""
    platform: str = ""
    """Of the node, or the one that a message names."""
    lookup: str = ""
    """The host that could not be found or reached."""
    node: str = ""
    node_region: str = ""
    node_cloud: str = ""
    """``aws`` or ``gcp``, by the node's provider ID."""
    instance: str = ""
    """The node's instance, by its provider ID."""
    pod_role: str = ""
    """The role that the pod itself has (IRSA, workload identity), which pulls nothing."""
    pull_secrets: tuple[str, ...] = ()
    kubelet: bool = False
    """The pull was the kubelet's: a pod's, not a person's."""
