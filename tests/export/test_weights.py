"""Smaller weights in an ONNX file."""

import numpy as np
import pytest

from papez_lobes.export.weights import convert_weights, quantise_matrix

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
SIZE = 64


def products():
    """A model of a MatMul, and of a Gemm in a branch, with the matrices from outside."""
    rng, make = np.random.default_rng(0), onnx.helper
    first, second, bias = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in ((SIZE, 2 * SIZE), (SIZE, 2 * SIZE), (SIZE,))
    )
    kind = onnx.TensorProto.FLOAT
    inner = make.make_graph(
        [make.make_node("Gemm", ["h", "second", "bias"], ["inner"], transB=1)], "inner", [],
        [make.make_tensor_value_info("inner", kind, [None, SIZE])])
    nodes = [
        make.make_node("MatMul", ["x", "first"], ["h"]),
        make.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner),
    ]
    constants = {"first": first, "second": second, "bias": bias, "yes": np.array(True)}
    graph = make.make_graph(
        nodes, "products", [make.make_tensor_value_info("x", kind, [None, SIZE])],
        [make.make_tensor_value_info("y", kind, [None, SIZE])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()])
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 20)], ir_version=9)


def run(model, x):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("weights, size, error", (("float16", 0.55, 1e-3), ("int8", 0.35, 0.03)))
def test_weights_shrink_and_products_stay(weights, size, error):
    model, x = products(), np.random.default_rng(1).standard_normal((5, SIZE)).astype(np.float32)
    wanted, before = run(model, x), model.ByteSize()
    convert_weights(model, weights)
    onnx.checker.check_model(model, full_check=True)
    got = run(model, x)
    assert model.ByteSize() < size * before
    assert np.abs(got - wanted).max() < error * np.abs(wanted).max()


def test_quantised_matrices_are_half_a_step_from_the_given():
    matrix = np.random.default_rng(0).standard_normal((20, 7)).astype(np.float32)
    integers, scales = quantise_matrix(matrix)
    assert (np.abs(integers * scales - matrix) <= scales * 0.5001).all()
    assert (np.abs(integers).max(axis=0) == 127).all()
