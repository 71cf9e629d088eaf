"""Models that are compared: separators, bundles, and modules of Python files."""

import copy
import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from papez_lobes.config.separator_files import (
    PARTS,
    load_hparams,
    read_hyperparameters,
    separator_file,
)
from papez_lobes.errors import UserError
from papez_lobes.fast.precision import lower_precision
from papez_lobes.inference.bundle import HYPERPARAMS, bundle_folder, load_bundle
from papez_lobes.inference.compute_budget import LOWEST, has_recurrence, set_mean_depth
from papez_lobes.profiling.cost import count_parameters
from papez_lobes.separator import Separator

SEED = 0  # of untrained weights
WHOLE = "whole"  # key of a module that is not made of encoder, masknet and decoder
WHOLE_RATE = 8000  # Hz; such a module does not say its own


@dataclass(frozen=True)
class ModelSpec:
    """A row of a comparison, in plain values that can be passed to another process.

    Arguments
    ---------
    model : str
        The row's name.
    kind : str
        'mean depth' (halting is set to reach `depth` in the mean), 'same depth' (every token runs
        `depth` steps), 'all steps', 'own' (as built), 'bundle' (as trained), 'module' (of a Python
        file) or 'baseline' (such a module, to compare with).
    source : str
        A YAML file, a bundle's folder, or FILE.py:CLASS.
    depth : float, optional
        Steps.
    """

    model: str
    kind: str
    source: str
    depth: float | None = None


def model_specs(name: str, mean_depth: float) -> list[ModelSpec]:
    """The rows of a model.

    A Papez that prunes has three rows: halting at the mean depth, every token at that depth
    (rounded up), and all steps.

    Arguments
    ---------
    name : str
        A separator's name or YAML file, a bundle's name or folder, or FILE.py:CLASS.
    mean_depth : float
        Steps.

    Returns
    -------
    list of ModelSpec

    Raises
    ------
    UserError
        There is no such separator.

    Example
    -------
    >>> [spec.model for spec in model_specs("papez", 4.5)]
    ['papez, mean depth 4.5', 'papez, all at depth 5', 'papez, all 16 steps']
    >>> [spec.model for spec in model_specs("papez_official", 4.5)]
    ['papez_official, all 16 steps']
    """
    if ".py:" in name:
        return [ModelSpec(name.rpartition(":")[2], "module", name)]
    if (bundle_folder(name) / HYPERPARAMS).is_file():
        folder = bundle_folder(name).resolve()
        label = folder.parent.name if folder.name == "bundle" else folder.name
        return [ModelSpec(f"{label} (bundle)", "bundle", str(folder))]
    path = separator_file(name)
    known, source = read_hyperparameters(path), str(path)
    if "pruning" not in known:
        return [ModelSpec(path.stem, "own", source)]
    dense = ModelSpec(f"{path.stem}, all {known['max_depth']} steps", "all steps", source)
    if known["pruning"] != "hard":
        return [dense]
    same = math.ceil(mean_depth)
    return [
        ModelSpec(f"{path.stem}, mean depth {mean_depth:g}", "mean depth", source, mean_depth),
        ModelSpec(f"{path.stem}, all at depth {same}", "same depth", source, same),
        dense,
    ]


class Model:
    """A model that is ready to run.

    Arguments
    ---------
    spec : ModelSpec
        Its row.
    modules : mapping of str to torch.nn.Module
        `encoder`, `masknet` and `decoder`, or one module by the name `WHOLE`.
    sample_rate : int
        Hz.
    """

    def __init__(self, spec: ModelSpec, modules: Mapping[str, torch.nn.Module], sample_rate: int):
        self.spec = spec
        self.modules = modules
        self.sample_rate = sample_rate
        self.separator = None if WHOLE in modules else Separator.of(modules)
        self.params = count_parameters(modules)

    def __call__(self, mixture: torch.Tensor):
        """Mixture [1, T] -> estimates [1, T, C], and the trace of the recurrence or None."""
        if WHOLE in self.modules:
            return self.modules[WHOLE](mixture), None
        return self.separator(mixture, return_trace=True)

    def train(self, mode: bool = True) -> None:
        """Set training or (False) evaluation mode."""
        for module in self.modules.values():
            module.train(mode)

    def parameters(self) -> list[torch.nn.Parameter]:
        """All parameters."""
        return [p for module in self.modules.values() for p in module.parameters()]

    def set_bias(self, bias: float) -> None:
        """Set the halting bias."""
        self.modules["masknet"].transformer.halting.bias = bias

    def lowered(self, dtype: str, device: str) -> "Model":
        """A copy in another precision, see `papez_lobes.fast.precision.lower_precision`.

        A baseline in float32 is returned as it is: it runs as its file says.
        """
        if dtype == "float32" and self.spec.kind == "baseline":
            return self
        modules = copy.deepcopy(dict(self.modules))
        lower_precision(modules, dtype, device)
        lowered = Model(self.spec, modules, self.sample_rate)
        lowered.params = self.params  # int8 layers have no parameters
        return lowered

    def set_depth(self, mixture: torch.Tensor) -> float | None:
        """Set the mean depth of the row on this mixture; returns the bias, None if it has none."""
        if self.spec.kind != "mean depth":
            return None
        return set_mean_depth(self.separator, mixture, self.spec.depth).bias


def build_model(spec: ModelSpec, device: str) -> Model:
    """Build the model of a row, in evaluation mode; untrained weights come from a fixed seed.

    Raises
    ------
    UserError
        It cannot be built, for example because a package is missing.
    """
    torch.manual_seed(SEED)
    if spec.kind == "bundle":
        loaded = load_bundle(spec.source, device=device)
        loaded.mods.requires_grad_()  # training steps are measured too
        return Model(spec, loaded.mods, loaded.hparams.sample_rate)
    if spec.kind in ("baseline", "module"):
        modules, rate = {WHOLE: _load_module(spec.source)}, WHOLE_RATE
    else:
        depth = {"max_depth": spec.depth} if spec.kind == "same depth" else {}
        hparams = load_hparams(spec.source, depth)
        modules = {part: hparams[node] for part, node in PARTS.items()}
        rate = hparams["sample_rate"]
    modules = {name: module.to(device) for name, module in modules.items()}
    model = Model(spec, modules, rate)
    model.train(False)
    if spec.kind in ("same depth", "all steps") and has_recurrence(model.separator):
        model.set_bias(LOWEST)  # nothing halts before the last step
    return model


def _load_module(source):
    """A module [1, T] -> [1, T, C] of FILE.py:CLASS, built without arguments."""
    path, _, name = source.rpartition(":")
    if not Path(path).is_file():
        raise UserError(f"{source}: no such file; write it as FILE.py:CLASS")
    spec = importlib.util.spec_from_file_location("papez_compared", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return getattr(module, name)()
    except Exception as error:  # code of the user's, which may raise anything
        raise UserError(f"{source}: {type(error).__name__}: {error}") from error
