#!/usr/bin/env bash
# Guess:   `onnx.save_model(..., save_as_external_data=True, location="model.data")` writes the weights into that file: saved again (the
#          next export of a job, a retry) the file is written anew, as model.onnx beside it is.
# Happens: it appends. Each save leaves all weights of the ones before in front of its own: the third is three times as large, its offsets
#          point behind two dead copies, and the digests of both files differ though the model is the same. The checker and a load are
#          content, so what grows is the image, the registry and the time of each start. A check against this is there, and looks in
#          the process's working directory instead of the model's: a file of that name there makes a first save elsewhere fail.
# Version: onnx 1.23.2, numpy 2.3.5 (PyPI). Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'onnx==1.23.2' 'numpy==2.3.5'
venv/bin/python - <<'PY'
from importlib.metadata import version
from pathlib import Path

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

print("onnx", version("onnx"))
folder, model = Path("exported"), Path("exported/model.onnx")
folder.mkdir()
ones = numpy_helper.from_array(numpy.ones((100, 100), dtype=numpy.float32), "w")
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [100, 100]) for name in "xy"]


def save(data):
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [ones])
    onnx.save_model(helper.make_model(graph), model, save_as_external_data=True, location=data)
    onnx.checker.check_model(model)
    entries = onnx.load(model, load_external_data=False).graph.initializer[0].external_data
    offset = next((int(each.value) for each in entries if each.key == "offset"), 0)
    return (folder / data).stat().st_size, offset


found = []
for _ in range(3):
    found.append(save("model.data"))
    print("saved: model.data has {} bytes, the weights begin at {}".format(*found[-1]))
Path("other.data").write_bytes(b"of somebody else, in the working directory")
try:
    why = save("other.data")
except FileExistsError as error:
    why = str(error)
print("first save of exported/other.data, with an other.data where the program was started:", why)
assert found == [(40000, 0), (80000, 40000), (120000, 80000)]
assert why == "External data file exists in other.data." and not (folder / "other.data").exists()
PY
