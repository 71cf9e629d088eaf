"""Tiny separators and bundles, built from the project's own YAML files."""

import copy
import tempfile
from functools import cache
from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml

from papez_lobes.config.separator_files import (
    build_modules,
    read_hyperparameters,
    set_hyperparameters,
)
from papez_lobes.inference.bundle import write_bundle

ROOT = Path(__file__).parents[1]
# Every separator file of the project
SEPARATORS = sorted({*(ROOT / "hparams").glob("*.yaml")} - {ROOT / "hparams/ablations.yaml"})
TINY = {  # for any separator: those that it has
    "N_encoder_out": 16, "bottleneck_dim": 16, "kernel_size": 8, "kernel_stride": 4,
    "num_heads": 2, "ffn_dim": 32, "chunk_tokens": 6, "num_slots": 3, "num_steps": 4,
    "dropout": 0.0, "hidden_dim": 16, "rnn_dim": 8, "num_blocks": 2, "num_repeats": 2,
    "intra_layers": 1, "inter_layers": 1, "segment_layers": 1, "memory_layers": 1,
    "segment_tokens": 6,
}


# Few tokens: 500 a second. For tests of whole files and of trainings.
COARSE = {"kernel_size": 32, "kernel_stride": 16, "chunk_tokens": 20, "num_steps": 3,
          "num_slots": 2}


def separator_path(name):
    """The project's file of a separator."""
    return ROOT / "hparams" / f"{name}.yaml"


@cache
def hyperparameters_of(path):
    """Those of a file of the project, which no test changes."""
    return read_hyperparameters(path)


def tiny_hparams(path, **overrides):
    """The sizes of `TINY` that a separator file has, and overrides."""
    known = hyperparameters_of(path)
    return {key: value for key, value in TINY.items() if key in known} | overrides


def build(name="papez", seed=0, **overrides):
    """(separator, hparams) of hparams/<name>.yaml at tiny size, in float64 and eval mode.

    Norms get random affine values, so that a forgotten one shows. Each is built once and copied;
    the random state is then as after building.
    """
    *built, state = _build_once(name, seed, tuple(sorted(overrides.items())))
    torch.set_rng_state(state)
    return copy.deepcopy(tuple(built))


@cache
def _build_once(name, seed, overrides):
    torch.manual_seed(seed)
    path = separator_path(name)
    with open(path, encoding="utf-8") as stream:
        hparams = load_hyperpyyaml(stream, tiny_hparams(path, **dict(overrides)))
    separator = hparams["Separator"]
    randomise_norms(separator)
    return separator.double().eval(), hparams, torch.get_rng_state()


def tiny_separator_file(folder, name="papez", **overrides):
    """Write a separator file of tiny sizes into a folder; returns its path."""
    path, source = folder / f"small_{name}.yaml", separator_path(name)
    path.write_text(set_hyperparameters(source, tiny_hparams(source, **overrides)))
    return path


def write_tiny_bundle(folder, name="papez_small", seed=0, **overrides):
    """Write the bundle of a tiny, untrained separator with few tokens; returns its folder.

    Each is built once; the random state is then as after building.
    """
    files, state = _bundle_once(name, seed, tuple(sorted(overrides.items())))
    torch.set_rng_state(state)
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    return folder


@cache
def _bundle_once(name, seed, overrides):
    torch.manual_seed(seed)
    path = separator_path(name)
    known = hyperparameters_of(path)
    coarse = {key: value for key, value in COARSE.items() if key in known}
    hparams = tiny_hparams(path, **coarse | dict(overrides))
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_bundle(Path(folder) / "bundle", path, hparams, build_modules(path, hparams))
        files = {file.name: file.read_bytes() for file in bundle.iterdir()}
    return files, torch.get_rng_state()


def randomise_norms(module):
    """Draw gain and bias of all norms."""
    for key, parameter in module.named_parameters():
        if "norm" in key:
            torch.nn.init.normal_(parameter, mean=float("weight" in key), std=0.3)
