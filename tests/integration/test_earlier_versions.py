"""What users already have keeps working: bundles and checkpoints that commit a1a0150 wrote.

`tests/fixtures/a1a0150` holds bundles, the estimates that they gave, the checkpoints of trainings
after two epochs, and the log line of the third epoch that these trainings then did.
"""

import shutil
from pathlib import Path

import pytest
import torch
from speechbrain.inference.separation import SepformerSeparation

from papez_lobes.inference.bundle import load_bundle
from tests.recipe_runs import log_of, train
from tests.trees import write_small_tree

pytestmark = pytest.mark.slow
FIXTURES = Path(__file__).parents[1] / "fixtures/a1a0150"
WIDTHS = {
    "papez": {"N_encoder_out": 16},
    "papez_small": {"bottleneck_dim": 16, "N_encoder_out": None},
}


@pytest.mark.parametrize("name", WIDTHS)
def test_a_bundle_gives_the_estimates_that_it_gave(name):
    expected = torch.load(FIXTURES / name / "estimates_of_seed_0.pt")
    mixture = torch.randn(1, 1000, generator=torch.Generator().manual_seed(0))
    folder = FIXTURES / name / "bundle"
    for model in (load_bundle(folder), SepformerSeparation.from_hparams(source=str(folder))):
        torch.testing.assert_close(model.separate_batch(mixture)[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", WIDTHS)
def test_a_training_goes_on_as_it_would_have(name, tmp_path):
    tree, out = write_small_tree(tmp_path / "2speakers", counts=(8, 3, 3)), tmp_path / "out"
    shutil.copytree(FIXTURES / name / "save", out / "save")
    shutil.copy(FIXTURES / name / "train_log.txt", out)
    train(tree, out, file=f"{name}.yaml", N_epochs=3, ema_decay=0.9, **WIDTHS[name])
    lines = (out / "train_log.txt").read_text().splitlines()
    (out / "train_log.txt").write_text((FIXTURES / name / "epoch_3.txt").read_text())
    expected, = log_of(out)
    (out / "train_log.txt").write_text(next(line for line in lines if line.startswith("epoch: 3")))
    third, = log_of(out)
    assert third["lr"] == expected["lr"]
    for key in ("train loss", "valid loss", "train audio_hours", "valid mean_depth"):
        assert third[key] == pytest.approx(expected[key], rel=2e-3), key
