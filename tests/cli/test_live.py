"""papez live, with raw samples on standard input, and with a stand-in for the microphone."""

import io
import sys
from types import ModuleType

import numpy as np
import pytest
import soundfile

import papez_lobes
from papez_lobes.cli.main import main
from tests.pipes import Pipe
from tests.tiny import write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("b") / "bundle", "papez_small")


@pytest.fixture
def signal():
    return (3000 * np.random.default_rng(0).standard_normal(20001)).astype("<i2")


def listen(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Pipe(content, most=333))))


def test_raw_samples_on_standard_input_are_separated_to_files(
    bundle, tmp_path, monkeypatch, capsys, signal
):
    listen(monkeypatch, signal.tobytes())
    assert main(["live", "-", "-n", str(bundle), "-d", "cpu", "-o", str(tmp_path)]) == 0
    assert "real-time factor" in capsys.readouterr().err
    stream = papez_lobes.load(bundle, device="cpu").stream(0.5)
    wanted = np.concatenate([stream.feed(signal / 32768), stream.flush()], axis=1)
    for speaker in (1, 2):
        samples, rate = soundfile.read(tmp_path / f"live_s{speaker}.wav")
        assert rate == 8000 and np.abs(samples - wanted[speaker - 1]).max() < 1e-4
    listen(monkeypatch, signal.tobytes())
    assert main(["live", "-", "-n", str(bundle), "-d", "cpu", "-o", str(tmp_path)]) == 2
    assert "exists" in capsys.readouterr().err


def test_raw_samples_go_to_standard_output(bundle, monkeypatch, signal):
    floats = (signal / 32768).astype("<f4")
    written = io.BytesIO()
    listen(monkeypatch, floats.tobytes())
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written))
    words = ["live", "-", "-n", str(bundle), "-d", "cpu", "--rate", "16000", "--format", "f32le"]
    assert main(words) == 0
    estimates = np.frombuffer(written.getvalue(), "<f4").reshape(-1, 2)
    assert len(estimates) == len(floats) and np.isfinite(estimates).all() and estimates.any()


def test_ctrl_c_keeps_what_was_heard(bundle, tmp_path, monkeypatch, signal):
    sounddevice = ModuleType("sounddevice")
    sounddevice.PortAudioError = OSError

    class InputStream:
        def __init__(self, callback, blocksize, **_):
            self.callback, self.blocksize = callback, blocksize

        def __enter__(self):
            for at in range(0, 8000, self.blocksize):
                block = signal[at : at + self.blocksize, None] / np.float32(32768)
                self.callback(block, len(block), None, None)

        def __exit__(self, *_):
            pass

    sounddevice.InputStream = InputStream
    monkeypatch.setitem(sys.modules, "sounddevice", sounddevice)
    get = papez_lobes.cli.live.queue.Queue.get

    def interrupted(blocks):
        if blocks.empty():
            raise KeyboardInterrupt
        return get(blocks)

    monkeypatch.setattr(papez_lobes.cli.live.queue.Queue, "get", interrupted)
    assert main(["live", "-n", str(bundle), "-d", "cpu", "-o", str(tmp_path)]) == 0
    assert soundfile.info(tmp_path / "live_s2.wav").frames == 8000


@pytest.mark.parametrize("words, said", [
    (["-"], "gave no samples"),
    (["a.wav"], "name microphone or -"),
    (["-", "--rate", "0"], "--rate 0"),
    (["microphone"], "sounddevice"),
    (["-", "--play", "3"], "speakers 1 to 2"),
    (["-", "--latency", "0"], "latency"),
    (["-", "--latency", "1e-5"], "latency"),
    (["-", "--latency", "nan"], "latency"),
    (["-", "--latency", "inf"], "latency"),
])
def test_mistakes_are_one_line(bundle, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    listen(monkeypatch, b"")
    assert main(["live", *words, "-n", str(bundle), "-d", "cpu", "-o", str(tmp_path / "o")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("papez live:") and said in line
    assert not list(tmp_path.iterdir())
