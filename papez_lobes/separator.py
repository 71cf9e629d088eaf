"""The separator: mixture to estimates."""

import torch
from torch import nn
from torch.nn import functional as F

from papez_lobes.lengths import check_mixture, length_mask, to_counts


class Separator(nn.Module):
    """Encoder, mask network and decoder: mixture [B, T] to estimates [B, T, C].

    In evaluation an item has the same estimates alone and in any batch, unless the block attends
    padding as the authors do. Estimates are exactly as long as the mixture. Parts that state
    `takes_lengths = True` (ours) are told the true length of each item. With others, such as
    SpeechBrain's, items are run one by one where lengths differ.

    Arguments
    ---------
    encoder : torch.nn.Module
        Mixture [B, T] to features [B, N, L]; with lengths, also the features' lengths.
    masknet : torch.nn.Module
        Features to masks [C, B, N, L]. One that states `gives_trace = True` returns the trace of
        its recurrence too if it is asked with `return_trace=True`.
    decoder : torch.nn.Module
        Masked features [B, N, L] of one speaker to a waveform.

    Example
    -------
    >>> from speechbrain.lobes.models.dual_path import Decoder, Encoder
    >>> separator = Separator(
    ...     encoder=Encoder(kernel_size=16, out_channels=4),
    ...     masknet=lambda features: torch.stack([features, features]),
    ...     decoder=Decoder(in_channels=4, out_channels=1, kernel_size=16, stride=8))
    >>> separator(torch.randn(3, 100)).shape
    torch.Size([3, 100, 2])
    """

    def __init__(self, encoder: nn.Module, masknet: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.masknet = masknet
        self.decoder = decoder

    @classmethod
    def of(cls, modules) -> "Separator":
        """A separator of the parts in a mapping, such as the `mods` of SpeechBrain's interface."""
        return cls(modules["encoder"], modules["masknet"], modules["decoder"])

    @property
    def parts(self) -> dict[str, nn.Module]:
        """`encoder`, `masknet` and `decoder` by name."""
        return {"encoder": self.encoder, "masknet": self.masknet, "decoder": self.decoder}

    def forward(
        self, mixture: torch.Tensor, lengths: torch.Tensor | None = None,
        return_trace: bool = False,
    ):
        """Separate a batch of mixtures.

        Arguments
        ---------
        mixture : torch.Tensor
            [B, T], floating point, T >= 1.
        lengths : torch.Tensor, optional
            [B], relative (SpeechBrain's convention). None: all items are T samples long.
        return_trace : bool
            True: also return the trace of the recurrence.

        Returns
        -------
        torch.Tensor or (torch.Tensor, papez_lobes.recurrent.Trace or None)
            Estimates [B, T, C], zeros beyond an item's length; with `return_trace` also the
            trace, which is None where the mask network has no recurrence or items are run one by
            one.

        Raises
        ------
        ValueError
            The mixture is not a non-empty floating point tensor [B, T].
        """
        check_mixture(mixture)
        size = mixture.shape[1]
        if lengths is not None and bool((lengths == 1).all()):
            lengths = None  # there is no padding
        if lengths is not None and not self._takes_lengths():
            estimates = self._separate_one_by_one(mixture, lengths)
            return (estimates, None) if return_trace else estimates

        features, feature_lengths = self._encode(mixture, lengths)  # [B, N, L]
        masks, trace = self._estimate_masks(features, feature_lengths, return_trace)
        estimates = self._decode(masks * features, feature_lengths)  # [C, B, T' >= T]
        estimates = F.pad(estimates, (0, size - estimates.shape[-1])).permute(1, 2, 0)  # [B, T, C]
        if lengths is not None:
            estimates = estimates.masked_fill(~length_mask(lengths, size).unsqueeze(-1), 0)
        return (estimates, trace) if return_trace else estimates

    def _takes_lengths(self):
        """True if all parts can be told the lengths of the items."""
        return all(getattr(part, "takes_lengths", False) for part in self.parts.values())

    def _encode(self, mixture, lengths):
        """Features [B, N, L] and their lengths [B], which are None where there is no padding."""
        if lengths is None:
            return self.encoder(mixture), None
        return self.encoder(mixture, lengths)

    def _estimate_masks(self, features, lengths, return_trace):
        """Masks [C, B, N, L], and the trace or None."""
        options = {} if lengths is None else {"lengths": lengths}
        if return_trace and getattr(self.masknet, "gives_trace", False):
            return self.masknet(features, return_trace=True, **options)
        return self.masknet(features, **options), None

    def _decode(self, masked, lengths):
        """Masked features [C, B, N, L] of all speakers to waveforms [C, B, T']."""
        speakers, batch = masked.shape[:2]
        options = {} if lengths is None else {"lengths": lengths.repeat(speakers)}
        return self.decoder(masked.flatten(0, 1), **options).view(speakers, batch, -1)

    def _separate_one_by_one(self, mixture, lengths):
        """Estimates [B, T, C] of items that are separated by themselves."""
        size = mixture.shape[1]
        counts = to_counts(lengths, size).tolist()
        items = [self(item[None, :count]) for item, count in zip(mixture, counts)]
        return torch.cat([F.pad(item, (0, 0, 0, size - item.shape[1])) for item in items])
