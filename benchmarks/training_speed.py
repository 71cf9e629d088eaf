#!/usr/bin/env python3
"""Measure a training loop: its forward and backward pass alone, and several processes.

    cd recipes/WSJ0Mix/separation
    OMP_NUM_THREADS=1 python ../../../benchmarks/training_speed.py hparams/papez_small.yaml \
        --speech_folder SPEECH --batch_size 16 --segment_seconds 3 --precision bf16

The loop is the one of train.py with everything in it: mixing on the fly, collation, forward pass,
loss, backward pass, clipping, optimizer and weight average. After each of its steps, the bare
forward and backward pass (separation, mean square of the estimates) of the same batch is timed
too, so that both meet the same conditions. Printed are medians, in seconds of audio per second of
the clock and of computing.

With `--processes 2` as the first argument, the same training is timed with one process and with
two, as torchrun starts them: each has batches of `batch_size`. Two trainings that run side by side
say what the machine gives: what they lack to twice the speed of one is not the fault of training
together. In the last row two processes share the batches of one. On a busy machine only the second
pair of columns says something: the speed if each process had a core and none waited for another.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import speechbrain as sb
import torch

from papez_lobes.config.experiments import load_experiment
from papez_lobes.tables import markdown_table
from papez_lobes.training.brain import Separation

WARM_UP, STEPS = 3, 20
ROUNDS = 3  # of `--processes`, interleaved; the best of each is reported
AS_JSON = "PAPEZ_TRAINING_SPEED"  # environment: print the loop's speed alone, as JSON


class Timed(Separation):
    """The project's Brain, which times its steps and the bare passes in between."""

    def __init__(self, *arguments, with_bare=True, **options):
        super().__init__(*arguments, **options)
        self.times = {"loop": [], "bare": []} if with_bare else {"loop": []}
        self.last = None

    def fit_batch(self, batch):
        """Time everything since the last bare pass, then a bare pass."""
        loss = super().fit_batch(batch)
        if self.last is not None:
            self.times["loop"].append([now - then for now, then in zip(_clocks(), self.last)])
        if "bare" in self.times:
            before = _clocks()
            with self.training_ctx:
                estimates, _ = self.compute_forward(batch, sb.Stage.TRAIN)
            estimates.float().square().mean().backward()
            self.times["bare"].append([now - then for now, then in zip(_clocks(), before)])
            self.zero_grad(set_to_none=True)
        self.last = _clocks()
        return loss


def _clocks():
    return time.perf_counter(), time.process_time()


def train(argv: list[str], with_bare: bool = True) -> tuple[Timed, dict]:
    """Train some steps, in this process or in those of torchrun.

    Arguments
    ---------
    argv : list of str
        Arguments of train.py.
    with_bare : bool
        Also run the bare passes.

    Returns
    -------
    brain : Timed
        With the times.
    rates : dict
        "loop", "bare": audio-s/s by the clock and by computing, of all processes.
    """
    processes = int(os.environ.get("WORLD_SIZE", 1))
    with tempfile.TemporaryDirectory() as folder:
        argv = [*argv, "--data_folder", folder, "--output_folder", folder, "--num_workers", "0"]
        experiment = load_experiment(argv)
        hparams = experiment.hparams
        sb.utils.distributed.ddp_init_group(experiment.run_opts)
        data = hparams["train_set"](None)
        data.count = hparams["batch_size"] * processes * (WARM_UP + STEPS)
        brain = Timed(hparams["modules"], hparams["optimizer"], hparams, experiment.run_opts,
                      with_bare=with_bare)
        brain.fit(range(1, 2), data, progressbar=False,
                  train_loader_kwargs=hparams["train_dataloader_opts"])
        audio = hparams["batch_size"] * processes * hparams["segment_seconds"]
    rates = {}
    for name, times in brain.times.items():
        medians = torch.tensor(times[WARM_UP:], dtype=torch.float64).median(dim=0).values
        rates[name] = (audio / medians).tolist()
    return brain, rates


def compare_processes(argv: list[str], processes: int) -> str:
    """Time a training with one process and with several; returns a Markdown table."""
    together = [sys.executable, "-m", "torch.distributed.run", "--standalone",
                f"--nproc_per_node={processes}", __file__]
    alone = [sys.executable, __file__, *argv]
    launches = {
        "one process": [alone],
        f"{processes} trainings side by side": [alone] * processes,
        f"{processes} processes of one training": [[*together, *argv]],
        f"{processes} processes, 1/{processes} of the batch each": [
            [*together, *argv, "--batch_size", str(_share_of_batch(argv, processes))]],
    }
    best = {name: [0.0, 0.0] for name in launches}
    for _ in range(ROUNDS):
        for name, commands in launches.items():
            best[name] = [max(pair) for pair in zip(best[name], _run(commands))]
    one = best["one process"]
    rows = []
    for name, rates in best.items():
        row = [name]
        for rate, rate_of_one in zip(rates, one):
            row += [f"{rate:.0f}", f"{rate / rate_of_one:.2f}"]
        rows.append(row)
    columns = ["", "audio-s/s, clock", "of one", "audio-s/s, computing", "of one"]
    return markdown_table(columns, rows)


def _share_of_batch(argv, processes):
    """The mixtures that each of several processes has of a batch."""
    folders = ["--data_folder", ".", "--output_folder", "."]
    size = load_experiment([*argv, *folders]).hparams["batch_size"]
    if size % processes:
        sys.exit(f"training_speed.py: batch_size {size}: must be a multiple of {processes}")
    return size // processes


def _run(commands):
    """Run commands at the same time; returns the sums of their speeds, by clock and computing."""
    environment = os.environ | {AS_JSON: "1", "OMP_NUM_THREADS": "1"}
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
               for command in commands]
    printed = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        sys.exit("training_speed.py: a training has failed, see above")
    rates = [json.loads(text.splitlines()[-1])["loop"] for text in printed]
    return [sum(column) for column in zip(*rates)]


def main() -> None:
    """Run the measurement; arguments are those of train.py."""
    argv = sys.argv[1:]
    if argv[:1] == ["--processes"]:
        print(compare_processes(argv[2:], int(argv[1])), end="")
        return
    if AS_JSON in os.environ:
        _, rates = train(argv, with_bare=False)
        if os.environ.get("RANK", "0") == "0":
            print(json.dumps(rates))
        return
    brain, rates = train(argv)
    hparams = brain.hparams
    print(f"{Path(argv[0]).name}, {hparams.batch_size} x {hparams.segment_seconds:g} s, "
          f"{brain.precision}, {torch.get_num_threads()} thread(s)\n")
    print("| | audio-s/s, clock | audio-s/s, computing |\n| --- | --: | --: |")
    for name, (clock, computing) in rates.items():
        print(f"| {name} | {clock:.0f} | {computing:.0f} |")
    share = [f"{loop / bare:.0%}" for loop, bare in zip(rates["loop"], rates["bare"])]
    print(f"| loop by bare | {share[0]} | {share[1]} |")


if __name__ == "__main__":
    main()
