"""The papez command: help, version and the list of bundles."""

import json
import subprocess
import sys

import pytest

from papez_lobes import __version__
from papez_lobes.cli.main import COMMANDS, main
from papez_lobes.resources import resource_folder

SCRIPT = """
import contextlib, io, json, sys, time
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        started = time.process_time()
        from papez_lobes.cli.main import main
        assert main(words) == 0, words
        seconds = time.process_time() - started  # of CPU: others do not slow it
    heavy = [name for name in ("torch", "speechbrain", "numpy", "scipy") if name in sys.modules]
    print(json.dumps([words, shown.getvalue(), seconds, heavy]))
"""


def test_help_needs_no_torch():
    asked = [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)]
    command = [sys.executable, "-c", SCRIPT, json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [words for words, *_ in answers] == asked
    for words, shown, seconds, heavy in answers:
        assert heavy == [] and seconds < 0.3, words
        assert (f"papez {__version__}" if words == ["--version"] else "usage: papez") in shown


def test_without_a_command_it_says_what_there_is(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"    {name} " in shown for name in COMMANDS)
    assert main([]) == 2


@pytest.mark.parametrize("words, named", [
    (["separate", "a.wav", "-o", ""], "-o"), (["bench", "--json="], "--json"),
    (["evaluate", "", "tt.csv"], "evaluate"), (["mix", "speech", ""], "speech"),
])
def test_an_empty_path_is_one_line(tmp_path, monkeypatch, capsys, words, named):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith(f"papez: an empty value follows {named};")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("words", [
    ["separate", "~/a.wav"], ["evaluate", "~/model", "x"], ["bench", "--speech=~/a.wav"],
    ["bench", "--json=~/made/speed.json", "nowhere"], ["mix", "~/speech", "out"],
])
def test_a_home_folder_is_found_in_every_path(tmp_path, monkeypatch, words):
    """No shell does so behind `--option=`."""
    monkeypatch.setenv("HOME", "/my home")
    seen = []
    monkeypatch.setattr(COMMANDS[words[0]], "run", lambda arguments: seen.append(vars(arguments)))
    assert main(words) == 0
    assert "/my home/" in str(seen) and "~" not in str(seen)


def test_the_bundles_are_listed(capsys):
    assert main(["list"]) == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    assert "speakers" in head and len(cells) == len(list(resource_folder("pretrained").iterdir()))
    assert cells[0][:4] == ["papez-base-8k", "2", "8000", "3.41 M"]  # the best is the first
    assert cells[1][:4] == ["papez-small-8k", "2", "8000", "1.10 M"]
    assert cells[0][4].endswith(" MB")
    for name, *_, score in cells:
        card = (resource_folder("pretrained") / name / "README.md").read_text(encoding="utf-8")
        number, mixtures = score.rstrip(")").split(" (")
        text = card.split("---\n", 2)[2]
        assert f"+{number} dB" in text and mixtures in text  # the text says the same


def test_a_package_that_is_missing_is_one_line(monkeypatch, capsys):
    def run(arguments):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("papez_lobes.cli.list_bundles.run", run)
    assert main(["list"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("papez list: needs the package torch") and "pip install" in line
