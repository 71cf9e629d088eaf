"""papez bench, at tiny size, from its command line."""

import json
import re

import pytest

from papez_lobes.cli.main import main
from papez_lobes.profiling import comparison, timing
from papez_lobes.profiling.comparison import Comparison
from papez_lobes.profiling.cost import peak_in_child
from papez_lobes.profiling.models import model_specs
from tests.tiny import COARSE, tiny_separator_file

KEYS = {
    "model": str, "seconds": (int, float), "dtype": str, "threads": int, "device": str,
    "rtf": float, "mean_depth": (float, type(None)), "params": int,
    "macs_per_second": (float, type(None)), "peak_bytes": (int, type(None)),
}


PEAK = 12_345  # bytes
SPEECHBRAINS = ("convtasnet", "dprnn", "sepformer", "resepformer", "skim")


@pytest.fixture
def small(tmp_path):
    return tiny_separator_file(tmp_path, **COARSE)


@pytest.fixture(autouse=True)
def short_measurements(monkeypatch):
    monkeypatch.setattr(timing, "MIN_SECONDS", 0.001)


@pytest.fixture(autouse=True)
def memory_is_not_measured(monkeypatch):
    """A process to measure memory in takes seconds to start: one test has some."""
    monkeypatch.setattr(comparison, "peak_in_child", lambda *arguments: PEAK)


def bench(*argv):
    return main(["bench", *map(str, argv), "--rounds", "2", "--threads", "1"])


def test_memory_is_that_of_one_separation_in_a_process_of_its_own(small, tmp_path):
    peaks = [peak_in_child(model_specs(str(small), 1.5)[0], 0.5, dtype, bias=0.0)
             for dtype in ("float32", "int8")]
    for name in SPEECHBRAINS:
        file = tiny_separator_file(tmp_path, name)
        peaks.append(peak_in_child(model_specs(str(file), 1.5)[0], 0.3))
    assert all(0 < peak < 1e9 for peak in peaks)


def test_measurements_are_written_as_json_table_and_figure(small, tmp_path, capsys):
    out = {kind: tmp_path / f"out.{kind}" for kind in ("json", "md", "png")}
    assert bench(
        small, "--seconds", 0.5, 1, "--mean-depth", 1.5, "--train", "--train-seconds", 0.5,
        "--json", out["json"], "--markdown", out["md"], "--figure", out["png"],
    ) == 0
    rows = json.loads(out["json"].read_text())
    assert all(isinstance(row[key], kind) for row in rows for key, kind in KEYS.items())
    separations = [row for row in rows if row["task"] == "separate"]
    assert {row["seconds"] for row in separations} == {0.5, 1}
    depths = {row["kind"]: row["mean_depth"] for row in separations if row["seconds"] == 1}
    assert depths["mean depth"] == pytest.approx(1.5, abs=0.05)
    assert depths["same depth"] == 2 and depths["all steps"] == 3
    macs = {row["kind"]: row["macs_per_second"] for row in separations if row["seconds"] == 1}
    assert macs["mean depth"] < macs["same depth"] < macs["all steps"]
    assert all(row["peak_bytes"] == PEAK for row in separations)
    assert [row["kind"] for row in rows if row["task"] == "train"]
    printed = capsys.readouterr().out
    assert out["md"].read_text() in printed
    assert re.search(r"\| small_papez, mean depth 1\.5 \|", printed)
    assert out["png"].read_bytes().startswith(b"\x89PNG")


def test_interrupted_it_writes_what_was_measured_until_then(small, tmp_path, monkeypatch, capsys):
    def interrupted(self, seconds, dtype, threads):
        raise KeyboardInterrupt

    monkeypatch.setattr(Comparison, "train", interrupted)
    out = {kind: tmp_path / f"out.{kind}" for kind in ("json", "md", "png")}
    assert bench(small, "--seconds", 0.5, "--mean-depth", 1.5, "--train", "--no-memory", "--json",
                 out["json"], "--markdown", out["md"], "--figure", out["png"]) == 130
    assert {row["task"] for row in json.loads(out["json"].read_text())} == {"separate"}
    assert "what had not been measured when this was interrupted" in out["md"].read_text()
    assert out["png"].read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().err.endswith("papez bench: stopped\n")

    monkeypatch.setattr(Comparison, "separate", interrupted)
    assert bench(small, "--seconds", 0.5, "--no-memory", "--json", tmp_path / "none.json") == 130
    assert not (tmp_path / "none.json").exists()


