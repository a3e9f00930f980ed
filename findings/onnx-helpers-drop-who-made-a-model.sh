#!/usr/bin/env bash
# Guess:   what was written into a model's `metadata_props` (licence, commit, data set) stays through the helpers of the package onnx that
#          make one model out of another; those of nodes and graph, which came with IR version 10, stay where the model's do.
# Happens: each helper keeps others. `extract_model` keeps none of the model's or the graph's, nor domain, version, doc_string and producer (it
#          names itself), but those of nodes. `merge_models` keeps the model's and the nodes', not the graph's, and drops version and domain; two
#          values for one name are refused. `convert_version` keeps the model's alone: those of nodes and graph are gone, also where
#          the version to convert to is the one that the model has. Nothing is said by any, and the checker is content.
# Version: onnx 1.23.2, numpy 2.4.6 (PyPI). Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'onnx==1.23.2' 'numpy==2.4.6'
venv/bin/python - <<'PY'
import numpy
import onnx
import onnx.compose
import onnx.utils
import onnx.version_converter
from onnx import TensorProto, helper, numpy_helper


def model(prefix, inward, outward, **said):
    weights = numpy_helper.from_array(numpy.ones((2, 2), numpy.float32), f"{prefix}w")
    node = helper.make_node("MatMul", [inward, f"{prefix}w"], [outward], name=f"{prefix}node")
    node.metadata_props.add(key="layer", value="1")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in (inward, outward)]
    graph = helper.make_graph([node], f"{prefix}graph", ends[:1], ends[1:], [weights])
    graph.metadata_props.add(key="part", value="head")
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], producer_name="trainer", domain="org.example", model_version=7
    )
    helper.set_model_props(made, said)
    onnx.checker.check_model(made)
    return made


def kept(made):
    onnx.checker.check_model(made)
    return {
        "model": {one.key: one.value for one in made.metadata_props},
        "graph": len(made.graph.metadata_props),
        "nodes": {len(node.metadata_props) for node in made.graph.node},
        "version": made.model_version,
        "domain": made.domain,
        "producer": made.producer_name,
    }


whole = {"license": "MIT", "commit": "4f2a"}
first, second = model("a_", "x", "y", **whole), model("b_", "y2", "z", **whole)
onnx.save(first, "first.onnx")
onnx.utils.extract_model("first.onnx", "part.onnx", ["x"], ["y"])
seen = {
    "before": kept(first),
    "extract_model": kept(onnx.load("part.onnx")),
    "merge_models": kept(onnx.compose.merge_models(first, second, io_map=[("y", "y2")])),
    "convert_version": kept(onnx.version_converter.convert_version(first, 20)),
}
print("onnx", onnx.__version__)
for name, what in seen.items():
    print(f"{name}: {what}")
try:
    onnx.compose.merge_models(first, model("b_", "y2", "z", license="Apache-2.0"), io_map=[("y", "y2")])
    refused = ""
except ValueError as error:
    refused = str(error)
print("merge of two licences:", refused)
assert "license" in refused
names = {"version": 7, "domain": "org.example", "producer": "trainer"}
assert seen["before"] == {"model": whole, "graph": 1, "nodes": {1}, **names}
assert seen["convert_version"] == {"model": whole, "graph": 0, "nodes": {0}, **names}
gone = {"graph": 0, "nodes": {1}, "domain": ""}
assert seen["extract_model"] == {**gone, "model": {}, "version": 0, "producer": "onnx.utils.extract_model"}
assert seen["merge_models"] == {**gone, "model": whole, "version": 1, "producer": "onnx.compose.merge_models"}
PY
