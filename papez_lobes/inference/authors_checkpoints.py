"""Conversion of checkpoints of the authors' code to bundles with the same output (for one item).

Sizes are read from the tensors. Heads, halting threshold and sample rate are not in them, and the
stride is half the kernel, as in the authors' code. The memory slots and the position code are
constants there as here: they are checked, not copied.
"""

import re
from pathlib import Path

import torch

from papez_lobes.config.separator_files import build_modules, separator_file
from papez_lobes.errors import UserError
from papez_lobes.inference.bundle import read_checkpoint, write_bundle

_ENC = "masknet.transformer.enc"
# our layer -> the authors' names of its weight and bias
_LAYERS = {
    "encoder.conv": "encoder.0.{}",
    "encoder.norm": "encoder.1.{}",
    "encoder.pointwise": "encoder.3.{}",
    "masknet.embed.linear_in": "masknet.embed.0.{}",
    "masknet.embed.norm": "masknet.embed.1.{}",
    "masknet.embed.activation": "masknet.embed.2.{}",
    "masknet.embed.linear_out": "masknet.embed.3.{}",
    "masknet.transformer.block.attention.in_proj": _ENC + ".self_attn.in_proj_{}",
    "masknet.transformer.block.attention.out_proj": _ENC + ".self_attn.out_proj.{}",
    "masknet.transformer.block.norm1": _ENC + ".norm1.{}",
    "masknet.transformer.block.linear1": _ENC + ".linear1.{}",
    "masknet.transformer.block.linear2": _ENC + ".linear2.{}",
    "masknet.transformer.block.norm2": _ENC + ".norm2.{}",
    "masknet.head.linear_in": "masknet.dislodge.0.{}",
    "masknet.head.norm": "masknet.dislodge.1.{}",
    "masknet.head.activation": "masknet.dislodge.2.{}",
    "masknet.head.linear_out": "masknet.dislodge.3.{}",
    "decoder.pointwise": "decoder.0.{}",
    "decoder.norm": "decoder.1.{}",
    "decoder.deconv": "decoder.3.{}",
}
NAMES = {  # our tensor -> the authors'
    f"{ours}.{kind}": theirs.format(kind)
    for ours, theirs in _LAYERS.items()
    for kind in (("weight",) if ours.endswith("activation") else ("weight", "bias"))
}
SLOTS, POSITIONS = "memory_slots", _ENC + ".position_signal"
DEAD = "masknet.transformer.timing_signal"  # the authors' code does not use it
# of linear maps; convolutions of width 1 there
POINTWISE = ("pointwise.weight", "linear_in.weight", "linear_out.weight")


def convert(
    checkpoint: str | Path, out: str | Path, num_heads: int = 8, halting_threshold: float = 0.9,
    sample_rate: int = 8000,
) -> dict:
    """Make a bundle from a checkpoint of the authors' code.

    Arguments
    ---------
    checkpoint : str or pathlib.Path
        A state dict, or a Lightning checkpoint that holds one, saved with `torch.save`.
    out : str or pathlib.Path
        Folder of the bundle.
    num_heads : int
        Attention heads H of the trained model.
    halting_threshold : float
        Halting threshold of the trained model, in (0, 1].
    sample_rate : int
        Sampling rate of its training data, in Hz.

    Returns
    -------
    dict
        Hyperparameters of the bundle: those that were read from the checkpoint or given.

    Raises
    ------
    UserError
        The file is not such a checkpoint (the message names the first tensor that is missing,
        unexpected or of a wrong shape), its constants are not the authors', the arguments do not
        fit it, or the bundle cannot be written.
    """
    if sample_rate < 1:
        raise UserError(f"sample_rate is {sample_rate}: it must be at least 1 Hz")
    tensors = _read_tensors(checkpoint)
    hyperparameters = {
        **_read_sizes(tensors, checkpoint),
        "num_heads": num_heads,
        "halting_threshold": halting_threshold,
        "sample_rate": sample_rate,
    }
    separator = separator_file("papez_official")
    try:
        modules = build_modules(separator, hyperparameters)
    except UserError as error:  # it names the separator's file, but the checkpoint is the cause
        reason = str(error).removeprefix(f"{separator}: ")
        raise UserError(f"{checkpoint}: cannot be built: {reason}") from error
    _check_constants(tensors, modules["masknet"], checkpoint)
    everything = torch.nn.ModuleDict(modules)
    everything.load_state_dict(_translate(everything, tensors, checkpoint))
    write_bundle(out, separator, hyperparameters, modules)
    return hyperparameters


