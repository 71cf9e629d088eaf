"""The authors' computation as a baseline, in the independent implementation of the tests.

    papez bench papez --train --baseline benchmarks/authors_papez.py:AllSteps
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.oracles.authors_papez import AuthorsPapez


class AllSteps(AuthorsPapez):
    """The authors' Papez, with a halting threshold that no token reaches: all 16 steps run.

    The dropout is the authors'; it only acts in training.
    """

    def __init__(self):
        super().__init__(threshold=99, dropout=0.1)
