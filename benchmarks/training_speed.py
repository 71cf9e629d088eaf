#!/usr/bin/env python3
"""Measure how much of a training loop is its forward and backward pass.

    cd recipes/WSJ0Mix/separation
    OMP_NUM_THREADS=1 python ../../../benchmarks/training_speed.py hparams/papez_small.yaml \
        --speech_folder SPEECH --batch_size 16 --segment_seconds 3 --precision bf16

The loop is the one of train.py with everything in it: mixing on the fly, collation, forward pass,
loss, backward pass, clipping, optimizer and weight average. After each of its steps, the bare
forward and backward pass (separation, mean square of the estimates) of the same batch is timed
too, so that both meet the same conditions. Printed are medians, in seconds of audio per second of
the clock and of computing.
"""

import sys
import tempfile
import time
from pathlib import Path

import speechbrain as sb
import torch

from papez_lobes.config.experiments import load_experiment
from papez_lobes.training.brain import Separation

WARM_UP, STEPS = 3, 20


class Timed(Separation):
    """The project's Brain, which times its steps and the bare passes in between."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.times = {"loop": [], "bare": []}
        self.last = None

    def fit_batch(self, batch):
        """Time everything since the last bare pass, then a bare pass."""
        loss = super().fit_batch(batch)
        if self.last is not None:
            self.times["loop"].append([now - then for now, then in zip(_clocks(), self.last)])
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


def main() -> None:
    """Run the measurement; arguments are those of train.py."""
    with tempfile.TemporaryDirectory() as folder:
        argv = [*sys.argv[1:], "--data_folder", folder, "--output_folder", folder,
                "--num_workers", "0"]
        experiment = load_experiment(argv)
        hparams = experiment.hparams
        data = hparams["train_set"](None)
        data.count = hparams["batch_size"] * (WARM_UP + STEPS)
        brain = Timed(hparams["modules"], hparams["optimizer"], hparams, experiment.run_opts)
        brain.fit(range(1, 2), data, progressbar=False,
                  train_loader_kwargs=hparams["train_dataloader_opts"])
        audio = hparams["batch_size"] * hparams["segment_seconds"]
    print(f"{Path(argv[0]).name}, {hparams['batch_size']} x {hparams['segment_seconds']:g} s, "
          f"{brain.precision}, {torch.get_num_threads()} thread(s)\n")
    print("| | audio-s/s, clock | audio-s/s, computing |\n| --- | --: | --: |")
    rates = {}
    for name, times in brain.times.items():
        medians = torch.tensor(times[WARM_UP:], dtype=torch.float64).median(dim=0).values
        rates[name] = (audio / medians).tolist()
        print(f"| {name} | {rates[name][0]:.0f} | {rates[name][1]:.0f} |")
    share = [f"{loop / bare:.0%}" for loop, bare in zip(rates["loop"], rates["bare"])]
    print(f"| loop by bare | {share[0]} | {share[1]} |")


if __name__ == "__main__":
    main()