def _read_tensors(path):
    """Read the authors' tensors by their plain names, and check that they are complete."""
    saved = read_checkpoint(path)
    if isinstance(saved, dict) and isinstance(saved.get("state_dict"), dict):
        saved = saved["state_dict"]  # Lightning's
    if not isinstance(saved, dict):
        raise UserError(f"{path}: holds a {type(saved).__name__}, not a state dict")
    tensors = {}
    for key, value in saved.items():
        # Lightning's and DistributedDataParallel's prefixes
        name = re.sub(r"^(model\.|module\.)+", "", str(key))
        if name in tensors:
            raise UserError(f"{path}: holds {name} twice, the second time as {key}")
        if name != DEAD:
            tensors[name] = value
    wanted = [*NAMES.values(), SLOTS, POSITIONS]
    for name in wanted:
        if name not in tensors:
            raise UserError(f"{path}: not a checkpoint of the authors' code: {name} is missing")
    for name, value in tensors.items():
        if name not in wanted:
            raise UserError(f"{path}: not a checkpoint of the authors' code: {name} is unexpected")
        if not torch.is_tensor(value) or not value.is_floating_point():
            raise UserError(f"{path}: {name} is not a tensor of floating point numbers")
    return tensors


def _read_sizes(tensors, path):
    """Read hyperparameters from the shapes of the tensors."""

    def shape(name, axes):
        """The shape of a tensor, which must have so many axes."""
        size = tensors[name].shape
        if len(size) != axes or (0 in size and name != SLOTS):  # without memory slots M is 0
            raise UserError(f"{path}: {name} is {list(size)}, expected {axes} axes")
        return size

    width, _, kernel_size = shape("encoder.0.weight", 3)
    slots = shape(SLOTS, 3)[2]
    num_steps, _ = shape(_ENC + ".norm1.weight", 2)
    masks = shape("masknet.dislodge.0.weight", 3)[0]
    if masks % width:
        raise UserError(
            f"{path}: masknet.dislodge.0.weight has {masks} rows, not a multiple of {width}"
        )
    positions = shape(POSITIONS, 3)
    chunk_tokens = positions[1] - slots
    if chunk_tokens < 2 or chunk_tokens % 2:
        raise UserError(
            f"{path}: {POSITIONS} is {list(positions)} and {SLOTS} is {list(tensors[SLOTS].shape)}:"
            f" they leave {chunk_tokens} tokens a chunk, which is not even and at least 2"
        )
    return {
        "num_spks": masks // width,
        "N_encoder_out": width,
        "kernel_size": kernel_size,
        "kernel_stride": kernel_size // 2,
        "ffn_dim": shape(_ENC + ".linear1.weight", 2)[0],
        "chunk_tokens": chunk_tokens,
        "num_slots": slots,
        "num_steps": num_steps,
    }


def _check_constants(tensors, masknet, path):
    """Refuse slots or positions that differ from the constants of our modules."""
    slots = masknet.memory.slots.t().unsqueeze(0)  # [1, N + 1, M]
    _check_shape(SLOTS, tensors[SLOTS], slots.shape, path)
    if not torch.equal(tensors[SLOTS].float(), slots):
        raise UserError(
            f"{path}: {SLOTS} is not the authors' constant (rows of an identity matrix and a tag "
            "of 1), and a bundle has no place for others"
        )
    positions = masknet.transformer.block.attention.positions.unsqueeze(0)  # [1, M + K, N]
    _check_shape(POSITIONS, tensors[POSITIONS], positions.shape, path)
    # tolerant of half precision and of angles that were computed in float32
    if not torch.allclose(tensors[POSITIONS].float(), positions, rtol=0, atol=1e-3):
        raise UserError(
            f"{path}: {POSITIONS} is not the sinusoidal code over memory slots and tokens, and a "
            "bundle has no place for another"
        )


def _translate(modules, tensors, path):
    """The authors' tensors as a state dict of all modules."""
    state = {}
    for ours, value in modules.state_dict().items():
        theirs = NAMES[ours]
        shape = (*value.shape, 1) if ours.endswith(POINTWISE) else value.shape
        _check_shape(theirs, tensors[theirs], shape, path)
        state[ours] = tensors[theirs].reshape(value.shape)
    return state


def _check_shape(name, value, shape, path):
    """Refuse a tensor of another shape."""
    if tuple(value.shape) != tuple(shape):
        raise UserError(f"{path}: {name} is {list(value.shape)}, expected {list(shape)}")
