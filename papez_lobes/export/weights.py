"""Smaller weights in an ONNX file: float16, or int8 matrix products.

float16 : weights are stored in float16 and computed with in float32.
int8 : the matrices of linear maps are int8, with one scale per output channel. Their inputs are
    quantised as they come, each by its own range (dynamic quantisation), and products are
    computed in integers. Everything else is float32.
"""

import numpy as np

WEIGHTS = ("float32", "float16", "int8")
SMALLEST = 4096  # numbers of a tensor from which it is converted


def convert_weights(model, weights: str) -> None:
    """Convert the weights of a model in place.

    Arguments
    ---------
    model : onnx.ModelProto
        From `papez_lobes.export.onnx_file.to_onnx`.
    weights : str
        One of `WEIGHTS`.
    """
    if weights == "float16":
        _store_as_float16(model.graph)
    elif weights == "int8":
        _quantise(model.graph)


def _store_as_float16(graph):
    """Store large weights in float16, each with a cast to float32 that runtimes fold."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST:
            continue
        name = tensor.name
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.float16"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    _insert_first(graph, casts)


def _quantise(graph):
    """Replace products with a constant matrix by products of integers."""
    from onnx import numpy_helper

    matrices = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer
        if len(tensor.dims) == 2 and np.prod(tensor.dims) >= SMALLEST
    }
    quantised = {}
    for body in _graphs(graph):
        nodes = []
        for node in body.node:
            matrix = matrices.get(node.input[1]) if node.op_type in ("MatMul", "Gemm") else None
            if matrix is None:
                nodes.append(node)
                continue
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            quantised.setdefault(node.input[1], matrix.T if transposed else matrix)
            nodes += _integer_product(node)
        del body.node[:]
        body.node.extend(nodes)
    for tensor in [tensor for tensor in graph.initializer if tensor.name in quantised]:
        graph.initializer.remove(tensor)
    for name, matrix in quantised.items():
        integers, scales = quantise_matrix(matrix)
        graph.initializer.append(numpy_helper.from_array(integers, f"{name}.int8"))
        graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scales"))


def quantise_matrix(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantise a matrix with one scale per column.

    Arguments
    ---------
    matrix : numpy.ndarray
        [in, out], float32.

    Returns
    -------
    integers : numpy.ndarray
        [in, out], int8, from -127 to 127.
    scales : numpy.ndarray
        [out], float32.

    Example
    -------
    >>> integers, scales = quantise_matrix(np.array([[1.0, 0.0], [-0.5, 0.0]], np.float32))
    >>> integers.tolist(), (scales * 127).tolist()
    ([[127, 0], [-64, 0]], [1.0, 127.0])
    """
    largest = np.abs(matrix).max(axis=0)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(matrix / scales).astype(np.int8), scales


def _integer_product(node):
    """The nodes that compute a MatMul or Gemm in integers."""
    from onnx import TensorProto, helper

    source, matrix, *bias = node.input
    [result] = node.output

    def named(what):
        return f"{result}.{what}"

    product = result if not bias else named("product")
    nodes = [
        helper.make_node("DynamicQuantizeLinear", [source],
                         [named("integers"), named("scale"), named("zero")]),
        helper.make_node("MatMulInteger", [named("integers"), f"{matrix}.int8", named("zero")],
                         [named("sums")]),
        helper.make_node("Cast", [named("sums")], [named("cast")], to=TensorProto.FLOAT),
        helper.make_node("Mul", [named("scale"), f"{matrix}.scales"], [named("scales")]),
        helper.make_node("Mul", [named("cast"), named("scales")], [product]),
    ]
    if bias:
        nodes.append(helper.make_node("Add", [product, *bias], [result]))
    return nodes


def _graphs(graph):
    """A graph and all graphs in its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _insert_first(graph, nodes):
    following = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *following])
