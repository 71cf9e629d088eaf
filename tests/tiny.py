"""Tiny separators for the unit tier, built from the project's own YAML files."""

from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml

from papez_lobes.config.separator_files import read_hyperparameters

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


def separator_path(name):
    """The project's file of a separator."""
    return ROOT / "hparams" / f"{name}.yaml"


def tiny_hparams(path, **overrides):
    """The sizes of `TINY` that a separator file has, and overrides."""
    known = read_hyperparameters(path)
    return {key: value for key, value in TINY.items() if key in known} | overrides


def build(name="papez", seed=0, **overrides):
    """(separator, hparams) of hparams/<name>.yaml at tiny size, in float64 and eval mode.

    Norms get random affine values, so that a forgotten one shows.
    """
    torch.manual_seed(seed)
    path = separator_path(name)
    with open(path, encoding="utf-8") as stream:
        hparams = load_hyperpyyaml(stream, tiny_hparams(path, **overrides))
    separator = hparams["Separator"]
    randomise_norms(separator)
    return separator.double().eval(), hparams


def randomise_norms(module):
    """Draw gain and bias of all norms."""
    for key, parameter in module.named_parameters():
        if "norm" in key:
            torch.nn.init.normal_(parameter, mean=float("weight" in key), std=0.3)
