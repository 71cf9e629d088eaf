"""Mozilla Common Voice: the speakers of its clips, from the tables beside them."""

import csv
from pathlib import Path

from papez_lobes.errors import UserError

CLIPS = "clips"
# The table that is read unless another is named: the speakers of dev and test are not in train.
TABLES = ("train.tsv", "validated.tsv")


def default_table(folder: str | Path) -> str | None:
    """Return the table of a Common Voice folder to read, or None for another folder."""
    if not Path(folder, CLIPS).is_dir():
        return None
    return next((name for name in TABLES if Path(folder, name).is_file()), None)


def read_clips(folder: str | Path, table: str) -> list[tuple[str, Path]]:
    """Read the clips of a table in the folder of one language: sorted (speaker, clip).

    A table is a tab-separated file with the columns client_id and path. The clips may be missing.
    UserError if there is no such table, or it has other columns.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "dev.tsv").write_text("client_id\\tpath\\tsentence\\nab1\\tc7.mp3\\tHi\\n")
    >>> read_clips(folder, "dev.tsv") == [("ab1", folder / "clips" / "c7.mp3")]
    True
    """
    path = Path(folder, table)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        return sorted((row["client_id"], Path(folder, CLIPS, row["path"])) for row in rows)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name a table of Common Voice, "
                        "such as train.tsv") from error
    except (UnicodeDecodeError, csv.Error, KeyError, TypeError) as error:
        reason = "not a text" if isinstance(error, UnicodeDecodeError) else repr(error)
        raise UserError(f"{path}: is no table of Common Voice, with the columns client_id and path "
                        f"({reason}); name another, such as train.tsv") from error
