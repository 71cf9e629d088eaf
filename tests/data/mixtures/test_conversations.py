"""Conversations: overlap, turns and single speakers, and that nothing else has changed by them."""

import hashlib
from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest

from papez_lobes.cli.main import main
from papez_lobes.cli.mix import PIECES
from papez_lobes.data.audio import write_audio
from papez_lobes.data.corpora.wsj0mix import prepare_wsj0mix
from papez_lobes.data.datasets import SeparationDataset
from papez_lobes.data.dynamic import DynamicMixtures
from papez_lobes.data.mixtures.plans import (
    MixturePlan,
    draw_mixture,
    draw_utterances,
    mixture_rng,
    plan_mixtures,
)
from papez_lobes.data.mixtures.rendering import render
from papez_lobes.data.mixtures.rules import MixingRules, draw_stretches
from papez_lobes.data.mixtures.speakers import Utterance, scan_speakers
from papez_lobes.errors import UserError

RATE = 8000
KINDS = {
    "overlap": {"overlap": (0.2, 0.8)},
    "turns": {"turns": 1.0},
    "single speaker": {"single_speaker": 1.0},
}


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Four speakers at two rates, whose samples are never exactly zero."""
    folder, rng = tmp_path_factory.mktemp("speech"), np.random.default_rng(0)
    for speaker in ("ann", "bob", "carla", "dan"):
        for number, (rate, seconds) in enumerate(((8000, 0.7), (16000, 2.5), (8000, 9.0))):
            size = int(rate * seconds)
            samples = rng.choice([-1, 1], size) * rng.uniform(0.05, 0.3, size)
            write_audio(folder / speaker / f"{number}.wav", samples, rate)
    return folder


@pytest.fixture(scope="module")
def speakers(speech):
    return scan_speakers(speech)[0]


def stretches(seed, num_spks=2, seconds=6.0, **options):
    return draw_stretches(MixingRules(num_spks, **options), seconds, np.random.default_rng(seed))


def test_the_defaults_draw_the_mixtures_of_earlier_versions():
    """Digests of plans that were drawn before there were conversations."""
    speakers = {f"spk{i}": [Utterance(f"spk{i}/{j}.flac", 0.7 + 1.3 * j * (i + 1), 16000)
                            for j in range(6)] for i in range(7)}
    everything = MixingRules(2, (1.0, 3.0), 2.5, 0.05, tuple(speakers["spk1"]), (0, 10),
                             tuple(speakers["spk2"]), 6.0, 4.0)
    drawn = {
        "b196fe247724f7f5": plan_mixtures(speakers, 40, 1, seed=(3, 1)),
        "4c0afc618fc22fdc": plan_mixtures(speakers, 40, 2, seed=(3, 2)),
        "31aaae296dbcbc25": plan_mixtures(speakers, 40, 3, seed=(3, 3)),
        "705eac001c3b1043": draw_utterances(speakers, 40, 2, seed=5),
        "81a1f49cbf75dfbb": [draw_mixture(speakers, everything, mixture_rng(4, index), index)
                             for index in range(40)],
    }
    for digest, plans in drawn.items():
        lines = "\n".join(plan.to_json() for plan in plans)
        assert hashlib.sha256(lines.encode()).hexdigest().startswith(digest)


@pytest.mark.parametrize("num_spks", [1, 2, 3, 10])
def test_the_overlapped_share_of_the_shorter_utterance_is_in_its_range(num_spks):
    shares = []
    for seed in range(100):
        parts = sorted(part for part, in stretches(seed, num_spks, overlap=(0.2, 0.6)))
        ends = [start + seconds for start, seconds in parts]
        assert parts[0][0] == 0 and max(ends) == pytest.approx(6)
        for (_, first), (start, second), end in zip(parts, parts[1:], ends):
            shares.append((end - start) / min(first, second))
    if num_spks > 1:
        assert 0.2 <= min(shares) < 0.25 and 0.55 < max(shares) <= 0.6 + 1e-9


@pytest.mark.parametrize("num_spks", [1, 2, 3])
def test_turns_alternate_with_pauses_in_their_range(num_spks):
    for seed in range(100):
        parts = stretches(seed, num_spks, seconds=20.0, turns=1.0, pause_seconds=(0.3, 0.7))
        turns = sorted((start, seconds, who) for who, part in enumerate(parts)
                       for start, seconds in part)
        assert set(range(num_spks)) == {who for *_, who in turns}
        for (start, seconds, first), (after, _, second) in pairwise(turns):
            assert 0.3 - 1e-9 <= after - start - seconds <= 0.7 + 1e-9
            assert num_spks == 1 or first != second
        assert 20 - 0.7 - 0.5 <= sum(turns[-1][:2]) <= 20 + 1e-9


def test_each_kind_has_its_share_of_the_mixtures_and_every_speaker_is_heard_alone():
    kinds, alone = [], []
    for seed in range(1000):
        parts = stretches(seed, turns=0.3, single_speaker=0.2)
        kinds.append(sum(map(len, parts)))
        alone += [who for who, part in enumerate(parts) if kinds[-1] == 1 and part]
    full = sum(stretches(seed, turns=0.3, single_speaker=0.2) == [[(0.0, 6.0)]] * 2
               for seed in range(1000))
    assert len(alone) == pytest.approx(200, abs=40) and full == pytest.approx(500, abs=50)
    assert alone.count(0) == pytest.approx(len(alone) / 2, abs=30)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_conversations(speech, speakers, kind):
    plans = plan_mixtures(speakers, 20, 2, seed=3, **KINDS[kind])
    assert plans == plan_mixtures(speakers, 30, 2, seed=3, **KINDS[kind])[:20]
    assert not set(plans) & set(plan_mixtures(speakers, 20, 2, seed=4, **KINDS[kind]))
    for plan in plans:
        assert MixturePlan.from_json(plan.to_json()) == plan
    again = [render(plan, RATE, speech) for _ in "ab" for plan in plans[:2]]
    np.testing.assert_array_equal(again[0][1], again[2][1])


@pytest.mark.parametrize("version", ["min", "max"])
@pytest.mark.parametrize("kind", KINDS)
def test_sources_last_as_long_as_the_mixture_and_are_zero_where_silent(
    speech, speakers, kind, version
):
    rules = MixingRules(2, (4.0, 5.0), speed_change=0.05, **KINDS[kind])
    for index in range(10):
        plan = draw_mixture(speakers, rules, mixture_rng(1, index), index)
        for rate in (8000, 16000):
            mixture, sources = render(plan, rate, speech, version)
            assert sources.shape == (round(plan.seconds * rate), 2) == (len(mixture), 2)
            np.testing.assert_array_equal(sources.sum(axis=1), mixture)
            spoken = sources != 0
            if kind == "single speaker":
                assert spoken.any(axis=0).sum() == 1
            elif kind == "turns":
                assert spoken.all(axis=1).mean() < 1e-3 and spoken.any(axis=0).all()
            else:
                assert 0.05 < spoken.all(axis=1).mean() < 0.8
                assert (sources[:, 0] == 0).any() and (sources[:, 1] == 0).any()


def test_a_room_and_an_equaliser_leave_a_silent_source_silent(speech, speakers, tmp_path):
    write_audio(tmp_path / "rooms/a.wav", np.eye(1, 400, 30)[0] * 0.9, RATE)
    dataset = DynamicMixtures(
        speech, tmp_path / "store", 2, RATE, 8, 2.0, room_folder=tmp_path / "rooms", tilt_db=6.0,
        single_speaker=1.0,
    )
    for index in range(8):
        item = dataset[index]
        assert item["sources"].shape == (2 * RATE, 2)
        assert item["sources"].any(dim=0).sum() == 1


def test_mixing_on_the_fly_draws_conversations_from_lists_of_yaml(speech, tmp_path):
    options = {"overlap": [0.0, 0.0], "turns": 0.5, "pause_seconds": [0.1, 0.2]}
    dataset, again = (DynamicMixtures(speech, tmp_path, 2, RATE, 6, 3.0, **options) for _ in "ab")
    for index in range(6):
        sources = dataset[index]["sources"]
        assert (sources != 0).all(dim=1).float().mean() < 0.05
        assert sources.equal(again[index]["sources"])


def test_a_tree_of_conversations_is_prepared_and_read(speech, tmp_path, capsys):
    words = ["mix", str(speech), str(tmp_path), "--seconds", "2", "3", "--count", "tr=6",
             "--overlap", "0.2", "0.9", "--turns", "0.3", "--single-speaker", "0.4",
             "--pause-seconds", "0", "0.3"]
    assert main(words) in (0, None)
    manifest = prepare_wsj0mix(tmp_path / "2speakers", tmp_path, 2, splits=["tr"],
                               check_sums="error")["tr"]
    silent = [not source.any() for item in SeparationDataset(manifest, 2, RATE)
              for source in item["sources"].T]
    assert len(silent) == 12 and 0 < sum(silent) < 6


def test_a_source_that_is_silent_by_mistake_is_refused(speech, tmp_path):
    words = ["mix", str(speech), str(tmp_path), "--seconds", "1", "1", "--count", "tr=3"]
    assert main([*words, "--single-speaker", "1"]) in (0, None)
    for source in (tmp_path / "2speakers").glob("wav8k/min/tr/s?/*.wav"):
        write_audio(source, np.zeros(RATE), RATE)
    with pytest.raises(UserError, match=r"lists 6 problem\(s\).*is silent"):
        prepare_wsj0mix(tmp_path / "2speakers", tmp_path, 2, splits=["tr"])


def test_options_of_the_command_are_those_of_training():
    assert set(PIECES) <= {field.name for field in fields(MixingRules)}


@pytest.mark.parametrize("options, said", [
    ({"overlap": (0.5, 1.5)}, "overlap 0.5 1.5: must be from 0 to 1, least first"),
    ({"overlap": (0.5, 0.4)}, "overlap 0.5 0.4: must be"),
    ({"overlap": (0.5,)}, "overlap 0.5: must be"),
    ({"turns": -0.1}, "turns -0.1: must be from 0 to 1"),
    ({"turns": 0.6, "single_speaker": 0.5}, "single_speaker 0.5: must be .* together with turns"),
    ({"pause_seconds": (-1, 0)}, "pause_seconds -1 0: must be"),
    ({"pause_seconds": (0, float("inf"))}, "pause_seconds 0 inf: must be"),
    ({"turns": float("nan")}, "turns nan: must be"),
    ({"num_spks": 0}, "num_spks 0: must be 1 or more"),
])
def test_wrong_options_are_refused_in_one_line(options, said):
    with pytest.raises(UserError, match=said):
        MixingRules(**options)


def test_wrong_options_are_refused_before_speech_is_decoded(speech, tmp_path):
    with pytest.raises(UserError, match="turns 2: must be"):
        DynamicMixtures(speech, tmp_path / "store", 2, RATE, 6, 3.0, turns=2)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("option", PIECES)
def test_lists_of_whole_utterances_take_no_conversation(tmp_path, capsys, option):
    values = ["0.5", "1"] if option in ("seconds", "overlap", "pause_seconds") else ["0.5"]
    flag = f"--{option.replace('_', '-')}"
    words = ["mix", str(tmp_path), "--write-lists", str(tmp_path / "lists"), flag, *values]
    assert main(words) == 2
    assert f"{flag}: not with --write-lists" in capsys.readouterr().err
