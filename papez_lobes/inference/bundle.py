"""Bundles: a trained separator as a folder that plain SpeechBrain loads, offline.

A bundle holds `hyperparams.yaml` (the separator file with its hyperparameters set, `modules` and
`pretrainer`) and the weights `encoder.ckpt`, `masknet.ckpt` and `decoder.ckpt`. To use it::

    from speechbrain.inference.separation import SepformerSeparation
    separator = SepformerSeparation.from_hparams(source="pretrained/papez")
    estimates = separator.separate_batch(mixture)  # [B, T] -> [B, T, C]

Without a `savedir`, SpeechBrain reads the folder in place and writes nothing. With a `savedir` it
links the files there (on Windows, or to move the folder later, pass
`local_strategy=LocalStrategy.COPY`). It trusts files that are already there, so use each `savedir`
for one bundle only. Three things are wrong in its `separate_file`: silence gives NaN, two channels
at the model's rate become two recordings, and a `Path` is refused. `papez separate` and
`papez_lobes.load` do these right. It also runs whatever code `hyperparams.yaml` names
(docs/security.md).
"""

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

import torch

from papez_lobes.config.separator_files import (
    BUNDLE_FORMAT,
    FOR_SPEECHBRAIN,
    PARTS,
    build_modules,
    load_hparams,
    set_hyperparameters,
)
from papez_lobes.config.yaml_files import read_tree
from papez_lobes.devices import checked_device
from papez_lobes.errors import UserError
from papez_lobes.fast.precision import lower_precision
from papez_lobes.files import disk_problem, sync_files, sync_folder
from papez_lobes.inference.shipped import FILES, HYPERPARAMS, ONNX_FILE, bundle_folder
from papez_lobes.resources import resource_folder

FORMAT = 1  # of bundles written here; bundles of earlier versions name none, and are read too
_FORMAT_LINE = re.compile(rf"^{BUNDLE_FORMAT}: (\d+)$", re.MULTILINE)
_TAIL = f"""
{BUNDLE_FORMAT}: {FORMAT}

modules:
    encoder: !ref <Encoder>
    masknet: !ref <MaskNet>
    decoder: !ref <Decoder>

pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        encoder: !ref <Encoder>
        masknet: !ref <MaskNet>
        decoder: !ref <Decoder>
"""


