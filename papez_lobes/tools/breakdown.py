"""Where the time of a separation goes, by kind of operation."""

from torch.profiler import ProfilerActivity, profile

# kind: beginnings of the names of torch's operations; the first that fits
KINDS = {
    "matrix products": ("aten::addmm", "aten::mm", "mkldnn", "quantized::linear"),
    "attention, fused, or its softmax": ("aten::_scaled_dot_product", "aten::_softmax"),
    "batched products": ("aten::bmm", "aten::baddbmm"),
    "convolutions": (
        "aten::mkldnn_convolution", "aten::_slow_conv", "aten::convolution", "aten::im2col",
        "aten::col2im", "aten::thnn_conv",
    ),
    "recurrent layers": ("aten::mkldnn_rnn", "aten::lstm", "aten::_cudnn_rnn"),
    "norms and reductions": (
        "aten::native_layer_norm", "aten::native_group_norm", "aten::native_batch_norm",
        "aten::mean", "aten::sum", "aten::linalg_vector_norm", "aten::var",
    ),
    "gathers and scatters": ("aten::index", "aten::gather", "aten::scatter", "aten::nonzero"),
    "copies and casts": ("aten::copy_", "aten::cat", "aten::clone", "aten::fill_", "aten::zero_"),
    "element by element": (
        "aten::add", "aten::mul", "aten::sub", "aten::div", "aten::relu", "aten::clamp_min",
        "aten::leaky_relu", "aten::_prelu", "aten::tanh", "aten::sigmoid", "aten::addcmul",
        "aten::rsqrt", "aten::square", "aten::pow", "aten::where", "aten::masked_fill",
    ),
}
REST = "the rest"
_RUNS = 5


def breakdown(function):
    """Milliseconds of a call, by kind of operation, as torch's profiler sees them.

    Arguments
    ---------
    function : callable
        Takes no arguments; called once, and then five times to be averaged.

    Returns
    -------
    dict
        Kind to ms on the CPU, all operations in one of them; the profiler's own cost included.

    Example
    -------
    >>> import torch
    >>> x = torch.randn(64, 64)
    >>> parts = breakdown(lambda: x @ x)
    >>> parts["matrix products"] > 0 and parts["batched products"] == 0
    True
    """
    function()
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        for _ in range(_RUNS):
            function()
    parts = dict.fromkeys([*KINDS, REST], 0.0)
    for event in profiler.key_averages():
        parts[_kind(event.key)] += event.self_cpu_time_total / 1000 / _RUNS
    return parts


def breakdown_table(columns):
    """Markdown: a row for each kind, a column for each breakdown; ms and share.

    Arguments
    ---------
    columns : dict
        Title to what `breakdown` gave.

    Returns
    -------
    str
    """
    lines = ["| ms a separation | " + " | ".join(columns) + " |"]
    lines.append("| --- |" + " --: |" * len(columns))
    totals = {title: sum(parts.values()) for title, parts in columns.items()}
    for kind in [*KINDS, REST]:
        cells = [f"{parts[kind]:.1f} ({100 * parts[kind] / totals[title]:.0f} %)"
                 for title, parts in columns.items()]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    lines.append("| together | " + " | ".join(f"{totals[title]:.1f}" for title in columns) + " |")
    return "\n".join(lines) + "\n"


def _kind(name):
    for kind, beginnings in KINDS.items():
        if name.startswith(beginnings):
            return kind
    return REST
