"""Models that are compared: separators, bundles, and modules of Python files."""

import copy
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path

import torch

from papez_lobes.config import separator_files
from papez_lobes.errors import UserError
from papez_lobes.fast.precision import lower_precision
from papez_lobes.inference.bundle import is_bundle, load_modules, missing_bundle
from papez_lobes.inference.compute_budget import LOWEST, has_recurrence, set_mean_depth
from papez_lobes.inference.shipped import bundle_folder
from papez_lobes.separator import Separator

SEED = 0  # of untrained weights
MODULE_RATE = 8000  # Hz; a module of a Python file does not say its own


@dataclass(frozen=True)
class ModelSpec:
    """A row of a comparison, in plain values that can be passed to another process.

    `model` is the row's name, and `source` a YAML file, a bundle's folder, or FILE.py:CLASS. `kind`
    is 'mean depth' (halting is set to reach `depth` in the mean), 'same depth' (every token runs
    `depth` steps), 'all steps', 'own' (as built), 'bundle' (as trained), 'module' (of a Python
    file) or 'baseline' (such a module, to compare with). With `trust`, a bundle or YAML file may
    run any code.
    """

    model: str
    kind: str
    source: str
    depth: float | None = None
    trust: bool = False


def model_specs(name: str, mean_depth: float, trust: bool = False) -> list[ModelSpec]:
    """The rows of a model: a separator's name or YAML file, a bundle, or FILE.py:CLASS.

    A Papez that prunes has three rows: halting at the mean depth, every token at that depth
    (rounded up), and all steps. UserError if there is no such separator or bundle.

    Example
    -------
    >>> [spec.model for spec in model_specs("papez", 4.5)]
    ['papez, mean depth 4.5', 'papez, all at depth 5', 'papez, all 16 steps']
    >>> [spec.model for spec in model_specs("papez_official", 4.5)]
    ['papez_official, all 16 steps']
    """
    if ".py:" in name:
        return [ModelSpec(name.rpartition(":")[2], "module", name)]
    folder = bundle_folder(name).resolve()
    if is_bundle(folder):
        label = folder.parent.name if folder.name == "bundle" else folder.name
        return [ModelSpec(f"{label} (bundle)", "bundle", str(folder), trust=trust)]
    if folder.is_dir():
        raise missing_bundle(folder)
    path = separator_files.separator_file(name)
    known, source = separator_files.read_hyperparameters(path), str(path)
    if "pruning" not in known:
        return [ModelSpec(path.stem, "own", source, trust=trust)]
    dense = ModelSpec(
        f"{path.stem}, all {known['max_depth']} steps", "all steps", source, trust=trust)
    if known["pruning"] != "hard":
        return [dense]
    same = math.ceil(mean_depth)
    return [
        ModelSpec(
            f"{path.stem}, mean depth {mean_depth:g}", "mean depth", source, mean_depth, trust),
        ModelSpec(f"{path.stem}, all at depth {same}", "same depth", source, same, trust),
        dense,
    ]


class Model(torch.nn.Module):
    """A model that is ready to run: mixture [1, T] to estimates [1, T, C], and a trace or None.

    `module` is a Separator or any module [1, T] -> [1, T, C], at `sample_rate` Hz.
    """

    def __init__(self, spec: ModelSpec, module: torch.nn.Module, sample_rate: int):
        super().__init__()
        self.spec = spec
        self.module = module
        self.sample_rate = sample_rate
        self.params = sum(parameter.numel() for parameter in module.parameters())

    def forward(self, mixture):
        """Separate; the trace is that of the recurrence."""
        if isinstance(self.module, Separator):
            return self.module(mixture, return_trace=True)
        return self.module(mixture), None

    def set_bias(self, bias: float) -> None:
        """Set the halting bias."""
        self.module.masknet.transformer.halting.bias = bias

    def set_depth(self, mixture: torch.Tensor) -> float | None:
        """Set the mean depth of the row on this mixture; returns the bias, None if it has none."""
        if self.spec.kind != "mean depth":
            return None
        return set_mean_depth(self.module, mixture, self.spec.depth).bias

    def lowered(self, dtype: str, device: str) -> "Model":
        """A copy in another precision, see `papez_lobes.fast.precision.lower_precision`.

        A baseline in float32 is returned as it is: it runs as its file says.
        """
        if dtype == "float32" and self.spec.kind == "baseline":
            return self
        lowered = copy.deepcopy(self)
        module = lowered.module
        parts = module.parts if isinstance(module, Separator) else {"module": module}
        lower_precision(parts, dtype, device)
        return lowered


def build_model(spec: ModelSpec, device: str) -> Model:
    """Build the model of a row, in evaluation mode; untrained weights come from a fixed seed.

    Raises UserError if it cannot be built, for example because a package is missing.
    """
    torch.manual_seed(SEED)
    if spec.kind == "bundle":
        modules, hparams = load_modules(spec.source, device=device, trust=spec.trust)
        separator = Separator.of(modules).requires_grad_()  # training steps are measured too
        return Model(spec, separator, hparams["sample_rate"])
    if spec.kind in ("baseline", "module"):
        return Model(spec, _load_module(spec.source), MODULE_RATE).eval().to(device)
    depth = {"max_depth": spec.depth} if spec.kind == "same depth" else {}
    hparams = separator_files.load_hparams(spec.source, depth, spec.trust)
    separator = Separator(**{part: hparams[node] for part, node in separator_files.PARTS.items()})
    model = Model(spec, separator, hparams["sample_rate"]).eval().to(device)
    if spec.kind in ("same depth", "all steps") and has_recurrence(separator):
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
