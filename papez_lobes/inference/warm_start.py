"""Warm start: training that begins with the weights of a bundle."""

from collections.abc import Mapping
from pathlib import Path

import torch

from papez_lobes.config.separator_files import build_modules
from papez_lobes.inference.bundle import load_states, read_bundle
from papez_lobes.inference.shipped import HYPERPARAMS, bundle_folder


def start_from(
    folder: str | Path, modules: Mapping[str, torch.nn.Module], num_spks: int,
    trust: bool = False,
) -> None:
    """Load a bundle's weights into the modules of an experiment.

    The experiment's hyperparameters stay as they are, also those that change what the weights mean,
    such as `chunk_tokens`, so that a model can grow. Steps beyond the bundle's `max_depth` were
    never trained: their norms begin as those of its last step.

    If the bundle is for another number of speakers, all weights are taken except the channels of
    speakers that only one of the two has. New speakers leave the masks of the others as they are.
    `papez`, whose last hidden layer grows with the speakers, loses a part of it if there are fewer.

    Arguments
    ---------
    folder : str or pathlib.Path
        Folder of the bundle, or the name of one that comes with the package.
    modules : mapping of str to torch.nn.Module
        `encoder`, `masknet` and `decoder`.
    num_spks : int
        Number of speakers of the experiment.
    trust : bool
        True: the bundle's `hyperparams.yaml` may run any code.

    Raises
    ------
    UserError
        The bundle does not exist or could run code, or its weights do not fit the modules.

    Example
    -------
    >>> from papez_lobes.inference.bundle import write_bundle
    >>> from papez_lobes.config.separator_files import build_modules, separator_file
    >>> papez, tiny = separator_file("papez"), {"N_encoder_out": 16, "num_steps": 4}
    >>> trained, new = build_modules(papez, tiny), build_modules(papez, tiny)
    >>> norm = trained["masknet"].transformer.block.norm1
    >>> _ = norm.bias.data[1].fill_(2)
    >>> bundle = getfixture("tmp_path") / "bundle"
    >>> _ = write_bundle(bundle, papez, tiny | {"max_depth": 2}, trained)
    >>> start_from(bundle, new, num_spks=2)
    >>> new["masknet"].transformer.block.norm1.bias[:, 0].tolist()
    [0.0, 2.0, 2.0, 2.0]
    """
    folder = bundle_folder(folder)
    trained, hparams = read_bundle(folder, trust=trust)
    begun = hparams["num_spks"]
    states = {part: module.state_dict() for part, module in trained.items()}
    if begun != num_spks:
        made = build_modules(folder / HYPERPARAMS, {"num_spks": num_spks}, trust)
        # the speaker is the outer index of the channels, but the inner one in SkiM and RE-SepFormer
        within = hasattr(made["masknet"], "num_spk")
        for part, state in states.items():
            for name, value in made[part].state_dict().items():
                state[name] = _of_speakers(value, state[name], begun, num_spks, within)
    for name, value in modules["masknet"].state_dict().items():
        if name.startswith("convolution."):  # the identity, if the bundle has none
            states["masknet"].setdefault(name, value)
    load_states(folder, states, modules, "the separator with these hyperparameters")
    depth = hparams.get("max_depth")
    for module in modules["masknet"].modules():
        if hasattr(module, "repeat_from") and depth is not None:
            module.repeat_from(depth - 1)


def _of_speakers(made, trained, begun, num_spks, within):
    """Copy trained weights of the speakers that both have into newly made ones."""
    if made.shape == trained.shape:
        return trained
    if within:
        shared = slice(min(begun, num_spks))
        places = made.unflatten(0, (-1, num_spks))
        places[:, shared] = trained.unflatten(0, (-1, begun))[:, shared]
        return made
    shared = tuple(map(slice, map(min, made.shape, trained.shape)))
    if made.dim() > 1:
        made[shared[0], trained.shape[1]:] = 0  # new channels do not affect the others yet
    made[shared] = trained[shared]
    return made
