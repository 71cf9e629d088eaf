#!/usr/bin/env python3
"""Compare the speed and memory of two checkouts.

    python benchmarks/before_after.py OLD_CHECKOUT NEW_CHECKOUT --markdown before_after.md

Each checkout runs in a process of its own. The two take turns, and each round gives one ratio of
new to old, so that a slow spell of the machine falls on both. The table has the median times and
the median ratios, of wall time and of CPU time. Weights are random, from one seed, and equal in
both. It needs Linux for the peaks of memory.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

MODELS = ("papez", "papez_small")
SECONDS = (1, 4, 60)
DTYPES = ("float32", "int8")
THREADS = (1, 2)
MEMORY_SECONDS = 60
MEMORY_ROUNDS = 3
SAMPLE_RATE = 8000
OPTIONS = {"halting_bias": -1.5, "dropout": 0.0}
TRAINING = {  # batch, seconds, options
    "papez": (1, 3, {"num_steps": 4, "max_depth": 4}),
    "papez_small": (16, 3, {}),
}
COLUMNS = ("case", "threads", "old", "new", "new / old", "new / old, CPU time", "rounds")


def main():
    """Measure all cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", nargs=2, metavar="CHECKOUT", help="the old, then the new one")
    parser.add_argument("--rounds", type=int, default=9, help="of each case (default %(default)s)")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--seconds", nargs="*", type=float, default=SECONDS, help="of inputs")
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, help="of separations")
    parser.add_argument("--threads", nargs="+", type=int, default=THREADS)
    parser.add_argument("--no-memory", action="store_true", help="do not measure peaks of memory")
    parser.add_argument("--no-training", action="store_true", help="do not measure training steps")
    parser.add_argument("--markdown", help="file for the table, which must not exist")
    arguments = parser.parse_args()
    if arguments.markdown and Path(arguments.markdown).exists():
        raise SystemExit(f"{arguments.markdown}: exists; name another")
    rows = []
    for case in cases(arguments):
        row = compare(arguments.checkouts, case, arguments.rounds)
        print(" | ".join(row), flush=True)
        rows.append(row)
    text = table(rows)
    print(text)
    if arguments.markdown:
        Path(arguments.markdown).write_text(text, encoding="utf-8")


def cases(arguments):
    """All that is to be measured, as what a worker is told."""
    for model in arguments.models:
        for seconds in arguments.seconds:
            for dtype in arguments.dtypes:
                for threads in arguments.threads:
                    yield {"task": "separate", "model": model, "seconds": seconds,
                           "dtype": dtype, "threads": threads}
        if not arguments.no_memory:
            for dtype in arguments.dtypes:
                yield {"task": "memory", "model": model, "seconds": MEMORY_SECONDS,
                       "dtype": dtype, "threads": max(arguments.threads)}
        if not arguments.no_training:
            for dtype in ("float32", "bfloat16"):
                yield {"task": "train", "model": model, "seconds": TRAINING[model][1],
                       "dtype": dtype, "threads": max(arguments.threads)}


def compare(checkouts, case, rounds):
    """Run one case in both checkouts, by turns; returns its row of the table."""
    if case["task"] == "memory":
        return compare_memory(checkouts, case)
    workers = [Worker(checkout, case) for checkout in checkouts]
    try:
        results = []
        for index in range(rounds):
            order = workers if index % 2 == 0 else workers[::-1]
            results.append({worker: worker.run() for worker in order})
    finally:
        for worker in workers:
            worker.close()
    wall, cpu = ([[result[worker][clock] for worker in workers] for result in results]
                 for clock in ("wall", "cpu"))
    old, new = (1000 * median(column) for column in zip(*wall))
    ratios = [median(after / before for before, after in clock) for clock in (wall, cpu)]
    return [name_of(case), str(case["threads"]), f"{old:.1f} ms", f"{new:.1f} ms",
            f"{ratios[0]:.3f}", f"{ratios[1]:.3f}", str(rounds)]


def compare_memory(checkouts, case):
    """Like `compare`, with a new process for each peak."""
    peaks = [[], []]
    for _ in range(MEMORY_ROUNDS):
        for checkout, found in zip(checkouts, peaks):
            worker = Worker(checkout, case)
            found.append(worker.run()["megabytes"])
            worker.close()
    old, new = map(median, peaks)
    return [name_of(case), str(case["threads"]), f"{old:.0f} MB", f"{new:.0f} MB",
            f"{new / old:.3f}", "", str(MEMORY_ROUNDS)]


