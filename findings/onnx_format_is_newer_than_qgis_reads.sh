#!/usr/bin/env bash
# torch 2.14.1 writes ONNX of a format that the ONNX Runtime of QGIS' plugin Deepness (1.17.0 at most) does not open, whatever opset is asked for.
# Guess: opset_version=18 gives a file that every runtime with opset 18 opens (ONNX Runtime since 1.14).
# Seen:  torch==2.14.1, onnx==1.23.2, onnxscript==0.7.2, onnxruntime==1.17.0, numpy==1.26.4; Python 3.11, Linux x86-64, 2026-11:
#        opset 18, but IR version 10; "Unsupported model IR version: 10, max supported IR version: 9".
# Matters: who exports for QGIS sees it work with their own runtime. Works: model_proto.ir_version = 8, nothing of 9 or 10 is in use.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2
python3 -m venv plugin
plugin/bin/pip install -q onnxruntime==1.17.0 numpy==1.26.4
env/bin/python - <<'PY'
import torch

layer = torch.nn.Conv2d(3, 2, 3).eval()
program = torch.onnx.export(layer, (torch.zeros(1, 3, 8, 8),), dynamo=True, opset_version=18, verbose=False)
content = program.model_proto
print("opset", content.opset_import[0].version, "IR", content.ir_version)
assert (content.opset_import[0].version, content.ir_version) == (18, 10)
for version in (10, 8):
    content.ir_version = version
    open(f"{version}.onnx", "wb").write(content.SerializeToString())
PY
plugin/bin/python - <<'PY'
import onnxruntime

try:
    onnxruntime.InferenceSession("10.onnx")
    raise SystemExit("it opens")
except Exception as error:
    said = str(error)
print(said)
assert "Unsupported model IR version: 10" in said
print("IR 8 opens:", onnxruntime.InferenceSession("8.onnx").get_outputs()[0].shape)
PY
