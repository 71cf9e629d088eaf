"""What a separation costs: parameters, multiply-accumulates really executed, peak of memory.

As a program (`python -m papez_lobes.tools.cost`) it is the child in which memory is measured: a
peak can only be told apart from what came before in a process of its own.
"""

import json
import math
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from papez_lobes.errors import UserError
from papez_lobes.fast.malloc import give_back_freed_memory

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # what the kernel takes in clear_refs for "forget the peak resident size"
_WARM_UP_SECONDS = 0.25  # of audio: libraries and thread pools allocate once


def count_parameters(modules):
    """Parameters of a mapping of modules; a shared one counts once.

    Example
    -------
    >>> linear = torch.nn.Linear(3, 4)
    >>> count_parameters({"encoder": linear, "decoder": linear})
    16
    """
    tensors = {id(p): p for module in modules.values() for p in module.parameters()}
    return sum(tensor.numel() for tensor in tensors.values())


def count_macs(function):
    """Multiply-accumulates of the matrix products, convolutions, attentions and recurrent layers
    that a call executes. Sums, norms, activations and softmax are none.

    Arguments
    ---------
    function : callable
        Takes no arguments; called once, without gradients.

    Returns
    -------
    int

    Example
    -------
    >>> linear, x = torch.nn.Linear(3, 4), torch.randn(5, 3)
    >>> count_macs(lambda: linear(x))
    60
    """
    # Not in inference mode: there, composite operations (an LSTM) reach the counter whole.
    with torch.inference_mode(False), torch.no_grad(), _plain_layers(), _counter() as counter:
        function()
    return counter.get_total_flops() // 2


def _counter():
    """torch's counter, with what it does not know: attention and LSTMs as CPUs and cuDNN run
    them. Other LSTMs are made of matrix products, which it sees."""
    aten = torch.ops.aten
    formulas = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
        aten.mkldnn_rnn_layer: _layer_flops,
        aten._cudnn_rnn: _stack_flops,
        torch.ops.quantized.linear_dynamic: _packed_flops,
        torch.ops.quantized.linear_relu_dynamic: _packed_flops,
    }
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        formulas[torch.ops.mkldnn._linear_pointwise] = _prepacked_flops
    return FlopCounterMode(display=False, custom_mapping=formulas)


def _attention_flops(query, key, value, *_, **__):
    return sdpa_flop_count(query, key, value)


def _prepacked_flops(rows, weight, *_, **__):
    """Of a linear map whose weight lies as oneDNN reads it."""
    return 2 * math.prod(rows[:-1]) * math.prod(weight)


def _packed_flops(rows, packed, *_, **__):
    """Of a linear map in 8-bit integers."""
    weight, _ = torch.ops.quantized.linear_unpack(packed)
    return 2 * math.prod(rows[:-1]) * weight.numel()


def _layer_flops(rows, weight_ih, weight_hh, *_, **__):
    """One direction of one layer: each weight is used once for each row [.., features]."""
    return 2 * math.prod(rows[:-1]) * (math.prod(weight_ih) + math.prod(weight_hh))


def _stack_flops(rows, weights, *_, **__):
    """All layers and directions; biases are vectors."""
    matrices = sum(math.prod(weight) for weight in weights if len(weight) == 2)
    return 2 * math.prod(rows[:-1]) * matrices


@contextmanager
def _plain_layers():
    """torch's transformer layers as products and attention, not as one operation: the same
    arithmetic, but visible."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def peak_bytes(function, warm_up, device="cpu"):
    """Bytes that a call needs at its peak, beyond what is there before it.

    On a CPU that is resident memory: call it once in a process of its own (`peak_in_child`),
    since what a process has freed it may use again unseen.

    Arguments
    ---------
    function, warm_up : callable
        Take no arguments; `warm_up` is called first and does not count.
    device : str or torch.device
        What the calls run on.

    Returns
    -------
    int
    """
    device = torch.device(device)
    warm_up()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    _forget_peak()
    before = _resident("VmRSS")
    function()
    return max(0, _resident("VmHWM") - before)


def _forget_peak():
    """Give freed memory back, so that using it again shows, and let the peak begin anew."""
    give_back_freed_memory()
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:  # no Linux, or not allowed: the peak of all the process's life
        pass


def _resident(field):
    """Resident bytes now (VmRSS) or at their peak (VmHWM)."""
    if _STATUS.is_file():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_in_child(entry, seconds, dtype="float32", threads=1, bias=None, speech=()):
    """Peak memory of one separation on a CPU, measured in a process of its own.

    Arguments
    ---------
    entry : papez_lobes.tools.contestants.Entry
        What is run.
    seconds : float
        Of audio.
    dtype : str
        One of `papez_lobes.precision.DTYPES`.
    threads : int
        Of torch.
    bias : float, optional
        Halting bias, for a model whose depth is set by it.
    speech : sequence of str
        Recordings; see `papez_lobes.tools.signals.mixture`.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    UserError
        If the child fails; with its last line.
    """
    order = {
        "entry": entry.as_dict(), "seconds": seconds, "dtype": dtype, "threads": threads,
        "bias": bias, "speech": [str(path) for path in speech],
    }
    command = [sys.executable, "-m", "papez_lobes.tools.cost", json.dumps(order)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise UserError(f"{entry.model}: memory could not be measured: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def _child(order):
    """What `peak_in_child` starts: measures, and prints the bytes as its last line."""
    from papez_lobes.tools.contestants import Entry, build
    from papez_lobes.tools.signals import mixture as make_mixture

    torch.set_num_threads(order["threads"])
    contestant = build(Entry(**order["entry"]), "cpu").lowered(order["dtype"], "cpu")
    if order["bias"] is not None:
        contestant.set_bias(order["bias"])
    rate = contestant.sample_rate
    mixture, short = (
        torch.from_numpy(make_mixture(seconds, rate, order["speech"])).unsqueeze(0)
        for seconds in (order["seconds"], _WARM_UP_SECONDS)
    )
    with torch.inference_mode():
        print(peak_bytes(lambda: contestant(mixture), lambda: contestant(short)))


if __name__ == "__main__":
    _child(json.loads(sys.argv[1]))
