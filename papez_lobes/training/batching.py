"""The options of the training data's loader."""

from speechbrain.dataio.sampler import DistributedSamplerWrapper, DynamicBatchSampler
from torch.utils.data import DistributedSampler

from papez_lobes.errors import UserError

BUCKETS = 20  # of like length


class ShareOfBatches(DistributedSamplerWrapper):
    """One process's share of the batches of a sampler.

    SpeechBrain's wrapper fails where the share is a single batch: it takes the batch's first index
    for the batch.

    Example
    -------
    >>> list(ShareOfBatches([[0, 1], [2, 3]], num_replicas=2, rank=1, shuffle=False))
    [[2, 3]]
    """

    def __iter__(self):
        batches = list(self.sampler)
        return (batches[index] for index in DistributedSampler.__iter__(self))


def train_loader_options(dataset, options, max_batch_seconds=None, seed=0):
    """The loader's options for a dataset.

    Arguments
    ---------
    dataset : torch.utils.data.Dataset
        Training data; of `papez_lobes.data.datasets` for batches by length.
    options : dict
        As in the experiment file.
    max_batch_seconds : float, optional
        Fill each batch up to that, padding included, with items of like length (SpeechBrain's
        dynamic batching, in another order each epoch); None: batches of `batch_size` items.
    seed : int
        Of the order.

    Returns
    -------
    dict
        For `Brain.fit`.

    Raises
    ------
    UserError
        The dataset's items have no lengths of their own to sort by, or all are too long.
    """
    if max_batch_seconds is None:
        return options
    if not hasattr(dataset, "data"):
        raise UserError("max_batch_seconds: mixtures made on the fly have one length; set "
                        "batch_size instead, and max_batch_seconds to null")
    seconds = [float(item["duration"]) for item in dataset.data.values()]
    if max(seconds) > max_batch_seconds:
        raise UserError(f"max_batch_seconds is {max_batch_seconds:g}: the longest mixture has "
                        f"{max(seconds):.1f} s; raise it")
    kept = {name: value for name, value in options.items() if name not in ("batch_size", "shuffle")}
    sampler = DynamicBatchSampler(
        dataset, max_batch_seconds, num_buckets=BUCKETS, lengths_list=seconds, shuffle=True,
        batch_ordering="random", seed=seed,
    )
    return kept | {"batch_sampler": sampler}
