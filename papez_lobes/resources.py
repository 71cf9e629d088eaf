"""What comes with the package besides code: separator files and trained bundles."""

from pathlib import Path


def resource_folder(name):
    """The folder of that name in an installed package; in a checkout it lies at the top.

    Example
    -------
    >>> (resource_folder("hparams") / "papez.yaml").is_file()
    True
    """
    package = Path(__file__).parent
    return package / name if (package / name).is_dir() else package.parent / name