def write_bundle(
    folder: str | Path, separator: str | Path, hyperparameters: dict,
    modules: Mapping[str, torch.nn.Module],
) -> Path:
    """Write a bundle atomically. An older one is replaced once the new one is complete.

    In distributed training call it on the main process only.

    Arguments
    ---------
    folder : str or pathlib.Path
        Folder of the bundle; its parents are made. Other files of an older bundle are kept, except
        its ONNX file.
    separator : str or pathlib.Path
        The separator file, which includes no other file.
    hyperparameters : dict
        Hyperparameters that differ from the file's: name to value. A `!ref` that gives the wanted
        value stays a `!ref`.
    modules : mapping of str to torch.nn.Module
        `encoder`, `masknet` and `decoder`; distributed or compiled wrappers are removed.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    UserError
        The folder holds something else than a bundle, a hyperparameter is unknown, the weights do
        not fit the modules that are built with these hyperparameters, or nothing can be written.

    Example
    -------
    >>> from papez_lobes.config.separator_files import separator_file
    >>> papez, hyperparameters = separator_file("papez"), {"N_encoder_out": 16, "num_steps": 4}
    >>> modules = build_modules(papez, hyperparameters)
    >>> folder = write_bundle(getfixture("tmp_path") / "mine", papez, hyperparameters, modules)
    >>> sorted(path.name for path in folder.iterdir())
    ['decoder.ckpt', 'encoder.ckpt', 'hyperparams.yaml', 'masknet.ckpt']
    >>> load_bundle(folder, {"max_depth": 2}).separate_batch(torch.randn(1, 800)).shape
    torch.Size([1, 800, 2])
    """
    folder = Path(folder).resolve()
    check_replaceable(folder)
    if "min_train_depth" in hyperparameters:  # for training; it would refuse a lower max_depth
        hyperparameters = hyperparameters | {"min_train_depth": None}
    text = set_hyperparameters(
        separator, hyperparameters, drop=(BUNDLE_FORMAT, *FOR_SPEECHBRAIN)
    )
    text = f"{text.rstrip()}\n{_TAIL}"
    states = {part: _cpu_state(modules[part]) for part in PARTS}
    aside = _sibling(folder)
    try:
        aside.mkdir(parents=True)
        (aside / HYPERPARAMS).write_text(text, encoding="utf-8")
        # SpeechBrain only warns of weights that do not fit, so they are refused here
        problem = _misfit(aside / HYPERPARAMS, states)
        if problem:
            raise UserError(f"{separator}: with these hyperparameters {problem}")
        for part, state in states.items():
            torch.save(state, aside / f"{part}.ckpt")
        sync_files(aside)
        _swap_in(aside, folder)
        sync_folder(folder.parent)
    except (OSError, RuntimeError) as error:
        reason = disk_problem(error)
        if reason is None:
            raise
        raise UserError(f"{folder}: cannot be written: {reason}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def is_bundle(folder: str | Path) -> bool:
    """True if a folder has the files of a bundle, and its hyperparams.yaml the nodes.

    Example
    -------
    >>> is_bundle(bundle_folder("papez-small-8k"))
    True
    """
    if not all(Path(folder, name).is_file() for name in FILES):
        return False
    return set(PARTS.values()) <= set(read_tree(Path(folder, HYPERPARAMS)))


def load_bundle(
    folder: str | Path, overrides: dict | None = None, device: str | torch.device = "cpu",
    dtype: str = "float32", trust: bool = False,
):
    """Load a bundle into SpeechBrain's interface: like `from_hparams`, but strict and offline.

    The bundle is read in place, and nothing is written. Unless it is trusted, it cannot run code
    (docs/security.md).

    Arguments
    ---------
    folder : str or pathlib.Path
        The bundle, or the name of one that comes with the package.
    overrides : dict, optional
        Hyperparameters to change that keep the shapes of the weights, such as `max_depth` or
        `halting_threshold`.
    device : str or torch.device
        Device of the modules.
    dtype : str
        Precision, see `papez_lobes.fast.precision.lower_precision`.
    trust : bool
        True: `hyperparams.yaml` may build any class and call any function, and so run any code.

    Returns
    -------
    speechbrain.inference.separation.SepformerSeparation
        In eval mode, without gradients.

    Raises
    ------
    UserError
        The bundle is missing, incomplete or damaged, or could run code, or an override, the device
        or the dtype is wrong.
    """
    from speechbrain.inference.separation import SepformerSeparation  # which takes seconds

    device = checked_device(device)
    modules, hparams = read_bundle(folder, overrides, trust)
    hparams["savedir"] = None  # as SpeechBrain's loader sets it
    model = SepformerSeparation(modules=modules, hparams=hparams, run_opts={"device": device})
    lower_precision(model.mods, dtype, device)  # last, since moving a module undoes it
    return model


def load_modules(
    folder: str | Path, overrides: dict | None = None, device: str | torch.device = "cpu",
    dtype: str = "float32", trust: bool = False,
) -> tuple[dict[str, torch.nn.Module], dict]:
    """Like `load_bundle`, but returns encoder, masknet and decoder, and the file's values.

    The modules are in eval mode and without gradients. The values are those of `load_hparams`.
    """
    device = checked_device(device)
    modules, hparams = read_bundle(folder, overrides, trust)
    for module in modules.values():
        module.to(device).eval().requires_grad_(False)
    lower_precision(modules, dtype, device)
    return modules, hparams


def read_bundle(
    folder: str | Path, overrides: dict | None = None, trust: bool = False
) -> tuple[dict[str, torch.nn.Module], dict]:
    """Like `load_modules`, but as they are built: on the CPU, in float32, ready to be trained."""
    folder = bundle_folder(folder)
    _check_complete(folder)
    hparams = load_hparams(folder / HYPERPARAMS, overrides, trust)
    modules = {part: hparams[node] for part, node in PARTS.items()}
    states = {part: read_checkpoint(folder / f"{part}.ckpt") for part in PARTS}
    what = f"{HYPERPARAMS} with {overrides}" if overrides else HYPERPARAMS
    load_states(folder, states, modules, what)
    return modules, hparams


def load_states(
    folder: Path, states: dict[str, dict], modules: Mapping[str, torch.nn.Module], what: str
) -> None:
    """Load the weights of a bundle into modules; nothing is loaded if one does not fit.

    Arguments
    ---------
    folder : pathlib.Path
        The bundle, for the message.
    states : dict
        A state dict for each of `PARTS`.
    modules : mapping of str to torch.nn.Module
        `encoder`, `masknet` and `decoder`.
    what : str
        Description of the modules, for the message.

    Raises
    ------
    UserError
        A state dict does not fit its module.
    """
    for part, state in states.items():
        problem = _mismatch(modules[part].state_dict(), state)
        if problem:
            raise UserError(f"{folder / part}.ckpt: does not fit {what}: {problem}")
    for part, state in states.items():
        modules[part].load_state_dict(state)


def read_checkpoint(path: str | Path) -> object:
    """Read a torch file of tensors and plain Python objects; it cannot run code.

    Arguments
    ---------
    path : str or pathlib.Path
        The file.

    Returns
    -------
    object
        The saved object, with its tensors on the CPU.

    Raises
    ------
    UserError
        The file is missing, empty or damaged, or holds other objects.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; name a file")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except Exception as error:  # a file that is not a pickle raises nearly anything
        needs = re.search(r"Unsupported (?:global|class)[^\n]*?([\w.]+\.\w+)", str(error))
        if needs:
            raise UserError(
                f"{path}: holds Python objects ({needs[1]}), which could run code; "
                "save its state dict alone"
            ) from error
        raise UserError(f"{path}: not a torch checkpoint, or damaged or cut short") from error


def _cpu_state(module):
    """Copy a state dict to the CPU, without the names that wrappers add."""
    while True:
        if isinstance(module, (torch.nn.parallel.DistributedDataParallel, torch.nn.DataParallel)):
            module = module.module
        elif hasattr(module, "_orig_mod"):  # torch.compile
            module = module._orig_mod
        else:
            break
    return {
        key: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for key, value in module.state_dict().items()
    }


def _misfit(hyperparams, states):
    """Describe why weights do not fit the modules that a file builds; None if they do."""
    try:
        with torch.random.fork_rng(devices=[]):  # training may continue
            modules = build_modules(hyperparams, trust=True)  # the file is the trainer's own
    except UserError as error:  # without the name of a temporary file
        return f"nothing can be built: {str(error).removeprefix(f'{hyperparams}: ')}"
    problems = {part: _mismatch(modules[part].state_dict(), states[part]) for part in states}
    return next((f"the {part} does not fit: {problem}" for part, problem in problems.items()
                 if problem), None)


def _mismatch(wanted, state):
    """Describe the first difference in names and shapes; None if the state dict fits."""
    if not isinstance(state, dict):
        return f"it holds a {type(state).__name__}, not a state dict"
    for key, value in wanted.items():
        if key not in state:
            return f"{key} is missing"
        if tuple(getattr(state[key], "shape", ())) != tuple(value.shape):
            got = list(getattr(state[key], "shape", ()))
            return f"{key} is {got}, expected {list(value.shape)}"
    return next((f"{key} is unexpected" for key in state if key not in wanted), None)


def missing_bundle(folder: str | Path, missing: str = HYPERPARAMS) -> UserError:
    """The error for a folder that is no bundle. It names the bundle of a training's folder."""
    folder = Path(folder)
    if not folder.is_dir():
        shipped = ", ".join(sorted(path.name for path in resource_folder("pretrained").glob("*")))
        return UserError(f"{folder}: no such bundle, as there is no such folder; name one with "
                         f"{', '.join(FILES)}, or one of {shipped}")
    for beside in (folder, *folder.absolute().parents[:2]):  # of save/CKPT+..., too
        if is_bundle(beside / "bundle"):
            return UserError(f"{folder}: is a folder of a training, not a bundle; name its bundle: "
                             f"{beside / 'bundle'}")
    return UserError(f"{folder}: no such bundle, or an incomplete one: {missing} is missing")


def _check_complete(folder):
    """Refuse a folder that is no bundle, or one of a newer format."""
    for name in FILES:
        if not (folder / name).is_file():
            raise missing_bundle(folder, name)
    text = (folder / HYPERPARAMS).read_text(encoding="utf-8", errors="replace")
    found = _FORMAT_LINE.search(text)
    if found and int(found[1]) > FORMAT:
        raise UserError(f"{folder}: is of bundle format {found[1]}, and this version reads up to "
                        f"{FORMAT}; install a newer papez-lobes")


def check_replaceable(folder: Path) -> None:
    """Raise UserError if a folder exists that is neither empty nor a bundle."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir() or not all((folder / name).is_file() for name in FILES):
        raise UserError(f"{folder}: exists and is not a bundle; name another folder")


def _sibling(folder):
    """A new hidden name beside the folder, on the same file system."""
    return folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")


def _swap_in(new, folder):
    """Rename `new` to `folder` and keep its other files; on failure the old folder returns.

    An ONNX file of the old weights is not kept.
    """
    if not folder.exists():
        os.rename(new, folder)
        return
    for entry in folder.iterdir():
        if entry.name not in (*FILES, ONNX_FILE):
            copy = shutil.copytree if entry.is_dir() else shutil.copy2
            copy(entry, new / entry.name)
    old = _sibling(folder)
    os.rename(folder, old)
    try:
        os.rename(new, folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.rename(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
