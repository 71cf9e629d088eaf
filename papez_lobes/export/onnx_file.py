"""ONNX files of separators, as `papez_lobes.runtime` and other runtimes read them.

The file takes a mixture [1, samples] and gives estimates [1, samples, speakers]. One of a Papez
also gives the depth [1, tokens] of each token, and takes `max_depth`, `halting_threshold` and
`halting_bias`, which default to those of the bundle.
"""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

import papez_lobes
from papez_lobes.errors import UserError
from papez_lobes.export.graph import GraphSeparator
from papez_lobes.export.speechbrain_graphs import OPSET
from papez_lobes.export.weights import SMALLEST, convert_weights
from papez_lobes.files import write_bytes
from papez_lobes.inference.bundle import read_bundle
from papez_lobes.inference.shipped import HYPERPARAMS, bundle_folder, fingerprint
from papez_lobes.runtime.separator import FORMAT

INPUTS = ("mixture", "max_depth", "halting_threshold", "halting_bias")
OUTPUTS = ("estimates", "depth")
IR_VERSION = 9  # the newest that onnxruntime 1.17 reads; the exporter writes 10
LONGEST = 2**31 - 1  # samples of a mixture
EXAMPLE_SAMPLES = 8123  # of the mixture that is traced; any number


def export_bundle(
    bundle: str | Path, path: str | Path, overrides: Mapping | None = None,
    weights: str = "float32", trust: bool = False,
) -> int:
    """Write the ONNX file of a bundle.

    Arguments
    ---------
    bundle : str or pathlib.Path
        The bundle, or the name of one that comes with the package.
    path : str or pathlib.Path
        File to write; it appears whole or not at all.
    overrides : mapping, optional
        Hyperparameters to change that keep the shapes of the weights, such as `max_depth`.
    weights : str
        One of `papez_lobes.export.weights.WEIGHTS`.
    trust : bool
        True: the bundle may run any code.

    Returns
    -------
    int
        The size of the file in bytes.

    Raises
    ------
    UserError
        A package is missing, the bundle cannot be read, or the separator cannot be exported.
    """
    folder = bundle_folder(bundle)
    modules, hparams = read_bundle(folder, overrides, trust)
    model = to_onnx(modules, str(folder))
    convert_weights(model, weights)
    add_metadata(model, {
        "papez_format": FORMAT,
        "papez_version": papez_lobes.__version__,
        "torch_version": torch.__version__,
        "opset": OPSET,
        "name": folder.name,
        "sample_rate": hparams["sample_rate"],
        "num_spks": hparams["num_spks"],
        "weights": weights,
        "licence": _licence(folder),
        "bundle_sha256": fingerprint(folder),
        "separator": (folder / HYPERPARAMS).read_text(encoding="utf-8"),
    })
    content = model.SerializeToString()
    write_bytes(path, content)
    return len(content)


def to_onnx(modules: Mapping[str, torch.nn.Module], name: str = "the separator"):
    """Export a separator.

    Arguments
    ---------
    modules : mapping of str to torch.nn.Module
        `encoder`, `masknet` and `decoder`, in float32.
    name : str
        For the message.

    Returns
    -------
    onnx.ModelProto
        Checked, and without what the exporter notes about each node.

    Raises
    ------
    UserError
        A package is missing, or torch cannot export the separator.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - what torch.onnx.export writes with
    except ImportError as error:
        raise UserError(
            f"{error.name} is not installed; install papez-lobes[torch,export]") from error
    graph = GraphSeparator(modules)
    budget = graph.default_budget()
    inputs, outputs = INPUTS[:1 + len(budget)], OUTPUTS[:1 + graph.recurrent]
    samples = torch.export.Dim("samples", min=1, max=LONGEST)
    try:
        with torch.no_grad(), quiet_exporter():
            program = torch.onnx.export(
                graph, (torch.randn(1, EXAMPLE_SAMPLES), *budget), dynamo=True,
                opset_version=OPSET, input_names=inputs, output_names=outputs, verbose=False,
                dynamic_shapes={"mixture": {1: samples}} | dict.fromkeys(inputs[1:]),
                optimize=False,
            )
            _optimise(program.model)
    except torch.onnx.OnnxExporterError as error:
        # the exporter's own message is a page; its cause is the reason
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise UserError(f"{name}: torch cannot export this separator: {reason}") from error
    model = program.model_proto
    model.ir_version = IR_VERSION
    _strip(model.graph)
    for key, value in zip(inputs[1:], budget):  # a default makes an input optional
        model.graph.initializer.append(onnx.numpy_helper.from_array(value.numpy(), key))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "samples"
    onnx.checker.check_model(model, full_check=True)
    return model


def _optimise(model):
    """Fold small constants, and remove what is unused or there twice.

    `onnxscript.optimizer.optimize` would also take 1e-8, as of Conv-TasNet's norms, for zero, and
    would store large tensors that runtimes compute when they load a file.
    """
    from onnx_ir.passes import common
    from onnxscript.optimizer import fold_constants, inline

    inline(model)
    for _ in range(2):
        fold_constants(model, output_size_limit=SMALLEST)
        common.RemoveUnusedNodesPass()(model)
    for remaining in (
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.LiftSubgraphInitializersToMainGraphPass(), common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(), common.OutputFixPass(), common.NameFixPass(),
    ):
        remaining(model)


def add_metadata(model, metadata: Mapping[str, object]) -> None:
    """Add entries to the metadata of a model, as text, in place."""
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=str(value))


def _licence(folder):
    """The licence that a bundle's card states."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    found = re.search(r"\A---\n(?:.*\n)*?license: *(\S+)", text)
    return found[1] if found else "not stated"


def _strip(graph):
    """Remove the exporter's notes: a stack trace at each node, a fifth of a small file."""
    del graph.metadata_props[:], graph.value_info[:]
    for value in (*graph.input, *graph.output):
        del value.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _strip(attribute.g)


@contextlib.contextmanager
def quiet_exporter():
    """Keep the exporter's progress and warnings from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnx_ir", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
