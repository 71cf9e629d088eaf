"""Trainings of the recipe from its command line at tiny size, and what they write."""

import csv
import re
import subprocess
import sys

from tests.tiny import COARSE, ROOT, TINY

RECIPE = ROOT / "recipes/WSJ0Mix/separation"
SIZES = {key: (TINY | COARSE)[key] for key in (
    "N_encoder_out", "num_heads", "ffn_dim", "dropout", *COARSE)}
TRAINING = {"batch_size": 4, "lr": 0.003, "num_workers": 0, "device": "cpu", "save_audio": 2}
TINY_TRAINING = SIZES | TRAINING


def as_words(options):
    """`--name value` of every option that is not None."""
    return [word for name, value in options.items() if value is not None
            for word in (f"--{name}", str(value))]


def training_command(data, out, *argv, file="papez.yaml", **options):
    """The command of a tiny training, to be run in `RECIPE`."""
    folders = {"data_folder": data, "output_folder": out}
    words = as_words({**folders, **TINY_TRAINING, **options})
    return [sys.executable, "train.py", f"hparams/{file}", *words, *argv]


def train(data, out, *argv, check=True, **options):
    """Run train.py as a user does, without options that are None; returns the process."""
    done = subprocess.run(
        training_command(data, out, *argv, **options),
        cwd=RECIPE, capture_output=True, text=True, timeout=300,
    )
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


def log_of(out):
    """Numbers of train_log.txt: a list of {name: value}, a line each."""
    pairs = re.compile(r"([a-z][\w -]*?): (-?[\d.]+(?:e[-+]\d+)?)")
    lines = (out / "train_log.txt").read_text().splitlines()
    return [{key.strip(" -"): float(value) for key, value in pairs.findall(line)} for line in lines]


def results_of(out):
    """Rows of test_results.csv: those of the mixtures, and their average."""
    with open(out / "test_results.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return rows[:-1], rows[-1]
