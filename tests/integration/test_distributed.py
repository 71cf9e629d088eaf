"""Two processes give, for the same global batch, the gradients of one."""

import datetime
import os

import pytest
import speechbrain as sb
import torch
from speechbrain.dataio.batch import PaddedBatch

from papez_lobes.config.separator_files import build_modules, separator_file
from papez_lobes.separator import Separator
from papez_lobes.training.brain import Separation
from tests.tiny import tiny_hparams
from tests.trainings import brain_hparams

pytestmark = pytest.mark.slow
OPTIONS = {"papez": {"halting_bias": -1.0}, "resepformer": {}}


def items():
    torch.manual_seed(1)
    batch = []
    for name, samples in (("a", 500), ("b", 500), ("c", 700), ("d", 300)):
        sources = torch.randn(samples, 2)
        batch.append({"id": name, "mix_sig": sources.sum(-1), "sources": sources})
    return batch


def gradients_of(name, own):
    """The step's gradients, over the separator as SpeechBrain wraps it."""
    torch.manual_seed(0)
    path = separator_file(name)
    modules = {"separator": Separator(**build_modules(path, tiny_hparams(path, **OPTIONS[name])))}
    hparams = brain_hparams(modules)
    options = {"device": "cpu", "distributed_backend": "gloo", "noprogressbar": True}
    brain = Separation(modules, None, hparams, options)
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


def work(rank, name, folder):
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2,
        timeout=datetime.timedelta(seconds=300),
    )
    gradients = gradients_of(name, items()[2 * rank : 2 * rank + 2])
    torch.save(gradients, f"{folder}/{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", ["papez", "resepformer"])
def test_gradients_are_those_of_one_process(name, tmp_path):
    """One rank's items are of one length and the other's are not, so that modules that run item
    by item are called a different number of times on each."""
    torch.multiprocessing.spawn(work, (name, str(tmp_path)), nprocs=2)
    expected = gradients_of(name, items())
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    scale = max(gradient.abs().max() for gradient in expected.values())
    for key, gradient in expected.items():
        assert torch.equal(ranks[0][key], ranks[1][key]), key
        assert (ranks[0][key] - gradient).abs().max() <= 1e-5 * scale, key
