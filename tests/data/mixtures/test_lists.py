"""Lists of mixtures: format, names, round trips, draws, and files that are not as a list says."""

import numpy as np
import pytest
import soundfile

from papez_lobes.data.audio import write_audio
from papez_lobes.data.lookup import find_audio
from papez_lobes.data.mixtures.lists import read_list, unusable_files, write_list
from papez_lobes.data.mixtures.plans import (
    MixturePlan,
    draw_utterances,
    plan_mixtures,
    plan_utterances,
)
from papez_lobes.data.mixtures.speakers import Utterance, split_speakers
from papez_lobes.errors import UserError

PUBLISHED = """\
wsj0/si_et_05/445/445c0206.wav 0.60431 wsj0/si_et_05/22g/22gc0105.wav -0.60431
wsj0/si_et_05/440/440c0201.wav 2.1 wsj0/si_et_05/051/051o020b.wav -2.1
"""


@pytest.fixture
def write(tmp_path):
    def write_text(text):
        path = tmp_path / "list.txt"
        path.write_text(text)
        return path

    return write_text


@pytest.fixture(scope="module")
def speakers():
    return {
        f"spk{number}": [Utterance(f"spk{number}/{number}_{index}.flac", 3.0, 16000)
                         for index in range(5)]
        for number in range(9)
    }


def test_names_are_those_of_wsj0mix(write):
    assert [plan.name for plan in read_list(write(PUBLISHED))] == [
        "445c0206_0.60431_22gc0105_-0.60431", "440c0201_2.1_051o020b_-2.1"]
    three, = read_list(write("a/x.wav 1.234567 b/y.wav -1.234567 c/z.wav 0"))
    assert three.name == "x_1.2346_y_-1.2346_z_0"
    assert plan_utterances(["x.wav", "y.wav"], [0.0, -0.0]).name == "x_0_y_0"


def test_plans_hold_what_the_list_says(write):
    plan = read_list(write(PUBLISHED))[0]
    assert [source.speaker for source in plan.sources] == ["445", "22g"]
    assert [source.gain_db for source in plan.sources] == [0.60431, -0.60431]
    assert plan.seconds is None and MixturePlan.from_json(plan.to_json()) == plan


def test_lists_survive_reading_and_writing(write, tmp_path):
    out = tmp_path / "again.txt"
    write_list(read_list(write(PUBLISHED)), out)
    assert out.read_text() == PUBLISHED
    gains = "a.wav 1e-05 b.wav -1.0123456789 c.wav 0\n"
    write_list(read_list(write(gains)), out.with_name("3.txt"))
    assert out.with_name("3.txt").read_text() == gains
    with pytest.raises(UserError, match="is there already, with other mixtures"):
        write_list(read_list(write(gains)), out)
    assert out.read_text() == PUBLISHED


def test_line_ends_blank_lines_and_marks_of_other_systems_are_read(write, tmp_path):
    path = tmp_path / "windows.txt"
    path.write_bytes(b"\xef\xbb\xbf" + PUBLISHED.replace("\n", "\r\n").encode() + b"\r\n")
    assert read_list(path) == read_list(write(PUBLISHED))


