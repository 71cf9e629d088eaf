"""What all tests share: one thread, YAML texts that are parsed once, and tiny separators."""

import io
import os
import pickle

# Before torch is imported; subprocesses inherit it. The tests' models are tiny, and threads that
# wait for each other cost them most.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import ruamel.yaml

from tests.tiny import build


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


@pytest.fixture
def tiny():
    """The builder of tiny separators, as a fixture."""
    return build
