"""AWS Lambda: functions that are images, in every published version; ``ResolvedImageUri`` has the digest.

Source: botocore's model of Lambda (FunctionCodeLocation).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from registry_pipelines.errors import NotFound
from registry_pipelines.inventory.usage.model import Use
from registry_pipelines.oci.times import read_time
from registry_pipelines.registry.ecr.calls import AwsCalls


class LambdaSource:
    """See UsageSource. A version that nobody calls counts: it starts when somebody does."""

    notes: Sequence[str] = ()

    def __init__(self, name: str, calls: AwsCalls) -> None:
        self.name, self._calls = name, calls

    def uses(self) -> Iterator[Use]:
        """See UsageSource."""
        for function in self._functions():
            if function.get("PackageType") != "Image":
                continue
            try:
                answer = self._call("get_function", FunctionName=function["FunctionArn"])
            except NotFound:  # deleted since it was listed
                continue
            code = answer.get("Code", {})
            resolved = code.get("ResolvedImageUri") or ""
            yield Use(
                source=self.name,
                image=code.get("ImageUri") or resolved,
                digest=resolved.partition("@")[2],
                where=f"function {function['FunctionName']}, version {function.get('Version', '$LATEST')}",
                since=read_time(function.get("LastModified", "").replace("+0000", "+00:00")),
            )

    def _functions(self) -> Iterator[Any]:
        marker: dict[str, str] = {}
        while True:
            answer = self._call("list_functions", FunctionVersion="ALL", **marker)
            yield from answer.get("Functions", ())
            if not answer.get("NextMarker"):
                return
            marker = {"Marker": answer["NextMarker"]}

    def _call(self, operation: str, **values: Any) -> Any:
        return self._calls.call(operation, where=f"{self.name} (Lambda)", service="lambda", **values)
