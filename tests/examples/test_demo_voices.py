"""Fetching the demo's voices, with stand-ins for apt-get and dpkg-deb."""

import os
import shutil

import demo_voices as voices
import numpy as np
import pytest

from papez_lobes.data.audio import write_audio
from papez_lobes.data.mixtures.speakers import scan_speakers
from papez_lobes.errors import UserError

APT = """#!/bin/sh
for package; do :; done  # the last word
echo "$package" >> '{log}'
case " $UNAVAILABLE " in
    *" $package "*) echo "E: Unable to locate package $package" >&2; exit 1
esac
[ "$package" = update ] || echo "$package" > "$package"_1_all.deb
"""
DPKG = """#!/bin/sh
read -r package < "$2"
if [ "$package" = damaged ]; then
    echo "dpkg-deb: error: not a Debian archive" >&2
    exit 1
fi
/bin/mkdir -p "$3/usr/share/asterisk/sounds" "$3/usr/share/doc/$package"
/bin/cp -R '{sounds}' "$3/usr/share/asterisk/sounds/xx"
echo "by $package" > "$3/usr/share/doc/$package/copyright"
"""


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Puts the stand-ins on the PATH; returns the log of what apt-get was asked for."""
    rng = np.random.default_rng(0)
    sounds = tmp_path / "sounds"
    for name, seconds in (("hello.wav", 1), ("digits/1.wav", 0.5), ("digits/e.wav", 0.2),
                          ("beep.wav", 0.5), ("silence/1.wav", 1), ("tt-monkeys.wav", 2)):
        write_audio(sounds / name, 0.1 * rng.standard_normal(int(seconds * 8000)), 8000)
    shutil.copy(sounds / "hello.wav", sounds / "hello-again.wav")
    (sounds / "is.wav").touch()
    log = tmp_path / "log"
    for name, script in (("apt-get", APT), ("dpkg-deb", DPKG)):
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(script.format(log=log, sounds=sounds))
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    return log


def test_voices_hold_speech_and_credits_only(packages, tmp_path):
    folder = voices.fetch_voices(tmp_path / "cache")
    assert sorted(os.listdir(folder)) == sorted(voices.VOICES)
    assert os.listdir(folder.parent) == ["voices"]
    speakers, skipped = scan_speakers(folder)
    assert [utterance.path for utterance in speakers["carlo"]] == [
        "carlo/xx/digits/1.wav", "carlo/xx/hello-again.wav"]
    assert skipped == []
    notices = sorted(path.name for path in (folder / "allison").glob("COPYRIGHT*"))
    assert notices == [f"COPYRIGHT.{package}" for package in voices.VOICES["allison"]]


def test_a_second_call_does_nothing(packages, tmp_path, monkeypatch):
    folder = voices.fetch_voices(tmp_path / "cache")
    asked = packages.read_text()
    assert voices.fetch_voices(tmp_path / "cache") == folder
    assert packages.read_text() == asked
    monkeypatch.setenv("PATH", "")  # offline, and without the tools
    assert voices.fetch_voices(tmp_path / "cache") == folder


def test_interrupted_fetch_goes_on_where_it_stopped(packages, tmp_path, monkeypatch):
    def stop(path, *arguments):
        if "june" in path.parts:
            raise KeyboardInterrupt
        write_audio(path, *arguments)

    monkeypatch.setattr(voices, "write_audio", stop)
    with pytest.raises(KeyboardInterrupt):
        voices.fetch_voices(tmp_path / "cache")
    monkeypatch.undo()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    done = sorted(os.listdir(tmp_path / "cache" / "voices"))
    assert done == ["allison", "armelle", "carlo", "ivrvoice", "july"]
    packages.unlink()
    voices.fetch_voices(tmp_path / "cache")
    assert packages.read_text().split() == [*voices.VOICES["june"], *voices.VOICES["paola"]]


def test_unavailable_packages_are_skipped_with_a_line(packages, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UNAVAILABLE", "asterisk-core-sounds-es-wav asterisk-prompt-es-co")
    folder = voices.fetch_voices(tmp_path / "cache")
    assert sorted(os.listdir(folder)) == sorted(set(voices.VOICES) - {"july"})
    said = capsys.readouterr().out
    assert "skipping asterisk-prompt-es-co: E: Unable to locate package" in said
    assert packages.read_text().split().count("update") == 1


def test_too_few_voices_say_what_to_do(packages, tmp_path, monkeypatch):
    monkeypatch.setenv("UNAVAILABLE", " ".join(sum(voices.VOICES.values(), ())[3:]))
    with pytest.raises(UserError, match=r"only 2 of 7 voices .* SPEECH=/folder with one subfolder"):
        voices.fetch_voices(tmp_path / "cache")


def test_systems_without_apt_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"SPEECH=/folder with one subfolder per speaker"):
        voices.fetch_voices(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_copies_are_left_out_and_different_speech_is_not():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((3, 8000))
    copies = [("early", noise[0]), ("late", noise[0][400:]), ("dithered", noise[0] + 1e-4)]
    others = [("b", noise[1]), ("c", noise[2])]
    kept = {name for name, _ in voices.distinct(copies + others)}
    assert len(kept & {"early", "late", "dithered"}) == 1 and {"b", "c"} < kept
