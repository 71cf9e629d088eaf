"""The one forward: mixture -> estimates. Training, evaluation and inference all call it."""

import inspect

import torch
from torch.nn import functional as F

from papez_lobes.lengths import to_counts, to_mask


def separate(modules, mixture, lengths=None, return_trace=False):
    """Separate a batch of mixtures.

    Modules that take lengths (ours) see the true length of each item. Others, such as
    SpeechBrain's, are run item by item where lengths differ. Either way an item gives the same
    estimates alone and in any batch.

    Arguments
    ---------
    modules : mapping of str to torch.nn.Module
        With `encoder`, `masknet` and `decoder`: SpeechBrain's `self.modules` (whose members may
        be wrapped for distributed training: gradients stay synchronised) or `self.mods`.
    mixture : torch.Tensor
        [B, T], floating point, T >= 1.
    lengths : torch.Tensor, optional
        [B], relative (SpeechBrain's convention).
    return_trace : bool
        Whether to return the trace of the recurrence too.

    Returns
    -------
    torch.Tensor or (torch.Tensor, papez_lobes.recurrent.Trace or None)
        Estimates [B, T, C], zero beyond an item's length; with `return_trace` also the trace
        (None for a masknet that has none).

    Example
    -------
    >>> from speechbrain.lobes.models.dual_path import Decoder, Encoder
    >>> modules = {
    ...     "encoder": Encoder(kernel_size=16, out_channels=4),
    ...     "masknet": lambda features: torch.stack([features, features]),
    ...     "decoder": Decoder(in_channels=4, out_channels=1, kernel_size=16, stride=8)}
    >>> separate(modules, torch.randn(3, 100)).shape
    torch.Size([3, 100, 2])
    """
    encoder, masknet, decoder = (modules[name] for name in ("encoder", "masknet", "decoder"))
    if lengths is not None and bool((lengths == 1).all()):
        lengths = None  # nothing is padded, so nothing needs a mask
    if lengths is not None and not all(map(_takes_lengths, (encoder, masknet, decoder))):
        return _separate_one_by_one(modules, mixture, lengths, return_trace)

    feature_lengths = None
    if lengths is None:
        features = encoder(mixture)
    else:
        features, feature_lengths = encoder(mixture, lengths)
    known = {} if lengths is None else {"lengths": feature_lengths}
    trace = None
    if return_trace and _takes(masknet, "return_trace"):
        masks, trace = masknet(features, return_trace=True, **known)
    else:
        masks = masknet(features, **known)

    speakers, batch = masks.shape[:2]
    if known:
        known["lengths"] = feature_lengths.repeat(speakers)
    # speakers share the decoder: one call for all of them
    estimates = decoder((masks * features).flatten(0, 1), **known).view(speakers, batch, -1)
    estimates = _fit(estimates, mixture.shape[1]).permute(1, 2, 0)  # [B, T, C]
    if lengths is not None:
        size = mixture.shape[1]
        estimates = estimates.masked_fill(~to_mask(to_counts(lengths, size), size).unsqueeze(-1), 0)
    return (estimates, trace) if return_trace else estimates


def match_mixture(estimates, mixture):
    """Give estimates the scale and sign that SI-SNR leaves free.

    One gain a speaker, chosen by least squares so that the estimates sum to the mixture as well
    as they can. For listening and for files; scores do not need it.

    Arguments
    ---------
    estimates : torch.Tensor
        [B, T, C], zero beyond each item's length.
    mixture : torch.Tensor
        [B, T], likewise.

    Returns
    -------
    torch.Tensor
        [B, T, C]. All zeros where the mixture is silent.

    Example
    -------
    >>> sources = torch.randn(1, 8000, 2)
    >>> matched = match_mixture(sources * torch.tensor([-0.1, 7.0]), sources.sum(-1))
    >>> bool(torch.allclose(matched, sources, atol=1e-3))
    True
    """
    wide = estimates.double()
    level = wide.square().mean(dim=1, keepdim=True).sqrt()
    wide = wide / level.clamp(min=torch.finfo(estimates.dtype).tiny)  # well conditioned
    gram = wide.transpose(1, 2) @ wide
    projection = wide.transpose(1, 2) @ mixture.double().unsqueeze(-1)  # [B, C, 1]
    gains = torch.linalg.pinv(gram, rtol=1e-6, hermitian=True) @ projection
    return (wide * gains.transpose(1, 2)).to(estimates.dtype)


def _takes(module, argument):
    """Whether a module's forward, under any wrapper, has that argument."""
    module = getattr(module, "module", module)  # DistributedDataParallel
    return argument in inspect.signature(getattr(module, "forward", module)).parameters


def _takes_lengths(module):
    return _takes(module, "lengths")


def _fit(estimates, size):
    """Cut or zero-pad the last axis to `size` samples."""
    return F.pad(estimates, (0, size - estimates.shape[-1]))


def _separate_one_by_one(modules, mixture, lengths, return_trace):
    size = mixture.shape[1]
    estimates = [
        separate(modules, item[None, :count]).squeeze(0)
        for item, count in zip(mixture, to_counts(lengths, size).tolist())
    ]
    estimates = torch.stack([F.pad(item, (0, 0, 0, size - item.shape[0])) for item in estimates])
    return (estimates, None) if return_trace else estimates
