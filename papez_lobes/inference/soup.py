"""Model soups: the average of the weights of several branches of one training.

Branches of one trunk are close enough for their average to be a good separator, which has a part of
what each of them learned and is often better than all of them (M. Wortsman et al., "Model soups:
averaging weights of multiple fine-tuned models improves accuracy without increasing inference
time", ICML 2022). Score it on validation mixtures: weights that are not of one trunk, or far from
each other, average to something worse.
"""

from collections.abc import Sequence
from pathlib import Path

from speechbrain.utils.checkpoints import average_state_dicts

from papez_lobes.config.separator_files import read_hyperparameters
from papez_lobes.errors import UserError
from papez_lobes.inference.bundle import read_bundle, write_bundle
from papez_lobes.inference.shipped import HYPERPARAMS, bundle_folder


def average_bundles(bundles: Sequence[str | Path], out: str | Path, trust: bool = False) -> Path:
    """Write a bundle whose weights are the mean of those of others.

    Arguments
    ---------
    bundles : sequence of str or pathlib.Path
        Two or more folders, or names of bundles that come with the package. One that is given twice
        counts twice.
    out : str or pathlib.Path
        Folder of the new bundle. An older bundle there is replaced; its ONNX file is removed
        (`papez export` writes a new one), other files stay.
    trust : bool
        True: the bundles' `hyperparams.yaml` may run any code.

    Returns
    -------
    pathlib.Path
        The new bundle.

    Raises
    ------
    UserError
        There are fewer than two bundles, one is damaged or could run code, they are of different
        separators or differ in a hyperparameter, or `out` cannot be written.

    Example
    -------
    >>> bundle = bundle_folder("papez-small-8k")
    >>> soup = average_bundles([bundle, bundle], getfixture("tmp_path") / "soup")
    >>> sorted(path.name for path in soup.iterdir())
    ['decoder.ckpt', 'encoder.ckpt', 'hyperparams.yaml', 'masknet.ckpt']
    """
    folders = [bundle_folder(bundle) for bundle in bundles]
    if len(folders) < 2:
        raise UserError("an average needs two bundles or more; name another")
    all_modules = [read_bundle(folder, trust=trust)[0] for folder in folders]
    first = _definition(folders[0], all_modules[0])
    for folder, modules in zip(folders[1:], all_modules[1:], strict=True):
        other = _definition(folder, modules)
        for name in sorted({*first, *other}):
            if first.get(name) != other.get(name):
                raise UserError(
                    f"{folder}: has {name} {other.get(name)}, and {folders[0]} has "
                    f"{first.get(name)}; average branches of one training"
                )
    for part, module in all_modules[0].items():
        states = [modules[part].state_dict() for modules in all_modules]
        module.load_state_dict(average_state_dicts(states))
    return write_bundle(out, folders[0] / HYPERPARAMS, {}, all_modules[0])


def _definition(folder, modules):
    """What two bundles must have in common: hyperparameters, and the classes of all modules."""
    classes = {f"{part}.{name}": type(module).__name__ for part, whole in modules.items()
               for name, module in whole.named_modules()}
    return read_hyperparameters(folder / HYPERPARAMS) | classes
