#!/usr/bin/env python3
"""Profile separations: the time of each PyTorch operator, and the distance to a matrix product.

    python benchmarks/operators.py papez --seconds 4 --threads 1 --dtype float32 int8
"""

import argparse
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer

from papez_lobes.errors import one_line_errors
from papez_lobes.fast.linear import Int8Linear
from papez_lobes.fast.precision import DTYPES
from papez_lobes.profiling.cost import count_macs
from papez_lobes.profiling.machine import describe_machine
from papez_lobes.profiling.mixtures import make_mixture
from papez_lobes.profiling.models import build_model, model_specs

RUNS = 5
SIDES = (256, 512, 1024, 2048)  # of the square matrices
LONG_SECONDS = 0.05  # of a product: the next size would take eight times as long


def profile_model(name: str, seconds: float, dtype: str, mean_depth: float, rows: int) -> str:
    """Profile the first row of a model (see `model_specs`) on a CPU; returns the report."""
    spec = model_specs(name, mean_depth)[0]
    model = build_model(spec, "cpu").lowered(dtype, "cpu")
    samples = make_mixture(seconds, model.sample_rate)
    mixture = torch.from_numpy(samples).unsqueeze(0)
    with torch.inference_mode():
        model.set_depth(mixture)
        macs = count_macs(lambda: model(mixture))
        time = Timer("model(mixture)", globals={"model": model, "mixture": mixture},
                     num_threads=torch.get_num_threads()).blocked_autorange().median
        with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
            for _ in range(RUNS):
                model(mixture)
    table = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=rows)
    floor = macs / product_rate(dtype)
    return (
        f"{spec.model}, {seconds:g} s, {dtype}, threads {torch.get_num_threads()}: "
        f"{1000 * time:.1f} ms, {macs / 1e9:.2f} GMAC; a plain matrix product would take "
        f"{1000 * floor:.1f} ms. Operators of {RUNS} runs:\n\n{table}"
    )


def product_rate(dtype: str) -> float:
    """Multiply-accumulates per second of square matrix products on the CPU.

    The best of several sizes: the most that the arithmetic of a separation could reach.
    """
    rates = []
    for side in SIDES:
        left, right = torch.randn(side, side), torch.randn(side, side)
        if dtype == "int8":
            layer = torch.nn.Linear(side, side, bias=False)
            product = partial(Int8Linear(layer), left)
        else:
            kind = getattr(torch, dtype)
            product = partial(torch.mm, left.to(kind), right.to(kind))
        timer = Timer("product()", globals={"product": product},
                      num_threads=torch.get_num_threads())
        best = min(timer.blocked_autorange().times)
        rates.append(side**3 / best)
        if best > LONG_SECONDS:
            break
    return max(rates)


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", help="as those of `papez bench`")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=["float32"])
    parser.add_argument("--mean-depth", type=float, default=4.5)
    parser.add_argument("--rows", type=int, default=20, help="operators to show (default 20)")
    arguments = parser.parse_args(argv)
    with one_line_errors("operators.py"):
        torch.set_num_threads(arguments.threads)
        print(f"{describe_machine('cpu')}.\n")
        for dtype in arguments.dtype:
            for name in arguments.names:
                print(profile_model(name, arguments.seconds, dtype, arguments.mean_depth,
                                    arguments.rows))


if __name__ == "__main__":
    main()
