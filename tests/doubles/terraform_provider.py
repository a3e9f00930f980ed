"""Terraform's providers, as far as Terraform itself can tell: their schemas, and a state that keeps what it is told.

The real providers cannot be had everywhere. This one speaks their protocol (plugin protocol 5 over gRPC) with the
schemas of ``tests/infra/terraform_data``, so Terraform's own reading of files, its references, its checks and its plans
are real. Terraform is led to it by TF_REATTACH_PROVIDERS, as a provider that is being debugged is. Source:
tfplugin5.proto, and the encoding of values that Terraform documents for it (MessagePack; unknown is extension 0).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tests.infra.provider_schemas import allowed, resources, schemas

_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
    "int64": _FIELD.TYPE_INT64,
    "bool": _FIELD.TYPE_BOOL,
}
_MESSAGES = {
    "Value": [("msgpack", 1, "bytes"), ("json", 2, "bytes")],
    "Diagnostic": [("severity", 1, "int64"), ("summary", 2, "string"), ("detail", 3, "string")],
    "RawState": [("json", 1, "bytes")],
    "Attribute": [
        ("name", 1, "string"), ("type", 2, "bytes"),
        ("required", 4, "bool"), ("optional", 5, "bool"), ("computed", 6, "bool"),
    ],
    "Nested": [
        ("type_name", 1, "string"), ("block", 2, "Block"),
        ("nesting", 3, "int64"), ("min_items", 4, "int64"), ("max_items", 5, "int64"),
    ],
    "Block": [("version", 1, "int64"), ("attributes", 2, "Attribute*"), ("block_types", 3, "Nested*")],
    "Schema": [("version", 1, "int64"), ("block", 2, "Block")],
    "Named": [("key", 1, "string"), ("value", 2, "Schema")],
    "Schemas": [
        ("provider", 1, "Schema"), ("resources", 2, "Named*"), ("data", 3, "Named*"), ("diagnostics", 4, "Diagnostic*"),
    ],
    "Nothing": [("diagnostics", 1, "Diagnostic*")],
    "Prepare": [("config", 1, "Value")],
    "Prepared": [("prepared_config", 1, "Value"), ("diagnostics", 2, "Diagnostic*")],
    "Configured": [("terraform_version", 1, "string"), ("config", 2, "Value")],
    "Validate": [("type_name", 1, "string"), ("config", 2, "Value")],
    "Upgrade": [("type_name", 1, "string"), ("version", 2, "int64"), ("raw_state", 3, "RawState")],
    "Upgraded": [("state", 1, "Value"), ("diagnostics", 2, "Diagnostic*")],
    "Read": [("type_name", 1, "string"), ("current_state", 2, "Value")],
    "Change": [
        ("type_name", 1, "string"), ("prior_state", 2, "Value"), ("state", 3, "Value"), ("config", 4, "Value"),
    ],
    "Planned": [("state", 1, "Value"), ("diagnostics", 4, "Diagnostic*"), ("legacy_type_system", 5, "bool")],
    "Applied": [("state", 1, "Value"), ("diagnostics", 3, "Diagnostic*"), ("legacy_type_system", 4, "bool")],
    "Import": [("type_name", 1, "string"), ("id", 2, "string")],
    "ImportedOne": [("type_name", 1, "string"), ("state", 2, "Value")],
    "Imported": [("imported", 1, "ImportedOne*"), ("diagnostics", 2, "Diagnostic*")],
    "ReadData": [("type_name", 1, "string"), ("config", 2, "Value")],
    "DataRead": [("state", 1, "Value"), ("diagnostics", 2, "Diagnostic*")],
}  # fmt: skip
"""Messages of tfplugin5.proto by a name of our own (only numbers and types travel): (name, number, type)."""

_UNKNOWN = msgspec.msgpack.Ext(0, b"\0")
_DATA = {
    "aws_kms_alias": {"target_key_arn": '"string"'},
    "google_kms_crypto_key_version": {"public_key": '["list",["object",{"algorithm":"string","pem":"string"}]]'},
}
"""Computed attributes of data sources, with their types."""
_ANSWERS: dict[str, Any] = {
    "target_key_arn": "arn:aws:kms:eu-west-1:111122223333:key/11111111-2222-3333-4444-555555555555",
    "public_key": [{"algorithm": "EC_SIGN_P256_SHA256", "pem": "-----BEGIN PUBLIC KEY-----"}],
}
_OWN: dict[str, dict[str, Any]] = {
    "aws": {
        "region": "string",
        "allowed_account_ids": "list",
        "assume_role": {"role_arn": "string", "external_id": "string"},
    },
    "google": {"project": "string", "impersonate_service_account": "string"},
}
"""What the providers are told of themselves."""


def _messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="terraform_double.proto", package="double", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            made = message.field.add(name=field, number=number, label=_FIELD.LABEL_OPTIONAL)
            if kind.endswith("*"):
                made.label = _FIELD.LABEL_REPEATED
            base = kind.rstrip("*")
            made.type = _SCALARS.get(base, _FIELD.TYPE_MESSAGE)
            if base not in _SCALARS:
                made.type_name = f".double.{base}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"double.{name}")) for name in _MESSAGES}


M = _messages()


class Provider:
    """``aws5``, ``aws6`` or ``google``, serving on a loopback port. seen: configurations of resources that were
    validated, by type; created: what was made, in order; imported: what was taken over, by type and id."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = f"hashicorp/{name.rstrip('56')}"
        self.created: list[tuple[str, dict[str, Any]]] = []
        self.imported: list[tuple[str, str]] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        methods = {
            "GetSchema": ("Nothing", self._schema),
            "PrepareProviderConfig": ("Prepare", lambda request: M["Prepared"](prepared_config=request.config)),
            "Configure": ("Configured", lambda request: M["Nothing"]()),
            "ValidateResourceTypeConfig": ("Validate", self._validate),
            "ValidateDataSourceConfig": ("Validate", lambda request: M["Nothing"]()),
            "UpgradeResourceState": ("Upgrade", lambda request: M["Upgraded"](state={"json": request.raw_state.json})),
            "ReadResource": ("Read", lambda request: M["Upgraded"](state=request.current_state)),
            "PlanResourceChange": ("Change", self._plan),
            "ApplyResourceChange": ("Change", self._apply),
            "ImportResourceState": ("Import", self._import),
            "ReadDataSource": ("ReadData", self._data),
            "Stop": ("Nothing", lambda request: M["Nothing"]()),
        }
        handlers = {method: _door(M[kind], act) for method, (kind, act) in methods.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tfplugin5.Provider", handlers),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> Provider:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()

    def reattach(self) -> dict[str, Any]:
        """This provider's entry of TF_REATTACH_PROVIDERS."""
        address = {"Network": "tcp", "String": f"127.0.0.1:{self.port}"}
        return {"Protocol": "grpc", "ProtocolVersion": 5, "Pid": os.getpid(), "Test": True, "Addr": address}

    def created_by(self, kind: str, field: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """What was made of a type, by one of its fields."""
        return ((str(state[field]), state) for made, state in self.created if made == kind)

    def _schema(self, _request: Any) -> Any:
        own = self.name.rstrip("56")
        data = {kind: _block(fields, computed=_DATA[kind]) for kind, fields in schemas()["data"][own].items()}
        made = {kind: _block(fields, computed=_filled_in(kind)) for kind, fields in resources(self.name).items()}
        return M["Schemas"](
            provider={"block": _block(_provider_fields(own), computed=None)},
            resources=[{"key": kind, "value": {"block": block}} for kind, block in made.items()],
            data=[{"key": kind, "value": {"block": block}} for kind, block in data.items()],
        )

    def _validate(self, request: Any) -> Any:
        """The checks of values that the provider makes by itself."""
        told = []
        for name, value in _load(request.config).items():
            values = allowed(self.name, request.type_name, name)
            for each in value if isinstance(value, list) else [value]:
                if values is not None and isinstance(each, str) and each not in values:
                    summary = f"{request.type_name}.{name}: {each} is none of {', '.join(values)}"
                    told.append({"severity": 1, "summary": summary})
        return M["Nothing"](diagnostics=told)

    def _plan(self, request: Any) -> Any:
        state = _load(request.state)
        if state is not None:
            state |= {name: _UNKNOWN for name in ("id", *_filled_in(request.type_name)) if state.get(name) is None}
        return M["Planned"](state=_dump(state))

    def _apply(self, request: Any) -> Any:
        state = _load(request.state)
        if state is not None:
            if state.get("id") == _UNKNOWN:
                whole = "projects/{project}/locations/{location}/repositories/{repository_id}"
                named = "repository_id" in state
                state["id"] = whole.format_map(state) if named else f"{request.type_name}-{len(self.created)}"
            for name in _filled_in(request.type_name):
                if state.get(name) == _UNKNOWN:
                    state[name] = _FORMS[request.type_name].format(**state | {"count": len(self.created)})
            self.created.append((request.type_name, state))
        return M["Applied"](state=_dump(state))

    def _import(self, request: Any) -> Any:
        """What exists, known by its id alone; the plan then says what is otherwise there than declared."""
        self.imported.append((request.type_name, request.id))
        fields = resources(self.name)[request.type_name]
        state = {name: None if isinstance(kind, str) else [] for name, kind in fields.items()} | {"id": request.id}
        state |= dict.fromkeys(_filled_in(request.type_name), request.id)
        return M["Imported"](imported=[{"type_name": request.type_name, "state": _dump(state)}])

    def _data(self, request: Any) -> Any:
        state = _load(request.config)
        state |= {name: _ANSWERS[name] for name in _DATA[request.type_name]} | {"id": "data"}
        return M["DataRead"](state=_dump(state))


def _door(kind: Any, act: Callable[[Any], Any]) -> Any:
    def call(request: Any, _context: Any) -> Any:
        return act(request)

    return grpc.unary_unary_rpc_method_handler(call, kind.FromString, lambda answer: answer.SerializeToString())


def _provider_fields(name: str) -> dict[str, Any]:
    fields = dict(_OWN[name])
    return {
        field: kind if isinstance(kind, str) else {"min": 0, "max": 0, "fields": kind} for field, kind in fields.items()
    }


_FORMS = {
    "aws_sns_topic": "arn:aws:sns:eu-west-1:111122223333:{name}",
    "google_monitoring_notification_channel": "projects/ml-prod/notificationChannels/{count}",
}
"""Of what is filled in."""


def _filled_in(kind: str) -> dict[str, str]:
    """What a provider itself fills in of a resource that others refer to."""
    return {name: f'"{each}"' for name, each in schemas()["computed"].get(kind, {}).items()}


def _block(fields: dict[str, Any], *, computed: dict[str, str] | None) -> Any:
    """A block of a schema. computed: further attributes that the provider fills in, beside ``id``; None for neither."""
    types = {
        "string": '"string"',
        "bool": '"bool"',
        "number": '"number"',
        "list": '["list","string"]',
        "map": '["map","string"]',
    }
    block = M["Block"]()
    for name, kind in fields.items():
        if isinstance(kind, str):
            required = kind.endswith("!")
            block.attributes.add(
                name=name, type=types[kind.rstrip("!")].encode(), required=required, optional=not required
            )
        else:
            nested = block.block_types.add(type_name=name, nesting=2, min_items=kind["min"], max_items=kind["max"])
            nested.block.CopyFrom(_block(kind["fields"], computed=None))
    if computed is not None:
        block.attributes.add(name="id", type=b'"string"', optional=True, computed=True)
        for name, kind in computed.items():
            block.attributes.add(name=name, type=kind.encode(), computed=True)
    return block


def _load(value: Any) -> Any:
    return msgspec.msgpack.decode(value.msgpack, ext_hook=msgspec.msgpack.Ext)


def _dump(value: Any) -> dict[str, bytes]:
    return {"msgpack": msgspec.msgpack.encode(value)}


def environment(*providers: Provider) -> dict[str, str]:
    """What leads Terraform to them, and to nothing else."""
    return {
        **os.environ,
        "TF_REATTACH_PROVIDERS": json.dumps({each.source: each.reattach() for each in providers}),
        "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
    }


__all__ = ["Provider", "environment"]
