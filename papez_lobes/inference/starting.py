"""Training that begins with the weights of a bundle."""

from papez_lobes.inference.bundle import load_bundle, load_weights


def start_from(folder, modules):
    """Load a bundle's weights into the modules of an experiment.

    The experiment's knobs stay as they are, also those that change what the weights mean, such as
    `chunk_tokens`: a model can grow. Steps beyond the bundle's `max_depth` were never trained:
    their norms begin as those of its last step.

    Arguments
    ---------
    folder : str or pathlib.Path
        The bundle.
    modules : mapping of str to torch.nn.Module
        `encoder`, `masknet` and `decoder`.

    Raises
    ------
    UserError
        There is no such bundle, or its weights do not fit the modules.

    Example
    -------
    >>> from papez_lobes.inference.bundle import write_bundle
    >>> from papez_lobes.knobs import build_modules, separator_file
    >>> papez, tiny = separator_file("papez"), {"N_encoder_out": 16, "num_steps": 4}
    >>> trained, new = build_modules(papez, tiny), build_modules(papez, tiny)
    >>> norm = trained["masknet"].transformer.block.norm1
    >>> _ = norm.bias.data[1].fill_(2)
    >>> bundle = getfixture("tmp_path") / "bundle"
    >>> _ = write_bundle(bundle, papez, tiny | {"max_depth": 2}, trained)
    >>> start_from(bundle, new)
    >>> new["masknet"].transformer.block.norm1.bias[:, 0].tolist()
    [0.0, 2.0, 2.0, 2.0]
    """
    load_weights(folder, modules)
    depth = getattr(load_bundle(folder).hparams, "max_depth", None)
    for module in modules["masknet"].modules():
        if hasattr(module, "repeat_from") and depth is not None:
            module.repeat_from(depth - 1)
