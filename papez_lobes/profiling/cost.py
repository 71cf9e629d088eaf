"""Cost of a model: parameters, the multiply-accumulates that a call executes, and peak memory."""

import math
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from papez_lobes.errors import UserError
from papez_lobes.fast.malloc import give_back_freed_memory
from papez_lobes.profiling.mixtures import make_mixture
from papez_lobes.profiling.models import ModelSpec, build_model

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # written to clear_refs, it resets the peak resident size
_WARM_UP_SECONDS = 0.25  # of audio: libraries and thread pools allocate once


def count_parameters(modules: Mapping[str, torch.nn.Module]) -> int:
    """Count the parameters of some modules; one that modules share counts once.

    Example
    -------
    >>> linear = torch.nn.Linear(3, 4)
    >>> count_parameters({"encoder": linear, "decoder": linear})
    16
    """
    return sum(parameter.numel() for parameter in torch.nn.ModuleDict(modules).parameters())


def count_macs(function: Callable[[], object]) -> int:
    """Count the multiply-accumulates (MACs) that a call executes, without gradients.

    Those of matrix products, convolutions, attention and recurrent layers are counted. Sums, norms,
    activations and softmax are not.

    Example
    -------
    >>> linear, x = torch.nn.Linear(3, 4), torch.randn(5, 3)
    >>> count_macs(lambda: linear(x))
    60
    """
    formulas = {}
    for name, formula in _FORMULAS.items():
        namespace, operator = name.split("::")
        operator = getattr(getattr(torch.ops, namespace), operator, None)
        if operator is not None:  # this version of PyTorch has it
            formulas[operator] = formula
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    # Not in inference mode: there, composite operations (an LSTM) reach the counter whole.
    with torch.inference_mode(False), torch.no_grad(), _without_fast_path(), counter:
        function()
    return counter.get_total_flops() // 2


@contextmanager
def _without_fast_path() -> Iterator[None]:
    """Run PyTorch's transformer layers as products and attention, which can be counted."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _attention_flops(query, key, value, *_, **__):
    return sdpa_flop_count(query, key, value)


def _prepacked_linear_flops(rows, weight, *_, **__):
    return 2 * math.prod(rows[:-1]) * math.prod(weight)


def _int8_linear_flops(rows, packed, *_, **__):
    weight, _ = torch.ops.quantized.linear_unpack(packed)
    return 2 * math.prod(rows[:-1]) * weight.numel()


def _lstm_layer_flops(rows, weight_ih, weight_hh, *_, **__):
    """One direction of one layer: each weight is used once for each row [.., features]."""
    return 2 * math.prod(rows[:-1]) * (math.prod(weight_ih) + math.prod(weight_hh))


def _lstm_flops(rows, weights, *_, **__):
    """All layers and directions; biases are vectors."""
    matrices = sum(math.prod(weight) for weight in weights if len(weight) == 2)
    return 2 * math.prod(rows[:-1]) * matrices


# Operators that PyTorch's counter does not know. Other LSTMs consist of matrix products.
_FORMULAS = {
    "aten::_scaled_dot_product_flash_attention_for_cpu": _attention_flops,
    "aten::mkldnn_rnn_layer": _lstm_layer_flops,
    "aten::_cudnn_rnn": _lstm_flops,
    "mkldnn::_linear_pointwise": _prepacked_linear_flops,
    "quantized::linear_dynamic": _int8_linear_flops,
    "quantized::linear_relu_dynamic": _int8_linear_flops,
}


def peak_bytes(
    function: Callable[[], object], warm_up: Callable[[], object],
    device: str | torch.device = "cpu",
) -> int:
    """Measure the memory that a call needs at its peak, beyond what is in use before it.

    `warm_up` is called first and does not count. On a CPU this is resident memory: call it once in
    a process of its own (`peak_in_child`), as memory that a process has freed may be used again
    without showing.
    """
    device = torch.device(device)
    warm_up()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    give_back_freed_memory()
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:  # not on Linux, or not allowed: the peak of the process's whole life
        pass
    before = _resident_bytes("VmRSS")
    function()
    return max(0, _resident_bytes("VmHWM") - before)


def _resident_bytes(field):
    """Resident memory now (VmRSS) or at its peak (VmHWM)."""
    if _STATUS.is_file():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_in_child(
    spec: ModelSpec, seconds: float, dtype: str = "float32", threads: int = 1,
    bias: float | None = None, recordings: Sequence[str] = (),
) -> int:
    """Measure the peak bytes of one separation on a CPU, in a process of its own.

    The mixture is that of `make_mixture`, and `bias` is the halting bias of a model whose depth is
    set by it. UserError if the process was ended from outside, as where memory ran out.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():  # not on Windows
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])  # its imports are done once for all children
    else:
        context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        work = pool.submit(_measure, spec, seconds, dtype, threads, bias, recordings)
        try:
            return work.result()
        except BrokenProcessPool as error:
            raise UserError(f"{spec.model}: memory could not be measured: the process was ended "
                            "from outside") from error


def _measure(spec, seconds, dtype, threads, bias, recordings):
    """What `peak_in_child` runs in its process."""
    torch.set_num_threads(threads)
    model = build_model(spec, "cpu").lowered(dtype, "cpu")
    if bias is not None:
        model.set_bias(bias)
    mixture, short = (
        torch.from_numpy(make_mixture(length, model.sample_rate, recordings)).unsqueeze(0)
        for length in (seconds, _WARM_UP_SECONDS)
    )
    with torch.inference_mode():
        return peak_bytes(lambda: model(mixture), lambda: model(short))
