"""Active speech level (ITU-T P.56): signals whose level is known, gains, the band, and edges."""

import numpy as np
import pytest
from scipy.optimize import brentq

from papez_lobes.data.mixtures.levels import active_speech_level
from papez_lobes.data.resampling import resample


def decibel(power):
    return 10 * np.log10(power)


def tone(hertz, seconds, rate=8000, amplitude=0.3):
    return amplitude * np.sin(2 * np.pi * hertz / rate * np.arange(round(seconds * rate)))


def bursts(on, off, count, rate=8000):
    """`count` times `on` seconds of 1 kHz, each followed by `off` seconds of silence."""
    burst = np.concatenate([tone(1000, on, rate), np.zeros(round(off * rate))])
    return np.tile(burst, count)


def speech(seed=0, seconds=4, rate=8000):
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.uniform(0, 1, seconds * 10) ** 3, rate // 10)
    return loudness * rng.standard_normal(seconds * rate)


def burst_level(on):
    """Level in dB of lone bursts of amplitude 0.3, after the Recommendation's definitions.

    The envelope, 2 / pi of the amplitude, falls as (1 + t) exp(-t), t in units of 30 ms, and rises
    as its complement; a burst is active from its rise over the threshold to 0.2 s after its fall
    below it, and the threshold is 15.9 dB below the power over that time.
    """
    def active(threshold):
        share = np.sqrt(threshold) / (2 / np.pi * 0.3)
        fall = brentq(lambda t: (1 + t) * np.exp(-t) - share, 0, 50)
        rise = brentq(lambda t: 1 - (1 + t) * np.exp(-t) - share, 0, 50)
        return on + 0.2 + 0.03 * (fall - rise)

    def excess(level):
        return decibel(0.3**2 / 2 * on / active(10 ** ((level - 15.9) / 10))) - level

    return brentq(excess, -40, 0)


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("on, off, count", [(0.5, 1.0, 4), (2.0, 0.6, 3), (10.0, 20.0, 1)])
def test_bursts_have_the_level_that_theory_gives(rate, on, off, count):
    power, activity = active_speech_level(bursts(on, off, count, rate), rate)
    assert decibel(power) == pytest.approx(burst_level(on), abs=0.02)
    seconds = count * (on + off) + 0.35
    assert activity * power == pytest.approx(0.3**2 / 2 * count * on / seconds, rel=1e-3)


def test_pauses_up_to_the_hangover_count_as_speech_and_longer_ones_do_not():
    whole = active_speech_level(tone(1000, 10), 8000)[0]
    bridged, activity = active_speech_level(bursts(0.4, 0.1, 20), 8000)
    assert decibel(bridged / whole) == pytest.approx(decibel(0.4 / 0.5), abs=0.05)
    assert activity > 0.96
    padded, activity = active_speech_level(np.pad(tone(1000, 10), 80000), 8000)
    assert decibel(padded / whole) == pytest.approx(0, abs=0.02)
    assert activity == pytest.approx(10.3 / 30.35, abs=0.005)


def test_noise_in_the_pauses_changes_little():
    rng = np.random.default_rng(3)
    loud, quiet = rng.standard_normal(40000), 0.01 * rng.standard_normal(160000)
    alone, together = (active_speech_level(signal, 8000)[0]
                       for signal in (loud, np.concatenate([loud, quiet])))
    assert decibel(together / alone) == pytest.approx(0, abs=0.05)


def test_a_gain_moves_the_level_by_itself():
    for seed in range(3):
        power, activity = active_speech_level(speech(seed), 8000)
        for gain in (2.0**-7, 0.5, 4.0):
            scaled = active_speech_level(gain * speech(seed), 8000)
            assert scaled == pytest.approx((gain**2 * power, activity), rel=1e-12)
        for gain_db in (-20.3, -1.1, 0.7, 2.5):  # thresholds lie elsewhere then
            scaled, _ = active_speech_level(10 ** (gain_db / 20) * speech(seed), 8000)
            assert decibel(scaled / power) == pytest.approx(gain_db, abs=0.2)


@pytest.mark.parametrize("rate, hertz, relative", [
    (8000, 200, -0.25), (8000, 3900, 0),
    (16000, 200, -0.25), (16000, 5500, -0.25), (16000, 3000, 0),
])
def test_the_band_is_that_of_the_recommendation(rate, hertz, relative):
    level, reference = (active_speech_level(tone(part, 20, rate), rate)[0]
                        for part in (hertz, 1000))
    assert decibel(level / reference) == pytest.approx(relative, abs=0.01)


@pytest.mark.parametrize("rate, hertz", [(8000, 30), (16000, 30), (16000, 7900)])
def test_outside_the_band_nothing_is_heard(rate, hertz):
    inside = tone(1000, 5, rate)
    outside = tone(hertz, 5, rate)
    level, alone = (active_speech_level(part, rate)[0] for part in (inside + outside, inside))
    assert decibel(level / alone) == pytest.approx(0, abs=0.01)


def test_rates_agree_on_the_same_speech():
    base = speech(rate=4000)  # so that neither rate nor the 5.5 kHz limit takes any of it
    levels = [active_speech_level(resample(base, 4000, rate), rate)[0] for rate in (8000, 16000)]
    assert decibel(levels[1] / levels[0]) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_silence_and_scraps_are_finite(rate):
    for samples in (np.zeros(0), np.zeros(1), np.zeros(rate), np.full(rate, 1e-200)):
        assert active_speech_level(samples, rate) == (0, 0)
    for count in (1, 2, 3, 100, rate // 5):
        for value in (0.5, 1e-100, 1e30):
            power, activity = active_speech_level(np.full(count, value), rate)
            assert 0 < power < value**2 and 0 < activity <= 1


def test_all_kinds_of_numbers_give_the_same():
    steps = np.rint(3000 * speech()).astype(np.int16)
    assert active_speech_level(steps, 8000) == active_speech_level(steps.astype(np.float32), 8000)