def name_of(case):
    """The case in words."""
    if case["task"] == "train":
        batch = TRAINING[case["model"]][0]
        return f"{case['model']}, training step, {batch} x {case['seconds']} s, {case['dtype']}"
    what = "peak memory, " if case["task"] == "memory" else ""
    return f"{case['model']}, {what}{case['seconds']:g} s, {case['dtype']}"


def table(rows):
    """A Markdown table."""
    lines = [COLUMNS, ["---"] + ["--:"] * (len(COLUMNS) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


class Worker:
    """A process that runs one case in one checkout, each time that it is told to."""

    def __init__(self, checkout, case):
        threads = str(case["threads"])
        environment = os.environ | {"PYTHONPATH": str(Path(checkout).resolve()),
                                    "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", json.dumps(case)], cwd=checkout,
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        self._answer()

    def run(self):
        """Run the case once; returns what was measured."""
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a worker failed; see its message above")
        return json.loads(line)


def work(case):
    """What a worker does: prepare the case, then run it whenever a line comes in."""
    import torch

    torch.set_num_threads(case["threads"])
    run = {"separate": prepare_separation, "memory": prepare_memory,
           "train": prepare_training}[case["task"]](case)
    print(json.dumps("ready"), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        measured = run() or {}
        measured |= {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(measured), flush=True)


def prepare_separation(case):
    """A function that separates once; it has run twice."""
    import torch

    modules, forward = build(case["model"], OPTIONS)
    lower_precision = api()["lower_precision"]
    modules.eval()
    lower_precision(modules, case["dtype"])
    mixture = make_mixture(1, case["seconds"])

    def run():
        with torch.inference_mode():
            forward(modules, mixture)

    run()
    if case["seconds"] < MEMORY_SECONDS:
        run()
    return run


def prepare_memory(case):
    """A function that separates once and measures the peak."""
    separate = prepare_separation(case | {"seconds": 0.25})
    del separate
    import torch

    modules, forward = build(case["model"], OPTIONS)
    modules.eval()
    api()["lower_precision"](modules, case["dtype"])
    mixture = make_mixture(1, case["seconds"])

    def run():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak
        before = resident("VmRSS")
        with torch.inference_mode():
            forward(modules, mixture)
        return {"megabytes": (resident("VmHWM") - before) / 1e6}

    return run


def prepare_training(case):
    """A function that does one step without the optimizer; it has run twice."""
    import torch

    batch, seconds, options = TRAINING[case["model"]]
    modules, forward = build(case["model"], OPTIONS | options)
    modules.train()
    api()["keep_freed_memory"]()  # as in training on a CPU
    mixture = make_mixture(batch, seconds)

    def run():
        with torch.autocast("cpu", torch.bfloat16, enabled=case["dtype"] == "bfloat16"):
            estimates = forward(modules, mixture)
        estimates.float().square().mean().backward()
        modules.zero_grad()

    run()
    run()
    return run


def build(name, options):
    """A separator's parts with seeded weights, and a function of parts and mixture."""
    import torch

    torch.manual_seed(0)
    found = api()
    modules = torch.nn.ModuleDict(found["build_modules"](found["separator_file"](name), options))
    return modules, found["forward"]


def api():
    """What is used of a checkout, whose names may be those of commit a1a0150."""
    try:
        from papez_lobes.config.separator_files import build_modules, separator_file
        from papez_lobes.fast.malloc import keep_freed_memory
        from papez_lobes.fast.precision import lower_precision
        from papez_lobes.separator import Separator

        def forward(modules, mixture):
            return Separator.of(modules)(mixture)
    except ImportError:
        from papez_lobes.allocation import keep_freed_memory
        from papez_lobes.knobs import build_modules, separator_file
        from papez_lobes.precision import lower_precision

        from papez_lobes.separator import separate as forward
    return {"build_modules": build_modules, "separator_file": separator_file, "forward": forward,
            "lower_precision": lower_precision, "keep_freed_memory": keep_freed_memory}


def make_mixture(batch, seconds):
    """Noise [B, T] whose level changes, so that tokens differ."""
    import torch

    generator = torch.Generator().manual_seed(1)
    samples = int(seconds * SAMPLE_RATE)
    level = torch.rand(batch, samples // 800 + 2, generator=generator).square()
    level = torch.nn.functional.interpolate(level.unsqueeze(1), samples, mode="linear").squeeze(1)
    return 0.3 * level * torch.randn(batch, samples, generator=generator)


def resident(field):
    """Resident bytes of this process now (VmRSS) or at their peak (VmHWM)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(json.loads(sys.argv[2]))
    else:
        main()
