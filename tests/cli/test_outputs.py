"""What exists is not replaced, by any option of any sub-command that names what it writes."""

import argparse
from pathlib import Path

import pytest

from papez_lobes.cli.main import COMMANDS, main
from tests.tiny import ROOT, write_tiny_bundle

# Options that take text and write nothing. All others that take text are taken for outputs: a new
# one is tried here unasked.
READS = {
    "evaluate": {"bundle", "data", "split", "measures", "overrides", "group_by", "device", "dtype"},
    "average": {"bundles"},
    "convert": {"checkpoint"},
    "bench": {"names", "device", "dtype", "speech", "baseline"},
    "export": {"bundle", "device", "dtype"},
    "list": set(),
    "serve": {"bundle", "device", "dtype", "host"},
}
# Commands that write into folders which may exist, and refuse only the files that would be
# replaced: their tests.
FOLDERS = {"separate": "tests/cli/test_separate.py", "live": "tests/cli/test_live.py",
           "mix": "tests/data/mixtures/test_lists.py"}


def parser_of(command):
    parser = argparse.ArgumentParser()
    COMMANDS[command].add_arguments(parser)
    return parser


def takes_text(action):
    return action.nargs != 0 and not action.choices and action.type in (None, str, Path)


OUTPUTS = [
    (command, action.dest)
    for command in sorted(COMMANDS.keys() - FOLDERS.keys())
    for action in parser_of(command)._actions
    if takes_text(action) and action.dest not in READS.get(command, ())
]


def words_of(command, output, path):
    """A command line that writes to a path, and whose other arguments are nowhere."""
    words = [command]
    for action in parser_of(command)._actions:
        value = str(path) if action.dest == output else "/nowhere"
        if not action.option_strings and (action.required or action.dest == output):
            words.append(value)
        elif action.dest == output:
            words += [action.option_strings[0], value]
    return words


def test_the_writers_are_found():
    assert {("bench", "json"), ("bench", "markdown"), ("bench", "figure"), ("convert", "out"),
            ("evaluate", "out")} <= set(OUTPUTS)
    for file in FOLDERS.values():
        assert (ROOT / file).is_file()


@pytest.mark.parametrize("command, output", OUTPUTS)
def test_what_exists_is_refused_before_anything_is_read(tmp_path, capsys, command, output):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    assert main(words_of(command, output, mine)) == 2
    line, = capsys.readouterr().err.splitlines()
    assert str(mine) in line and "exists" in line and "nowhere" not in line
    assert mine.read_text() == "mine" and [*tmp_path.iterdir()] == [mine]


@pytest.mark.parametrize("command", sorted({command for command, _ in OUTPUTS}))
def test_what_exists_is_replaced_where_that_is_asked_for(command):
    assert "--overwrite" in parser_of(command).format_help()


@pytest.mark.parametrize("name", [
    "results.csv", "summary.json", "summary.md", "evaluation.html", "worst/a.wav",
])
def test_no_file_of_a_folder_is_replaced_by_an_evaluation(tmp_path, capsys, name):
    mine = tmp_path / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert main(["evaluate", "/nowhere", "/nowhere", "--out", str(tmp_path / "out")]) == 2
    assert "exists; name another folder" in capsys.readouterr().err
    assert mine.read_text() == "mine" and sorted(mine.parent.iterdir()) == [mine]


def test_a_bundle_is_replaced_by_a_conversion_only_where_that_is_asked_for(tmp_path, capsys):
    bundle = write_tiny_bundle(tmp_path / "bundle")
    before = {path: path.read_bytes() for path in bundle.iterdir()}
    for words, message in ([], "exists; name another, or replace"), (["--overwrite"], "/nowhere: "):
        assert main(["convert", "/nowhere", str(bundle), *words]) == 2
        assert message in capsys.readouterr().err
        assert {path: path.read_bytes() for path in bundle.iterdir()} == before
