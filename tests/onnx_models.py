"""A small ONNX file in the form that `papez export` writes, and a Python without torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
GAINS = (0.75, 0.25)  # of the mixture, in the estimates
BLOCKED = ("torch", "torchaudio", "scipy", "speechbrain", "hyperpyyaml", "soxr", "matplotlib")
METADATA = {"papez_format": "1", "name": "tiny", "sample_rate": "8000", "num_spks": "2"}


def write_model(path, recurrent=True, metadata=METADATA):
    """Write a file whose estimates are the mixture and its square, in any scale."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def info(name, kind, shape):
        return helper.make_tensor_value_info(name, kind, shape)

    nodes = [
        helper.make_node("Mul", ["mixture", "mixture"], ["square"]),
        helper.make_node("Unsqueeze", ["mixture", "last"], ["first"]),
        helper.make_node("Unsqueeze", ["square", "last"], ["second"]),
        helper.make_node("Concat", ["first", "second"], ["estimates"], axis=2),
    ]
    inputs = [info("mixture", TensorProto.FLOAT, [1, "samples"])]
    outputs = [info("estimates", TensorProto.FLOAT, [1, "samples", 2])]
    constants = {"last": np.array([2])}
    if recurrent:
        constants |= {"max_depth": np.array(4), "halting_threshold": np.float32(0.9),
                      "halting_bias": np.float32(0)}
        nodes.append(helper.make_node("Reshape", ["max_depth", "shape"], ["depth"]))
        constants["shape"] = np.array([1, 1])
        inputs += [info("max_depth", TensorProto.INT64, []),
                   info("halting_threshold", TensorProto.FLOAT, []),
                   info("halting_bias", TensorProto.FLOAT, [])]
        outputs.append(info("depth", TensorProto.INT64, [1, 1]))
    graph = helper.make_graph(
        nodes, "tiny", inputs, outputs,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path


def run_without_torch(*words, blocked=BLOCKED, **options):
    """Run Python in a process where importing torch and others raises; returns what it did."""
    hook = (
        "import sys, runpy\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {tuple(blocked)}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", hook, *map(str, words)], capture_output=True, text=True,
        timeout=300, cwd=ROOT, **options)