@pytest.mark.parametrize("text, said", [
    ("", "names no mixtures"),
    ("a.wav 1 b.wav", "line 1: is not `path gain path gain ...`"),
    ("a.wav 1 b.wav -1\n\na.wav one b.wav -1", "line 3: is not"),
    ("a.wav nan b.wav -1", "line 1: is not"),
    ("my speech/a.wav 1 b.wav -1", "no spaces within paths"),
    ("a.wav 1 b.wav -1\na.wav 1 b.wav -1 c.wav 0", r"line 2: has 3 speaker\(s\), .* it 2"),
    ("x/a.wav 1 b.wav -1\ny/a.wav 1 b.wav -1", "line 2: its mixture has the name of line 1's"),
    ("x/a.wv2 1 b.wav -1", "line 1: x/a.wv2: is WSJ0's second microphone"),
])
def test_bad_lists_are_refused_in_one_line(write, text, said):
    path = write(text)
    with pytest.raises(UserError, match=said) as caught:
        read_list(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_what_is_no_list_is_refused(tmp_path):
    write_audio(tmp_path / "a.flac", np.zeros(800), 8000)
    for name, said in (("none.txt", "No such file"), (".", "directory"), ("a.flac", "not a text")):
        with pytest.raises(UserError, match=said):
            read_list(tmp_path / name)


def test_only_whole_utterances_fit_a_list(speakers, tmp_path):
    with pytest.raises(ValueError, match="whole utterances"):
        write_list(plan_mixtures(speakers, 1, 2), tmp_path / "a.txt")
    with pytest.raises(UserError, match="cannot hold a path with spaces"):
        write_list([plan_utterances(["dan o/1.wav"], [0])], tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("num_spks", [1, 2, 3, 4])
def test_draws_are_those_of_wsj0mix(speakers, num_spks, tmp_path):
    plans = draw_utterances(speakers, 30, num_spks, seed=3)
    assert plans == draw_utterances(speakers, 30, num_spks, seed=3)
    assert plans[:7] == draw_utterances(speakers, 7, num_spks, seed=3)
    assert len({plan.name for plan in plans}) == 30
    for plan in plans:
        assert len({source.speaker for source in plan.sources}) == num_spks
        gains = [source.gain_db for source in plan.sources]
        assert all(0 <= gain <= 2.5 for gain in gains[::2])
        assert sum(gains) == 0 and (num_spks % 2 == 0 or gains[-1] == 0)
    write_list(plans, tmp_path / "list.txt")
    assert read_list(tmp_path / "list.txt") == plans


def test_splits_by_speaker_share_none(speakers):
    heard = [{source.speaker for plan in draw_utterances(part, 50, 2) for source in plan.sources}
             for part in split_speakers(speakers).values()]
    assert sum(map(len, heard)) == len(set.union(*heard)) == 9


def test_too_little_speech_for_a_list_is_refused(speakers):
    with pytest.raises(UserError, match=r"9 speaker\(s\): too few for mixtures of 10"):
        draw_utterances(speakers, 1, 10)
    with pytest.raises(UserError, match="not as many different ones"):
        draw_utterances(speakers, 46, 1)


def test_a_file_is_found_whichever_suffix_it_has(tmp_path):
    for name in ("a.wav", "a.wv1", "b.wv1", "b.wv2", "c.WV1", "d.flac", "e.f.flac"):
        (tmp_path / name).touch()
    found = [find_audio(tmp_path, name).name
             for name in ("a.wav", "a.wv1", "b.wav", "c.wav", "d.wav", "d", "e.f", "e.f.wav")]
    assert found == [
        "a.wav", "a.wv1", "b.wv1", "c.WV1", "d.flac", "d.flac", "e.f.flac", "e.f.flac"]
    with pytest.raises(UserError, match=r"f\.wav: no such file \(nor with another suffix"):
        find_audio(tmp_path, "f.wav")


@pytest.mark.parametrize("listed, present", [
    ("b.wav", ["b.wv2"]), ("b.wv1", ["b.WV2"]), ("b.wv2", ["b.wv1", "b.wv2"]),
    ("b.wv2.wav", ["b.wv2.wav"]),
])
def test_the_second_microphone_is_never_taken(tmp_path, listed, present):
    for name in present:
        (tmp_path / name).touch()
    said = r"is WSJ0's second microphone, which costs 1 to 2 dB .*; take .* file, b\.wv1"
    with pytest.raises(UserError, match=said):
        find_audio(tmp_path, listed)


def test_every_unusable_file_is_found_with_its_reason(tmp_path):
    write_audio(tmp_path / "good.wav", np.zeros(800), 8000)
    soundfile.write(tmp_path / "short.wv1", np.zeros(8000), 8000, format="NIST")
    content = (tmp_path / "short.wv1").read_bytes()
    (tmp_path / "short.wv1").write_bytes(content[:5000])
    (tmp_path / "other.wv2").touch()
    (tmp_path / "text.wav").write_text("not audio at all")
    write_audio(tmp_path / "nothing.wav", np.zeros(0), 8000)
    names = ["good", "short", "other", "text", "nothing", "missing", "missing"]
    plans = [plan_utterances([f"{name}.wav", "good.wav"], [1, -1]) for name in names]
    found = unusable_files(plans, tmp_path)
    assert [name for name, _ in found] == [
        "missing.wav", "nothing.wav", "other.wav", "short.wav", "text.wav"]
    for (_, reason), said in zip(found, ("no such file", "no samples", "is WSJ0's second",
                                         "is truncated", "not an audio file")):
        assert reason.startswith(said) or said in reason
        assert str(tmp_path) not in reason and "\n" not in reason
