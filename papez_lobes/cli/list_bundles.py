"""List the trained separators that come with the package."""

import argparse
from pathlib import Path

from papez_lobes.errors import UserError
from papez_lobes.resources import resource_folder
from papez_lobes.tables import format_number, markdown_table

HEAD = ("bundle", "speakers", "Hz", "parameters", "size", "SI-SNRi, dB")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `papez list`: none."""


def run(arguments: argparse.Namespace) -> None:
    """Print a table; of those for a number of speakers the largest is the first."""
    from papez_lobes.config.separator_files import build_modules, read_hyperparameters
    from papez_lobes.inference.bundle import is_bundle
    from papez_lobes.inference.shipped import HYPERPARAMS
    from papez_lobes.profiling.cost import count_parameters

    folders = [path for path in resource_folder("pretrained").iterdir() if is_bundle(path)]
    if not folders:
        raise UserError("no trained separators come with this package")
    rows = []
    for folder in folders:
        file = folder / HYPERPARAMS
        known = read_hyperparameters(file)
        parameters = count_parameters(build_modules(file))
        size = sum(path.stat().st_size for path in folder.glob("*.ckpt"))
        rows.append((known["num_spks"], -parameters, folder.name, known["sample_rate"],
                     f"{parameters / 1e6:.2f} M", f"{size / 1e6:.1f} MB",
                     describe_score(folder)))
    rows = [(name, speakers, *rest) for speakers, _, name, *rest in sorted(rows)]
    print(markdown_table(HEAD, rows), end="")


def describe_score(folder: Path) -> str:
    """A bundle's SI-SNRi in dB, and of which mixtures it is, by the metadata of its README.md.

    They are in the format of the Hugging Face hub: a YAML block between two lines `---`, with
    `model-index` for results. Without them it is a dash.

    Example
    -------
    >>> describe_score(resource_folder("pretrained") / "papez-small-8k-3spk")
    '6.12 (test)'
    """
    from ruamel.yaml import YAML

    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    if not text.startswith("---\n"):
        return format_number(None)
    metadata = YAML(typ="safe").load(text.split("---\n")[1])
    for model in metadata.get("model-index", []):
        for result in model["results"]:
            for metric in result["metrics"]:
                if metric["type"] == "si-snri":
                    mixtures = result["dataset"]["type"].rpartition("-")[2]
                    return f"{format_number(metric['value'])} ({mixtures})"
    return format_number(None)
