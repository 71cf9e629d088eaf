"""Files that come with the package besides its code: separator files and trained bundles."""

from pathlib import Path


def resource_folder(name: str) -> Path:
    """The folder of separator files ('hparams') or of bundles ('pretrained').

    An installed package holds these folders. In a checkout they lie beside the package.

    Example
    -------
    >>> (resource_folder("hparams") / "papez.yaml").is_file()
    True
    """
    package = Path(__file__).parent
    return package / name if (package / name).is_dir() else package.parent / name
