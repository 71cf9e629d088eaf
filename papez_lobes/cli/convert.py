"""Convert a checkpoint of the authors' code to a bundle."""

import argparse
from pathlib import Path

from papez_lobes.cli.options import add_overwrite
from papez_lobes.files import refuse_existing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `papez convert`."""
    add = parser.add_argument
    add("checkpoint", type=Path, metavar="CKPT", help="a state dict or a Lightning checkpoint")
    add("out", type=Path, metavar="OUT", help="folder of the bundle")
    add("--num-heads", type=int, default=8, help="default: %(default)s")
    add("--halting-threshold", type=float, default=0.9, help="default: %(default)s")
    add("--sample-rate", type=int, default=8000, help="Hz; default: %(default)s")
    add_overwrite(parser)


def run(arguments: argparse.Namespace) -> None:
    """Convert the checkpoint and print the sizes of the model."""
    from papez_lobes.inference.authors_checkpoints import convert
    from papez_lobes.inference.bundle import check_replaceable

    check_replaceable(arguments.out)  # --overwrite replaces bundles alone
    refuse_existing(arguments.overwrite, arguments.out)
    sizes = convert(arguments.checkpoint, arguments.out, arguments.num_heads,
                    arguments.halting_threshold, arguments.sample_rate)
    print(
        f"{arguments.out}: {sizes['num_spks']} speakers at {sizes['sample_rate']} Hz, "
        f"{sizes['N_encoder_out']} channels, {sizes['num_slots']} memory slots, "
        f"{sizes['num_steps']} steps"
    )
