"""Convert a checkpoint of the authors' code to a bundle."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `papez convert`."""
    parser.add_argument("checkpoint", type=Path, metavar="CKPT",
                        help="a state dict or a Lightning checkpoint")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the bundle")
    parser.add_argument("--num-heads", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--halting-threshold", type=float, default=0.9, help="default: %(default)s")
    parser.add_argument("--sample-rate", type=int, default=8000, help="Hz; default: %(default)s")


def run(arguments: argparse.Namespace) -> None:
    """Convert the checkpoint and print the sizes of the model."""
    from papez_lobes.inference.authors_checkpoints import convert

    sizes = convert(
        arguments.checkpoint,
        arguments.out,
        num_heads=arguments.num_heads,
        halting_threshold=arguments.halting_threshold,
        sample_rate=arguments.sample_rate,
    )
    print(
        f"{arguments.out}: {sizes['num_spks']} speakers at {sizes['sample_rate']} Hz, "
        f"{sizes['N_encoder_out']} channels, {sizes['num_slots']} memory slots, "
        f"{sizes['num_steps']} steps"
    )
