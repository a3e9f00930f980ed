"""The rules as Rego, with the digests that may start now as data; and Rego evaluated as strictly as it can be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from registry_pipelines.errors import InputError, ToolMissing
from registry_pipelines.promote.admission.model import Admission
from registry_pipelines.promote.admission.rulings import Ruling

POLICY_FILE, DATA_FILE = "policy.rego", "data.json"
_WRITE = "Write it again: registry-pipelines admission write rego DIR"
QUERY = "a = data.registry_pipelines.admission.allow; d = data.registry_pipelines.admission.deny"


def rego_files(settings: Admission, startable: Mapping[str, Iterable[Ruling]]) -> dict[str, bytes]:
    """The policy and its data. startable: by ``host/repository``, for every place of every image; what may start there
    now, perhaps nothing."""
    images = {
        name: {str(each.digest): {"release": f"{each.image}:{each.version}"} for each in rulings}
        for name, rulings in sorted(startable.items())
    }
    approved = [each.images for each in settings.approved]
    data = {"images": images, "approved": approved, "require_digests": settings.require_digests}
    return {
        POLICY_FILE: Path(__file__).with_name(POLICY_FILE).read_bytes(),
        DATA_FILE: json.dumps({"registry_pipelines": data}, indent=2).encode() + b"\n",
    }


class RegoPolicy:
    """The files of :func:`rego_files` for regopy (extra ``admission``). For one thread."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """Raises ToolMissing, InputError: this is no Rego, or no JSON."""
        try:
            import regopy
        except ImportError as error:
            raise ToolMissing(
                "Rego cannot be evaluated: regopy is not installed",
                do="Install it: pip install 'registry-pipelines[admission]'",
            ) from error
        if missing := sorted({POLICY_FILE, DATA_FILE} - set(files)):
            raise InputError(f"{' and '.join(missing)} cannot be read: it is not there", do=_WRITE)
        self._rego = regopy.Interpreter()
        # Else a built-in that fails is undefined, and a rule that denies by it never fires.
        self._rego.strict_built_in_errors = True
        try:
            self._rego.add_module("policy", files[POLICY_FILE].decode())
            self._rego.add_data_json(files[DATA_FILE].decode())
        except (ValueError, regopy.RegoError) as error:
            raise InputError(f"the Rego policy cannot be read: {error}", do=_WRITE) from error

    def refusals(self, review: Mapping[str, Any]) -> list[str]:
        """Why the object of an AdmissionReview may not be made; empty when it may. What is undefined, and every error,
        is a refusal."""
        import regopy

        try:
            self._rego.set_input(dict(review))
            output = self._rego.query(QUERY)
            if not output.ok():
                return [f"the policy failed: {str(output)[:300]}"]
            found = json.loads(str(output)).get("bindings", {})
        except (ValueError, regopy.RegoError) as error:
            return [f"the policy failed: {str(error)[:300]}"]
        denied = found.get("d")
        if found.get("a") is True and denied == []:
            return []
        return sorted(map(str, denied)) if denied else ["the policy does not allow it"]


__all__ = ["DATA_FILE", "POLICY_FILE", "RegoPolicy", "rego_files"]
