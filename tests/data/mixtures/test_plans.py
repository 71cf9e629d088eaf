"""Plans and their rendering: seeds, gains, levels, sums."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from papez_lobes.data.audio import write_audio
from papez_lobes.data.mixtures.equaliser import Equaliser, equalise
from papez_lobes.data.mixtures.levels import active_speech_level
from papez_lobes.data.mixtures.plans import (
    MixturePlan,
    Piece,
    SourcePlan,
    draw_mixture,
    mixture_rng,
    plan_mixtures,
)
from papez_lobes.data.mixtures.rendering import render, render_source
from papez_lobes.data.mixtures.rules import MixingRules
from papez_lobes.data.mixtures.speakers import scan_speakers
from papez_lobes.data.resampling import resample
from papez_lobes.errors import UserError

RATE = 8000


def babble(rng, seconds, rate=RATE):
    """Noise whose loudness changes every 0.1 s: speech enough for levels."""
    loudness = np.repeat(rng.uniform(0.02, 0.2, int(seconds * 10) + 1), rate // 10)
    size = round(seconds * rate)
    return loudness[:size] * rng.standard_normal(size)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """(folder, speakers): five speakers, prompts from 0.5 to 2 s and one long recording each."""
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    for speaker in ("ann", "bob", "carla", "dan o'hara", "éva"):
        for number, seconds in enumerate((0.5, 0.8, 1.3, 2.0, 12.0)):
            write_audio(folder / speaker / f"{number}.wav", babble(rng, seconds), RATE)
    return folder, scan_speakers(folder)[0]


def test_the_same_seed_gives_the_same_mixtures(corpus):
    _, speakers = corpus
    plans = plan_mixtures(speakers, 20, 3, seed=7)
    assert plans == plan_mixtures(speakers, 20, 3, seed=7)
    assert not set(plans) & set(plan_mixtures(speakers, 20, 3, seed=8))
    assert not set(plans) & set(plan_mixtures(speakers, 20, 3, seed=(7, 1)))


def test_a_mixture_does_not_depend_on_how_many_are_made(corpus):
    _, speakers = corpus
    assert plan_mixtures(speakers, 5, 2, seed=1) == plan_mixtures(speakers, 50, 2, seed=1)[:5]


def test_plans_survive_json(corpus):
    _, speakers = corpus
    for plan in plan_mixtures(speakers, 10, 3):
        line = plan.to_json()
        assert "\n" not in line and MixturePlan.from_json(line) == plan


@pytest.mark.parametrize("num_spks", [1, 2, 3, 5])
def test_speakers_never_repeat_within_a_mixture(corpus, num_spks):
    _, speakers = corpus
    for plan in plan_mixtures(speakers, 50, num_spks):
        assert len({source.speaker for source in plan.sources}) == num_spks
        for source in plan.sources:
            assert all(piece.path.startswith(f"{source.speaker}/") for piece in source.pieces)


def test_every_speaker_gets_its_turn(corpus):
    _, speakers = corpus
    plans = plan_mixtures(speakers, 300, 2)
    heard = Counter(source.speaker for plan in plans for source in plan.sources)
    assert set(heard) == set(speakers) and min(heard.values()) > 80  # 120 expected


def test_names_are_unique_and_safe(corpus):
    _, speakers = corpus
    names = [plan.name for plan in plan_mixtures(speakers, 100, 2)]
    assert len(set(names)) == 100
    assert not any(set(name) & set(" /'\\,\"$") for name in names)


def test_too_few_speakers_are_refused(corpus):
    _, speakers = corpus
    with pytest.raises(UserError, match=r"5 speaker.*too few for mixtures of 6"):
        plan_mixtures(speakers, 1, 6)


def test_gains_are_drawn_as_in_wsj0mix(corpus):
    _, speakers = corpus
    two = [[s.gain_db for s in plan.sources] for plan in plan_mixtures(speakers, 200, 2)]
    assert all(first == -second and 0 <= first <= 2.5 for first, second in two)
    assert 1.0 < np.mean([first for first, _ in two]) < 1.5
    three = [[s.gain_db for s in plan.sources] for plan in plan_mixtures(speakers, 20, 3)]
    assert all(gains[0] == -gains[1] and gains[2] == 0 for gains in three)


@pytest.mark.parametrize("num_spks", [1, 2, 3, 4])
def test_sources_sum_to_the_mixture_and_the_peak_is_fixed(corpus, num_spks):
    folder, speakers = corpus
    for plan in plan_mixtures(speakers, 5, num_spks, seed=2):
        mixture, sources = render(plan, RATE, folder)
        assert mixture.dtype == sources.dtype == np.float64
        assert sources.shape == (len(mixture), num_spks)
        np.testing.assert_array_equal(sources.sum(axis=1), mixture)
        peak = max(np.abs(mixture).max(), np.abs(sources).max())
        assert peak == pytest.approx(0.9, abs=1e-12)


def test_lengths_are_as_planned(corpus):
    folder, speakers = corpus
    plans = plan_mixtures(speakers, 20, 2, seconds=(1.0, 3.0))
    assert min(plan.seconds for plan in plans) < 1.5 and max(plan.seconds for plan in plans) > 2.5
    for plan in plans:
        # Each pause is rounded to whole samples, and may come out one short.
        assert abs(len(render(plan, RATE, folder)[0]) - plan.seconds * RATE) <= 5


def test_rendered_levels_differ_by_the_planned_gains(corpus):
    folder, speakers = corpus
    for plan in plan_mixtures(speakers, 5, 3, seed=4):
        for source in plan.sources:
            whole = replace(source, pieces=(Piece(source.pieces[0].path),))
            level, _ = active_speech_level(render_source(whole, RATE, folder), RATE)
            assert 10 * np.log10(level) == pytest.approx(source.gain_db, abs=0.01)
        # Only the cut to a common length and a common scale come between these and the mixture.
        _, sources = render(plan, RATE, folder)
        parts = [render_source(source, RATE, folder)[: len(sources)] for source in plan.sources]
        scale = np.linalg.norm(sources) / np.linalg.norm(parts)
        np.testing.assert_allclose(sources.T, scale * np.array(parts), atol=1e-9)


def test_files_of_any_rate_are_mixed(tmp_path):
    rng = np.random.default_rng(1)
    for speaker, rate in (("ann", 8000), ("bob", 48000)):
        write_audio(tmp_path / speaker / "1.wav", babble(rng, 6, rate), rate)
    plan, = plan_mixtures(scan_speakers(tmp_path)[0], 1, 2, seconds=(2.0, 2.0))
    for rate in (8000, 16000):
        assert len(render(plan, rate, tmp_path)[0]) == 2 * rate


def test_gains_are_the_same_at_every_rate(tmp_path):
    rng = np.random.default_rng(5)
    for speaker in ("ann", "bob"):
        write_audio(tmp_path / speaker / "1.wav", babble(rng, 3, 16000), 16000)
    plan, = plan_mixtures(scan_speakers(tmp_path)[0], 1, 2, seconds=(2.0, 2.0))
    for source in plan.sources:
        narrow = render_source(source, 8000, tmp_path)
        wide = render_source(source, 16000, tmp_path)
        np.testing.assert_allclose(resample(wide, 16000, 8000), narrow, atol=1e-9)


@pytest.mark.parametrize("seconds, wanted", [(None, [4000, 12000]), (1.0, [4000, 8000])])
def test_min_is_cut_and_max_filled_up_with_silence(tmp_path, seconds, wanted):
    rng = np.random.default_rng(6)
    write_audio(tmp_path / "short.wav", babble(rng, 0.5), RATE)
    write_audio(tmp_path / "long.wav", babble(rng, 1.5), RATE)
    sources = tuple(SourcePlan(name, 0.0, (Piece(f"{name}.wav"),)) for name in ("short", "long"))
    plan = MixturePlan("a", seconds, sources)
    (_, shortest), (mixture, longest) = (
        render(plan, RATE, tmp_path, version) for version in ("min", "max"))
    assert [len(shortest), len(longest)] == wanted
    assert not longest[4000:, 0].any() and longest[4000:, 1].any()
    np.testing.assert_array_equal(mixture[4000:], longest[4000:, 1])
    scale = longest[:4000] / shortest  # one for both
    np.testing.assert_allclose(scale, scale[0, 0])


def test_a_short_speaker_is_repeated_and_a_long_one_cropped(tmp_path):
    rng = np.random.default_rng(2)
    write_audio(tmp_path / "short" / "1.wav", babble(rng, 0.4), RATE)
    write_audio(tmp_path / "long" / "1.wav", babble(rng, 60), RATE)
    plans = plan_mixtures(scan_speakers(tmp_path)[0], 10, 2, seconds=(4.0, 4.0))
    pieces = {source.speaker: [plan.sources[i].pieces for plan in plans for i in (0, 1)
                               if plan.sources[i].speaker == source.speaker]
              for source in plans[0].sources}
    assert all(len(part) > 5 for part in pieces["short"])
    assert all(len(part) == 1 and part[0].frames == 4 * RATE for part in pieces["long"])
    assert len({part[0].start for part in pieces["long"]}) > 5


def test_pauses_are_silent_and_in_their_place(tmp_path):
    write_audio(tmp_path / "1.wav", np.full(1000, 0.5), RATE)
    pieces = (Piece("1.wav", 0, 1000), Piece("1.wav", 500, 400, pause=0.1))
    samples = render_source(SourcePlan("ann", 0.0, pieces), RATE, tmp_path)
    assert len(samples) == 1000 + 800 + 400
    assert not samples[1000:1800].any() and samples[:1000].all() and samples[1800:].all()


def test_silence_is_refused_by_name(tmp_path):
    write_audio(tmp_path / "ann" / "1.wav", np.zeros(8 * RATE), RATE)
    plan, = plan_mixtures(scan_speakers(tmp_path)[0], 1, 1)
    with pytest.raises(UserError, match=r"ann \(ann/1.wav\) is silent"):
        render(plan, RATE, tmp_path)


def test_a_piece_is_set_to_the_level_of_its_whole_recording(tmp_path):
    """As in WSJ0-mix, whose levels are of whole utterances: a quiet stretch stays quiet."""
    rng = np.random.default_rng(3)
    recording = np.concatenate([babble(rng, 2), 0.1 * babble(rng, 2)])
    write_audio(tmp_path / "a.wav", recording, RATE, subtype="FLOAT")
    whole = render_source(SourcePlan("a", 2.0, (Piece("a.wav"),)), RATE, tmp_path)
    piece = Piece("a.wav", 3 * RATE, RATE)
    part = render_source(SourcePlan("a", 2.0, (piece,)), RATE, tmp_path)
    np.testing.assert_allclose(part, whole[3 * RATE :], rtol=1e-9)


def test_an_equaliser_is_drawn_within_its_range_and_survives_json(corpus):
    folder, speakers = corpus
    rules = MixingRules(2, (1.0, 1.0), tilt_db=6.0, equaliser_db=4.0)
    plans = [draw_mixture(speakers, rules, mixture_rng(0, index), index) for index in range(50)]
    equalisers = [source.equaliser for plan in plans for source in plan.sources]
    assert max(abs(e.tilt_db) for e in equalisers) <= 6
    assert max(abs(gain) for e in equalisers for _, gain, _ in e.peaks) <= 4
    assert len({e.tilt_db for e in equalisers}) > 80
    assert all(MixturePlan.from_json(plan.to_json()) == plan for plan in plans)
    mixture, sources = render(plans[0], RATE, folder)
    np.testing.assert_allclose(sources.sum(axis=1), mixture)


def test_a_tilt_raises_high_frequencies_and_lowers_low_ones():
    def gain_db(hertz):
        tone = np.sin(2 * np.pi * hertz / RATE * np.arange(RATE))
        heard = equalise(tone, Equaliser(tilt_db=12.0), RATE)
        return 20 * np.log10(np.std(heard[RATE // 2 :]) / np.std(tone[RATE // 2 :]))

    assert gain_db(1000) == pytest.approx(0, abs=0.1)
    assert gain_db(60) == pytest.approx(-6, abs=0.3)
    assert gain_db(3800) == pytest.approx(6, abs=0.3)