def test_other_precisions_are_measured_beside_single_precision(small, tmp_path):
    out = tmp_path / "out.json"
    options = ["--mean-depth", 1.5, "--dtype", "float32", "bfloat16", "int8", "--json", out]
    options += ["--train", "--train-seconds", 0.2]
    assert bench(small, "--seconds", 0.3, *options) == 0
    rows = json.loads(out.read_text())
    trained = {row["dtype"] for row in rows if row["task"] == "train"}
    assert trained == {"float32", "bfloat16"}  # int8 is for inference
    rows = {(row["kind"], row["dtype"]): row for row in rows if row["task"] == "separate"}
    for kind in ("mean depth", "all steps"):
        wide, narrow = rows[kind, "float32"], rows[kind, "int8"]
        assert narrow["params"] == wide["params"] and narrow["peak_bytes"] == PEAK
        assert narrow["macs_per_second"] == pytest.approx(wide["macs_per_second"], rel=0.05)


def test_speechbrains_separators_are_measured_beside_ours(small, tmp_path):
    files = [small, *(tiny_separator_file(tmp_path, name) for name in SPEECHBRAINS)]
    out = tmp_path / "out.json"
    options = ["--mean-depth", 1.5, "--train", "--train-seconds", 0.1, "--json", out]
    assert bench(*files, "--seconds", 0.1, *options) == 0
    rows = json.loads(out.read_text())
    for task in ("separate", "train"):
        models = {row["model"] for row in rows if row["task"] == task}
        assert models >= {file.stem for file in files[1:]}
    for row in rows:
        assert row["rtf"] > 0 and row["params"] > 0
        if row["task"] == "separate":
            assert row["macs_per_second"] > 0 and row["peak_bytes"] == PEAK


def test_modules_of_python_files_are_run_beside_it(small, tmp_path, capsys):
    file = tmp_path / "plain.py"
    file.write_text(
        "import torch\n"
        "class Half(torch.nn.Module):\n"
        "    def __init__(self, gain=0.5):\n"
        "        super().__init__()\n"
        "        self.gain = torch.nn.Parameter(torch.tensor(gain))\n"
        "    def forward(self, mixture):\n"
        "        return torch.stack([mixture * self.gain] * 2, dim=-1)\n"
    )
    names = [small, f"{file}:Half", f"{file}:Nothing"]
    options = ["--baseline", f"{file}:Half", "--train", "--train-seconds", 0.5]
    out = tmp_path / "out.json"
    assert bench(*names, "--seconds", 0.5, "--no-memory", *options, "--json", out) == 0
    rows = json.loads(out.read_text())
    assert {row["kind"] for row in rows} >= {"baseline", "module", "all steps"}
    assert {row["task"] for row in rows if row["kind"] == "module"} == {"separate", "train"}
    assert {row["params"] for row in rows if row["kind"] == "module"} == {1}
    printed = capsys.readouterr().out
    assert "Nothing cannot be built" in printed and "| faster, 0.5 s |" in printed
    assert bench(f"{file}:Nothing", "--seconds", 0.5) == 2
    assert "none of the separators can be built" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv, message",
    [
        (["papezz"], "papezz: no such separator"),
        (["papez", "--rounds", "0"], "--rounds must be at least 1"),
        (["papez", "--device", "cuda:99"], "device 'cuda:99' cannot be used here"),
        (["papez", "--dtype", "float8"], "--dtype float8: it must be one of float32"),
    ],
)
def test_a_mistake_is_one_line(capsys, argv, message):
    assert main(["bench", *argv]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]
