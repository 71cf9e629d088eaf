"""Tiny separators for the unit tier, built from the project's own YAML files."""

from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml

from papez_lobes.config.separator_files import read_knobs

ROOT = Path(__file__).parents[1]
TINY = {  # for any separator: those that it has
    "N_encoder_out": 16, "bottleneck_dim": 16, "kernel_size": 8, "kernel_stride": 4, "num_heads": 2,
    "ffn_dim": 32, "chunk_tokens": 6, "num_slots": 3, "num_steps": 4, "dropout": 0.0,
}


def build(name="papez", seed=0, **overrides):
    """(modules, hparams) of hparams/<name>.yaml at tiny size, in float64 and eval mode.

    Norms get random affine values, so that a forgotten one shows.
    """
    torch.manual_seed(seed)
    path = ROOT / "hparams" / f"{name}.yaml"
    knobs = {key: value for key, value in TINY.items() if key in read_knobs(path)}
    with open(path, encoding="utf-8") as stream:
        hparams = load_hyperpyyaml(stream, {**knobs, **overrides})
    nodes = {"encoder": "Encoder", "masknet": "MaskNet", "decoder": "Decoder"}
    modules = torch.nn.ModuleDict({key: hparams[node] for key, node in nodes.items()})
    for key, parameter in modules.named_parameters():
        if "norm" in key:
            torch.nn.init.normal_(parameter, mean=float("weight" in key), std=0.3)
    return modules.double().eval(), hparams
