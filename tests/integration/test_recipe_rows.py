"""Every row of tests/recipes/*.csv (SpeechBrain's format): train.py as a user runs it, tiny."""

import csv
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from speechbrain.inference.separation import SepformerSeparation
from speechbrain.lobes.models import resepformer
from speechbrain.lobes.models.transformer.Transformer import PositionalEncoding

from papez_lobes.separator import Separator
from tests.trees import (
    write_small_folders,
    write_small_librimix,
    write_small_tree,
    write_small_whamr,
)

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted((ROOT / "recipes").glob("*/*/hparams/*.yaml"))
TREES = {
    "WSJ0Mix": write_small_tree, "LibriMix": write_small_librimix, "WHAM": write_small_whamr,
    "CustomData": write_small_folders,
}
COLUMNS = [
    "Task", "Dataset", "Script_file", "Hparam_file", "Data_prep_file", "Readme_file",
    "Result_url", "HF_repo", "test_debug_flags", "test_debug_checks",
]


def read_rows():
    for path in sorted((ROOT / "tests/recipes").glob("*.csv")):
        with open(path, newline="", encoding="utf-8") as stream:
            yield from csv.DictReader(stream)


ROWS = list(read_rows())


@pytest.fixture(autouse=True)
def tables_of_positions_are_as_long_as_in_the_processes_that_train(monkeypatch):
    """Other tests shorten them, see `tests/conftest.py`."""
    monkeypatch.setattr(resepformer, "PositionalEncoding", PositionalEncoding)


def test_every_experiment_or_corpus_has_a_row_and_what_a_row_names_exists():
    named = sorted(ROOT / row["Hparam_file"] for row in ROWS)
    assert len(set(named)) == len(named) and set(named) <= set(EXPERIMENTS)
    missing = set(EXPERIMENTS) - set(named)
    assert not [path for path in missing if "WSJ0Mix" in path.parts]
    # The others differ from these in their data alone (test_hparams.py): one each will do.
    corpora = {path.parts[-4] for path in EXPERIMENTS}
    assert {row["Dataset"] for row in ROWS} == corpora == set(TREES)
    for row in ROWS:
        assert list(row) == COLUMNS
        for column in COLUMNS[2:6]:
            assert (ROOT / row[column]).is_file(), row[column]


@pytest.fixture(scope="module")
def tree_of(tmp_path_factory):
    root = tmp_path_factory.mktemp("rows")
    return cache(lambda corpus: TREES[corpus](root / corpus))


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: f"{row['Dataset']}-{Path(row['Hparam_file']).stem}"
)
def test_a_rows_training_learns_and_its_bundle_loads_in_speechbrain(row, tree_of, tmp_path):
    tree, out = tree_of(row["Dataset"]), tmp_path / "out"
    where = [f"--data_folder={tree}", f"--output_folder={out}"]
    done = subprocess.run(
        [sys.executable, row["Script_file"], row["Hparam_file"], *where,
         *row["test_debug_flags"].split()],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    check_files(row["test_debug_checks"], out)
    losses = [float(loss) for loss in
              re.findall(r"train loss: ([-+.\de]+)", (out / "train_log.txt").read_text())]
    assert len(losses) > 1 and losses[-1] < losses[0]
    check_bundle(out / "bundle")


def check_files(checks, out):
    """SpeechBrain's `file_exists=[...]`, the one check that the rows use."""
    names = re.fullmatch(r"file_exists=\[(.+)\]", checks)[1].split(",")
    assert [name for name in names if not (out / name).is_file()] == []


def check_bundle(folder):
    """SpeechBrain loads it, and its arithmetic gives the estimates that ours gives."""
    model = SepformerSeparation.from_hparams(source=str(folder))
    mixture = torch.randn(2, 2003, generator=torch.Generator().manual_seed(0))
    estimates = model.separate_batch(mixture)
    assert estimates.shape == (2, 2003, 2)
    expected = Separator.of(model.mods)(mixture)
    torch.testing.assert_close(estimates, expected, atol=1e-5 * expected.abs().max(), rtol=0)
