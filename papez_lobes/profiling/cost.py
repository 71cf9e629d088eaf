"""Cost of a model: its parameters, and the multiply-accumulates that a call executes."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


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
