"""Long-running operations, which all services share: done at once, or after as many questions as a test says."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from tests.doubles.google.contract import plain
from tests.doubles.google.doors import status_of
from tests.doubles.google.world import Refusal, World


@dataclass
class Operations:
    """What is under way. questions: how often an operation is asked for before it is done; 0 is done in the answer."""

    questions: int = 0
    kept: dict[str, operations_pb2.Operation] = field(default_factory=dict)
    waiting: dict[str, tuple[int, operations_pb2.Operation]] = field(default_factory=dict)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))


def packed(message: Any) -> AnyMessage:
    """A message as Operation carries it."""
    made = AnyMessage()
    made.Pack(plain(message))
    return made


def operation(
    world: World, parent: str, response: Any = None, *, metadata: Any = None, failed: Refusal | None = None
) -> operations_pb2.Operation:
    """The operation that carries out something below ``projects/P/locations/L``. response: of it (Empty when None)."""
    state = world.state(Operations)
    name = f"{parent}/operations/{next(state.numbers):08x}-0000-4000-8000-000000000000"
    done = operations_pb2.Operation(name=name, done=True)
    if metadata is not None:
        done.metadata.CopyFrom(packed(metadata))
    if failed is not None:
        done.error.CopyFrom(status_of(failed))
    else:
        done.response.CopyFrom(packed(Empty() if response is None else response))
    state.kept[name] = done
    if not state.questions:
        return done
    state.waiting[name] = (state.questions, done)
    state.kept[name] = operations_pb2.Operation(name=name)
    return state.kept[name]


def get_operation(world: World, request: operations_pb2.GetOperationRequest) -> operations_pb2.Operation:
    """GetOperation."""
    state = world.state(Operations)
    if request.name not in state.kept:
        raise Refusal("NOT_FOUND", f"Operation {request.name} does not exist.")
    if request.name in state.waiting:
        left, done = state.waiting[request.name]
        state.waiting[request.name] = (left - 1, done)
        if left <= 1:
            state.kept[request.name] = done
            del state.waiting[request.name]
    return state.kept[request.name]


__all__ = ["Operations", "get_operation", "operation", "packed"]
