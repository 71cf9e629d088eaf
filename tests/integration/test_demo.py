"""examples/demo at its smallest, with speech of one's own."""

import demo
import numpy as np
import pytest

from papez_lobes.data.audio import audio_info, write_audio
from tests.trees import SAMPLE_RATE, voice

pytestmark = pytest.mark.slow


@pytest.fixture
def speech(tmp_path):
    rng = np.random.default_rng(0)
    for speaker in range(3):
        for index in range(4):
            path = tmp_path / f"speech/voice{speaker}/u{index}.wav"
            write_audio(path, voice(speaker, 3.0, rng), SAMPLE_RATE)
    return tmp_path / "speech"


def test_it_trains_separates_and_says_where_everything_lies(
    speech, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(demo, "COUNTS", {"tr": 3, "cv": 2, "tt": 2})
    out = tmp_path / "out"
    demo.main(["--speech", str(speech), "--out", str(out), "--minutes", "0.01"])
    said = capsys.readouterr().out
    for step in range(1, 7):
        assert f"[{step}/6]" in said
    names = {path.name for path in out.iterdir()}
    assert {"separation.png", "2speakers", "training"} <= names
    estimates = sorted(path for path in out.glob("*.wav"))
    assert len(estimates) == 2
    shipped = sorted((out / "shipped").glob("*.wav")), out / "shipped/separation.png"
    assert len(shipped[0]) == 2 and "all 2 test mixtures: " in said
    for path in [*estimates, out / "separation.png", out / "training/bundle", *shipped[0],
                 shipped[1]]:
        assert str(path) in said
    mixture = min((out / "2speakers/wav8k/min/tt/mix").iterdir())
    assert audio_info(estimates[0]).frames == audio_info(mixture).frames
    assert (out / "separation.png").stat().st_size > 20_000
    assert "dB SI-SNRi, mean of 2 mixtures" in said


def test_too_few_speakers_is_one_line(tmp_path, capsys):
    write_audio(tmp_path / "s/alone/a.wav", np.zeros(800), SAMPLE_RATE)
    with pytest.raises(SystemExit, match="2"):
        demo.main(["--speech", str(tmp_path / "s"), "--out", str(tmp_path / "out")])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("demo: ")
