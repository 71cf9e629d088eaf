"""What all tests share: one thread, work that is done once, small pictures, tiny separators."""

import gc
import io
import logging
import os
import pickle

# Before torch is imported; subprocesses inherit it. The tests' models are tiny, and threads that
# wait for each other cost them most.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import ruamel.yaml
from matplotlib.figure import Figure
from speechbrain.lobes.models import resepformer

from tests.tiny import build

gc.disable()  # while the tests are imported


def pytest_collection_finish():
    """From here on look for garbage, but not among what is imported, which stays anyway."""
    gc.freeze()
    gc.set_threshold(20_000)  # objects that a single test makes again and again
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def each_yaml_text_is_parsed_once():
    """Later readers of a text get a copy of its tree: parsing took most of the tests' time."""
    parse, trees = ruamel.yaml.YAML.load, {}

    def load(reader, stream):
        text = stream if isinstance(stream, str) else stream.read()
        key = text, tuple(reader.typ), reader.preserve_quotes
        if key not in trees:
            source = io.StringIO(text)
            source.name = getattr(stream, "name", "<text>")
            trees[key] = pickle.dumps(parse(reader, source))  # many times faster than deepcopy
        return pickle.loads(trees[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ruamel.yaml.YAML, "load", load)
        yield


@pytest.fixture(scope="session", autouse=True)
def nothing_waits_for_the_disk():
    """No power cut is tested: that files are synced is, where it matters (tests/test_files.py)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def torch_s_loggers_lead_to_the_root():
    """Else pytest puts its handlers at each of dozens, around each test."""
    loggers = [logger for name, logger in logging.root.manager.loggerDict.items()
               if name.partition(".")[0] == "torch" and isinstance(logger, logging.Logger)]
    with pytest.MonkeyPatch.context() as patch:
        for logger in loggers:
            patch.setattr(logger, "propagate", True)
        yield


@pytest.fixture(scope="session", autouse=True)
def pictures_and_tables_of_positions_are_small():
    """No test looks at pictures of 110 dots an inch, or needs ResePFormer's tables.

    Those have 100,000 rows in each layer, and are saved and copied.
    """
    save, encoding = Figure.savefig, resepformer.PositionalEncoding
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig",
                      lambda figure, *arguments, **options: save(
                          figure, *arguments, **options | {"dpi": 40}))
        patch.setattr(resepformer, "PositionalEncoding",
                      lambda input_size, max_len: encoding(input_size, min(max_len, 2500)))
        yield


@pytest.fixture
def tiny():
    """The builder of tiny separators, as a fixture."""
    return build


@pytest.fixture
def blank_pictures(monkeypatch):
    """Evaluate with an empty file for every mixture's picture, and draw no distribution.

    Drawing takes longer than all the rest.
    """

    def blank(path, *arguments):
        path.touch()
        return path

    monkeypatch.setattr("papez_lobes.evaluation.output_files.draw_separation", blank)
    monkeypatch.setattr("papez_lobes.evaluation.output_files.draw_distribution", lambda rows: b"")
