"""Who is compared: separators by name, by YAML file, as bundles, asteroid's where it is installed,
and a baseline from a file."""

import copy
import importlib.util
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from papez_lobes.config.separator_files import PARTS, load_hparams, read_knobs, separator_file
from papez_lobes.errors import UserError
from papez_lobes.inference.bundle import HYPERPARAMS, bundle_folder, load_bundle
from papez_lobes.inference.compute_budget import LOWEST, has_recurrence, set_mean_depth
from papez_lobes.precision import lower_precision
from papez_lobes.separator import separate
from papez_lobes.tools.cost import count_parameters

SEED = 0  # of untrained weights
WHOLE = "whole"  # the one module of a contestant that is not encoder, masknet and decoder
WHOLE_RATE = 8000  # Hz; such a module does not say its own
ASTEROID = "asteroid:"


@dataclass(frozen=True)
class Entry:
    """One row of the benchmark, in values that can be handed to another process.

    Arguments
    ---------
    model : str
        The row's name.
    kind : str
        'mean depth' (halting reaches `depth` in the mean), 'same depth' (every token runs
        `depth` steps), 'all steps', 'own' (as built), 'bundle' (as trained), 'asteroid' or
        'baseline'.
    source : str
        A YAML file, a bundle's folder, a class of `asteroid.models`, or FILE:CLASS.
    depth : float, optional
        Steps.
    options : dict
        Keyword arguments of a baseline.
    """

    model: str
    kind: str
    source: str
    depth: float | None = None
    options: dict = field(default_factory=dict)

    def as_dict(self):
        """Plain values, from which `Entry(**values)` is this again."""
        return asdict(self)


def entries_of(name, mean_depth):
    """The rows that a name, a YAML file, a bundle's folder or asteroid:CLASS stands for.

    A Papez that prunes stands in three rows: at the mean depth, with every token at that depth
    (rounded up), and at all steps.

    Raises
    ------
    UserError
        If there is no such separator.

    Example
    -------
    >>> [entry.model for entry in entries_of("papez", 4.5)]
    ['papez, mean depth 4.5', 'papez, all at depth 5', 'papez, all 16 steps']
    >>> [entry.model for entry in entries_of("papez_official", 4.5)]
    ['papez_official, all 16 steps']
    """
    if name.startswith(ASTEROID):
        return [Entry(name, "asteroid", name.removeprefix(ASTEROID))]
    if (bundle_folder(name) / HYPERPARAMS).is_file():
        folder = bundle_folder(name).resolve()
        label = folder.parent.name if folder.name == "bundle" else folder.name
        return [Entry(f"{label} (bundle)", "bundle", str(folder))]
    path = separator_file(name)
    knobs, source = read_knobs(path), str(path)
    if "pruning" not in knobs:
        return [Entry(path.stem, "own", source)]
    dense = Entry(f"{path.stem}, all {knobs['max_depth']} steps", "all steps", source)
    if knobs["pruning"] != "hard":
        return [dense]
    same = int(-(-mean_depth // 1))
    return [
        Entry(f"{path.stem}, mean depth {mean_depth:g}", "mean depth", source, mean_depth),
        Entry(f"{path.stem}, all at depth {same}", "same depth", source, same),
        dense,
    ]


class Contestant:
    """A separator that is ready to run.

    Arguments
    ---------
    entry : Entry
        Its row.
    modules : mapping of str to torch.nn.Module
        Its parts.
    sample_rate : int
        Hz.
    """

    def __init__(self, entry, modules, sample_rate):
        self.entry, self.modules, self.sample_rate = entry, modules, sample_rate
        self.params = count_parameters(modules)

    def __call__(self, mixture):
        """Mixture [1, T] to estimates [1, T, C] and the trace of the recurrence, or None."""
        if WHOLE in self.modules:
            return self.modules[WHOLE](mixture), None
        return separate(self.modules, mixture, return_trace=True)

    def train(self, mode=True):
        """Training or (False) evaluation mode."""
        for module in self.modules.values():
            module.train(mode)

    def parameters(self):
        """All parameters."""
        return [p for module in self.modules.values() for p in module.parameters()]

    def set_bias(self, bias):
        """Set the halting bias."""
        self.modules["masknet"].transformer.halting.bias = bias

    def lowered(self, dtype, device):
        """A copy in a precision, see `papez_lobes.precision`; or itself, for a baseline in float32,
        which runs as it is written."""
        if dtype == "float32" and self.entry.kind == "baseline":
            return self
        modules = copy.deepcopy(dict(self.modules))
        lower_precision(modules, dtype, device)
        lowered = Contestant(self.entry, modules, self.sample_rate)
        lowered.params = self.params  # which int8 packs away
        return lowered

    def settle(self, mixture):
        """Set the depth that the row stands for, on this mixture; the bias, or None."""
        if self.entry.kind != "mean depth":
            return None
        return set_mean_depth(self.modules, mixture, self.entry.depth).bias


def build(entry, device):
    """Build what a row names, in evaluation mode; untrained weights come from a seed.

    Raises
    ------
    UserError
        If it cannot be built, say because a package is missing.
    """
    torch.manual_seed(SEED)
    if entry.kind == "bundle":
        model = load_bundle(entry.source, device=device)
        model.mods.requires_grad_()  # training steps are measured too
        return Contestant(entry, model.mods, model.hparams.sample_rate)
    if entry.kind in ("baseline", "asteroid"):
        load = _load_baseline if entry.kind == "baseline" else _Asteroid
        modules, rate = {WHOLE: load(entry)}, WHOLE_RATE
    else:
        knobs = {"max_depth": entry.depth} if entry.kind == "same depth" else None
        hparams = load_hparams(entry.source, knobs)
        modules = {part: hparams[node] for part, node in PARTS.items()}
        rate = hparams["sample_rate"]
    modules = {part: module.to(device) for part, module in modules.items()}
    contestant = Contestant(entry, modules, rate)
    contestant.train(False)
    if entry.kind in ("same depth", "all steps") and has_recurrence(modules):
        contestant.set_bias(LOWEST)  # nothing halts before the last step
    return contestant


def _load_baseline(entry):
    """A module [1, T] -> [1, T, C] from FILE:CLASS."""
    path, _, name = entry.source.rpartition(":")
    if not Path(path).is_file():
        raise UserError(f"{entry.source}: no such file; write --baseline FILE.py:CLASS")
    spec = importlib.util.spec_from_file_location("papez_baseline", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return getattr(module, name)(**entry.options)
    except Exception as error:  # it is the user's own code
        raise UserError(f"{entry.source}: {type(error).__name__}: {error}") from error


class _Asteroid(torch.nn.Module):
    """A model of asteroid's for two speakers, at its own default settings: [1, T] -> [1, T, C]."""

    def __init__(self, entry):
        super().__init__()
        try:
            models = importlib.import_module("asteroid.models")
        except ImportError as error:
            raise UserError(
                f"asteroid cannot be imported ({error}). It pins an old torchmetrics: in an "
                "environment apart, pip install --no-deps asteroid asteroid-filterbanks"
            ) from error
        try:
            self.model = getattr(models, entry.source)(n_src=2, sample_rate=WHOLE_RATE)
        except (AttributeError, TypeError) as error:
            raise UserError(f"no separator of asteroid.models ({error}); "
                            "try ConvTasNet, DPRNNTasNet, DPTNet or SuDORMRFNet") from error

    def forward(self, mixture):
        """Mixture [B, T] -> estimates [B, T, C]."""
        return self.model(mixture).transpose(1, 2)
