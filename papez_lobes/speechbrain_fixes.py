"""SpeechBrain's separator parts where its own are wrong: short inputs, and memory in batches.

Each has its parent's parameters under the same names, so that weights trained with either load
into the other. Parts that are right as they are (the decoder, Conv-TasNet's and the dual-path
mask networks) are named by the separator files straight from SpeechBrain.
"""

import torch
from speechbrain.lobes.models import dual_path, resepformer
from torch.nn import functional as F

from papez_lobes.lengths import check_mixture


class Encoder(dual_path.Encoder):
    """SpeechBrain's encoder, for inputs of any length from one sample on.

    Its parent refuses inputs shorter than the kernel; here zeros are appended to those. As in
    the parent, the up to kernel_size // 2 - 1 last samples that fill no frame are not seen.

    Arguments
    ---------
    kernel_size : int
        In samples, >= 2; the stride is half of it.
    out_channels : int
        Width N of the features.

    Example
    -------
    >>> encoder = Encoder(kernel_size=16, out_channels=4)
    >>> [encoder(torch.randn(2, samples)).shape[-1] for samples in (1, 16, 23, 24)]
    [1, 1, 1, 2]
    """

    def __init__(self, kernel_size, out_channels):
        if kernel_size < 2:
            raise ValueError(
                f"kernel_size is {kernel_size}: it must be at least 2, as the stride is half of it"
            )
        super().__init__(kernel_size, out_channels)

    def forward(self, mixture):
        """Mixture [B, T], T >= 1, to features [B, N, L]; ValueError if it is no mixture."""
        check_mixture(mixture)
        missing = self.conv1d.kernel_size[0] - mixture.shape[1]
        return super().forward(F.pad(mixture, (0, max(missing, 0))))


class ResourceEfficientSeparator(resepformer.ResourceEfficientSeparator):
    """SpeechBrain's RE-SepFormer mask network, with each item's memory its own.

    Its parent hands the segment means of the whole batch to the memory transformer as one
    sequence, so that an item attends to the others. Here the items run one by one.

    Arguments are the parent's.

    Example
    -------
    >>> block = resepformer.SBTransformerBlock_wnormandskip(1, 16, nhead=2, dropout=0.0)
    >>> masknet = ResourceEfficientSeparator(
    ...     16, num_spk=2, mem_type="av", layer=2, seg_model=block, mem_model=block).eval()
    >>> features = torch.randn(3, 16, 50)
    >>> bool(torch.allclose(masknet(features)[:, 1:2], masknet(features[1:2]), atol=1e-5))
    True
    """

    def forward(self, features):
        """Features [B, N, L] to masks [C, B, N, L]."""
        masks_of = super().forward
        return torch.cat([masks_of(item) for item in features.split(1)], dim=1)
