"""Gradients of one step over a fixed global batch, by one process or by those of torchrun."""

import os
import sys

import speechbrain as sb
import torch
from speechbrain.dataio.batch import PaddedBatch

from papez_lobes.config.separator_files import build_modules, separator_file
from papez_lobes.separator import Separator
from papez_lobes.training.brain import Separation
from tests.tiny import tiny_hparams
from tests.trainings import brain_hparams

OPTIONS = {"papez": {"halting_bias": -1.0}, "resepformer": {}}


def items():
    """Four mixtures. The lengths of the first two are equal, those of the last two are not."""
    torch.manual_seed(1)
    batch = []
    for name, samples in (("a", 500), ("b", 500), ("c", 700), ("d", 300)):
        sources = torch.randn(samples, 2)
        batch.append({"id": name, "mix_sig": sources.sum(-1), "sources": sources})
    return batch


def gradients_of(name, own, run_opts=None):
    """The step's gradients, over the separator as SpeechBrain wraps it."""
    torch.manual_seed(0)
    path = separator_file(name)
    modules = {"separator": Separator(**build_modules(path, tiny_hparams(path, **OPTIONS[name])))}
    options = {"device": "cpu", "noprogressbar": True} | (run_opts or {})
    brain = Separation(modules, None, brain_hparams(modules), options)
    brain._wrap_distributed()
    brain.modules.eval()  # no dropout
    brain.on_stage_start(sb.Stage.TEST)
    batch = PaddedBatch(own)
    predictions = brain.compute_forward(batch, sb.Stage.TRAIN)
    brain.compute_objectives(predictions, batch, sb.Stage.TRAIN).backward()
    return {
        key.replace(".module.", "."): parameter.grad
        for key, parameter in brain.modules.named_parameters()
    }


def main(folder):
    """Write the gradients of this one of two processes, whose share is two items, to a file."""
    torch.set_num_threads(1)
    run_opts = {"distributed_backend": "gloo"}
    sb.utils.distributed.ddp_init_group(run_opts)
    rank = int(os.environ["RANK"])
    gradients = {name: gradients_of(name, items()[2 * rank : 2 * rank + 2], run_opts)
                 for name in OPTIONS}
    torch.save(gradients, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
