"""Turn a checkpoint of the authors' code into a bundle that from_hparams loads offline."""

from pathlib import Path

from papez_lobes.inference.authors_checkpoints import convert


def add_arguments(parser):
    """Declare the arguments of `papez convert`."""
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="state dict or Lightning's")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the bundle")
    parser.add_argument("--num-heads", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--halting-threshold", type=float, default=0.9, help="default: %(default)s")
    parser.add_argument("--sample-rate", type=int, default=8000, help="Hz; default: %(default)s")


def run(arguments):
    """Convert, and say in one line what came out."""
    knobs = convert(
        arguments.checkpoint,
        arguments.out,
        num_heads=arguments.num_heads,
        halting_threshold=arguments.halting_threshold,
        sample_rate=arguments.sample_rate,
    )
    print(
        f"{arguments.out}: {knobs['num_spks']} speakers at {knobs['sample_rate']} Hz, "
        f"{knobs['N_encoder_out']} channels, {knobs['num_slots']} memory slots, "
        f"{knobs['num_steps']} steps"
    )
