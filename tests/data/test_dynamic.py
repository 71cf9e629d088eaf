"""Mixing on the fly: what a mixture depends on, and that it is the sum of its sources."""

import pickle
import time

import numpy as np
import pytest
import torch
from speechbrain.dataio.batch import PaddedBatch
from torch.utils.data import DataLoader, DistributedSampler

from papez_lobes.data.audio import audio_info, read_audio, write_audio
from papez_lobes.data.datasets import SeparationDataset
from papez_lobes.data.dynamic import DynamicMixtures
from papez_lobes.data.mixtures.plans import (
    MixturePlan,
    draw_mixture,
    draw_speakers,
    duration_shares,
    mixture_rng,
)
from papez_lobes.data.mixtures.rendering import render
from papez_lobes.data.mixtures.rules import MixingRules
from papez_lobes.data.mixtures.speakers import Utterance, scan_speakers
from papez_lobes.data.store import SpeechStore, build_store
from papez_lobes.errors import UserError
from tests.trees import write_small_tree

RATE = 8000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder with speech of four speakers at several rates, noise, and a room."""
    root, rng = tmp_path_factory.mktemp("a corpus"), np.random.default_rng(0)
    for speaker in range(4):
        for number, rate in enumerate((8000, 16000)):
            envelope = np.repeat(rng.uniform(0, 0.3, 30), rate // 10)
            samples = envelope * rng.normal(0, 1, len(envelope))
            write_audio(root / f"speech/speaker {speaker}/é {number}.wav", samples, rate)
    write_audio(root / "noise/deep/street.wav", rng.normal(0, 0.1, 5 * RATE), RATE)
    response = np.zeros(800)
    response[[40, 300]] = 0.8, 0.3
    write_audio(root / "rooms/office.wav", response, RATE)
    return root


def mixtures(corpus, tmp_path, count=6, **options):
    return DynamicMixtures(corpus / "speech", tmp_path, 2, RATE, count, 1.0, **options)


EVERYTHING = {"speed_change": 0.05, "noise_snr_db": (3, 3)}


def everything(corpus):
    return EVERYTHING | {"noise_folder": corpus / "noise", "room_folder": corpus / "rooms"}


def loaded(dataset, **options):
    loader = DataLoader(dataset, batch_size=2, collate_fn=PaddedBatch, **options)
    return torch.cat([batch.mix_sig.data for batch in loader])


def test_workers_copies_and_processes_draw_the_same_mixtures(corpus, tmp_path):
    dataset = mixtures(corpus, tmp_path, **everything(corpus))
    dataset.set_epoch(3)
    wanted = torch.stack([dataset[index]["mix_sig"] for index in range(6)])
    assert torch.equal(loaded(dataset), wanted)
    assert torch.equal(loaded(dataset, num_workers=2, multiprocessing_context="fork"), wanted)
    sent = pickle.loads(pickle.dumps(dataset))  # to a worker of the start method spawn
    assert torch.equal(loaded(sent), wanted)
    again = mixtures(corpus, tmp_path / "elsewhere", **everything(corpus))
    again.set_epoch(3)
    assert torch.equal(torch.stack([again[index]["mix_sig"] for index in range(6)]), wanted)
    shares = [
        torch.stack([dataset[index]["mix_sig"] for index in DistributedSampler(
            range(6), num_replicas=2, rank=rank, shuffle=False)])
        for rank in range(2)
    ]
    assert torch.equal(torch.stack(shares, dim=1).flatten(0, 1), wanted)  # none is drawn twice


def test_every_epoch_seed_and_index_is_another_mixture(corpus, tmp_path):
    dataset, other = mixtures(corpus, tmp_path), mixtures(corpus, tmp_path, seed=1)
    heard = []
    for epoch in (1, 2):
        dataset.set_epoch(epoch)
        heard += [dataset[index]["mix_sig"].numpy().tobytes() for index in range(6)]
    heard += [other[index]["mix_sig"].numpy().tobytes() for index in range(6)]
    assert len(set(heard)) == 18


def test_workers_that_persist_hear_of_the_new_epoch(corpus, tmp_path):
    dataset = mixtures(corpus, tmp_path)
    loader = DataLoader(dataset, batch_size=6, collate_fn=PaddedBatch, num_workers=1,
                        persistent_workers=True)
    first, = (batch.mix_sig.data.clone() for batch in loader)
    dataset.set_epoch(2)
    second, = (batch.mix_sig.data.clone() for batch in loader)
    assert not torch.equal(first, second)
    assert torch.equal(second[0], dataset[0]["mix_sig"])


def test_sources_sum_to_the_mixture_exactly_and_noise_is_the_rest(corpus, tmp_path):
    for item in (mixtures(corpus, tmp_path)[1], mixtures(corpus, tmp_path, speed_change=0.05)[1]):
        assert item["sources"].shape == (RATE, 2) and item["mix_sig"].dtype == torch.float32
        assert torch.equal(item["sources"].sum(-1), item["mix_sig"])
    noisy = mixtures(corpus, tmp_path, **everything(corpus))[1]
    speech = noisy["sources"].sum(-1)
    ratio = speech.square().mean() / (noisy["mix_sig"] - speech).square().mean()
    assert 10 * torch.log10(ratio).item() == pytest.approx(3, abs=0.01)


def test_a_share_of_the_mixtures_has_noise_and_another_is_in_rooms(corpus):
    speakers, others = scan_speakers(corpus / "speech")[0], scan_speakers(corpus)[0]
    rules = MixingRules(2, (1, 1), noises=others["noise"], rooms=others["rooms"],
                        noise_share=0.3, room_share=0.6)
    plans = [draw_mixture(speakers, rules, mixture_rng(1, index), index) for index in range(300)]
    rooms = np.array([[source.room is not None for source in plan.sources] for plan in plans])
    assert (rooms[:, 0] == rooms[:, 1]).all()  # both speakers of a mixture, or none
    noisy, in_rooms = np.array([bool(plan.noise) for plan in plans]), rooms[:, 0]
    assert 0.2 < noisy.mean() < 0.4 and 0.5 < in_rooms.mean() < 0.7
    assert 0.1 < (noisy & in_rooms).mean() < 0.26  # independent of each other


def test_speakers_differ_and_rules_are_off_by_default(corpus):
    speakers, _ = scan_speakers(corpus / "speech")
    rng = mixture_rng(0, 0)
    plan = draw_mixture(speakers, MixingRules(num_spks=4), rng, 0)
    assert len({source.speaker for source in plan.sources}) == 4
    assert {(source.speed, source.room) for source in plan.sources} == {(1.0, None)}
    assert not plan.noise and "noise" not in plan.to_json() and "speed" not in plan.to_json()


def test_speed_and_room_do_what_they_say(corpus, tmp_path):
    speakers, _ = scan_speakers(corpus / "speech")
    rooms = scan_speakers(corpus)[0]["rooms"]
    plan = draw_mixture(speakers, MixingRules(2, (1, 1), speed_change=0.05, rooms=rooms),
                        mixture_rng(5, 0), 0)
    assert MixturePlan.from_json(plan.to_json()) == plan
    speeds = {source.speed for index in range(60) for source in draw_mixture(
        speakers, MixingRules(2, (1, 1), speed_change=0.05), mixture_rng(5, index), 0).sources}
    assert min(speeds) == 0.95 and max(speeds) == 1.05 and len(speeds) == 11

    tone = np.sin(2 * np.pi * 500 * np.arange(2 * RATE) / RATE)
    write_audio(tmp_path / "a/1.wav", 0.5 * tone, RATE)
    write_audio(tmp_path / "room.wav", np.eye(1, 400, 30)[0] * 0.9, RATE)  # only a delay
    line = ('{"name": "x", "seconds": 1.0, "sources": [{"speaker": "a", "gain_db": 0, '
            '"speed": 1.05, "room": "room.wav", "pieces": [{"path": "a/1.wav"}]}]}')
    mixture, _ = render(MixturePlan.from_json(line), RATE, tmp_path)
    spectrum = np.abs(np.fft.rfft(mixture * np.hanning(len(mixture))))
    assert np.argmax(spectrum) == pytest.approx(525, abs=1)  # Hz: 5 % higher
    assert np.abs(mixture[:20]).max() > 0.1  # the direct path has no delay


def test_files_and_items_come_from_one_engine(corpus, tmp_path):
    """The plan of an item, rendered from the files themselves."""
    dataset = mixtures(corpus, tmp_path, speed_change=0.0)
    store = build_store(corpus / "speech", tmp_path / "undecoded", RATE, gigabytes=0.0)
    assert dataset.speech.decoded and not store.decoded
    plan = draw_mixture(store, dataset.rules, mixture_rng(1, 1), 1)
    from_files, _ = render(plan, RATE, corpus / "speech")
    stored, _ = render(plan, RATE, {"speech": store})
    np.testing.assert_array_equal(from_files, stored)


def test_a_store_is_made_once_and_again_where_the_folder_changed(corpus, tmp_path):
    folder = tmp_path / "speech"
    for name in ("ann", "bob", "eve"):
        write_audio(folder / name / "1.wav", np.full(800, 0.1), RATE)
    store = build_store(folder, tmp_path / "store", RATE)
    made = (tmp_path / "store/table.npy").stat().st_ino
    assert (tmp_path / "store/table.npy").stat().st_ino == made
    build_store(folder, tmp_path / "store", RATE)
    assert (tmp_path / "store/table.npy").stat().st_ino == made
    (folder / "eve/1.wav").write_bytes(b"no audio")
    changed = build_store(folder, tmp_path / "store", RATE)
    assert list(changed) == ["ann", "bob"] and changed.skipped[0][0] == "eve/1.wav"
    assert len(store) == 3  # an open store lives on
    copy = pickle.loads(pickle.dumps(changed))
    assert isinstance(copy, SpeechStore) and copy.utterances == changed.utterances
    assert copy.read("bob/1.wav")[0].shape == (800,)
    assert not list(tmp_path.glob(".store*"))


@pytest.mark.parametrize("file", ["samples.i16", "table.npy"])
def test_a_store_that_was_cut_short_is_made_again(corpus, tmp_path, file):
    store = build_store(corpus / "speech", tmp_path / "store", RATE)
    wanted = store.read(store.utterances[-1].path)[0]
    cut = tmp_path / "store" / file
    cut.write_bytes(cut.read_bytes()[:-1000])
    again = build_store(corpus / "speech", tmp_path / "store", RATE)
    np.testing.assert_array_equal(again.read(again.utterances[-1].path)[0], wanted)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_store_that_is_stopped_decodes_no_further(tmp_path, monkeypatch, stop):
    for number in range(100):
        write_audio(tmp_path / f"speech/ann/{number}.wav", np.full(80, 0.1), RATE, sync=False)
    decoded = []
    monkeypatch.setattr("papez_lobes.data.store.THREADS", 2)
    monkeypatch.setattr("papez_lobes.data.store.read_audio",
                        lambda path, rate: decoded.append(path) or read_audio(path, rate))

    def stopped(records, *arguments, **options):
        yield next(records)
        raise stop

    monkeypatch.setattr("papez_lobes.data.store.tqdm", stopped)
    with pytest.raises((KeyboardInterrupt, UserError)):
        build_store(tmp_path / "speech", tmp_path / "store", RATE)
    assert len(decoded) < 20
    assert [path.name for path in tmp_path.iterdir()] == ["speech"]


def test_a_store_keeps_the_order_of_recordings_that_take_different_times(tmp_path, monkeypatch):
    for number in range(30):
        write_audio(tmp_path / f"speech/{number % 3}/{number:02}.wav", np.full(80, 0.01 * number),
                    RATE, sync=False)
    (tmp_path / "speech/0/00.wav").write_bytes(b"no audio")

    def slow(path, rate):
        time.sleep(0.02 * (path.stem < "09"))
        if path.stem in ("07", "22"):
            raise UserError(f"{path}: is damaged")
        return read_audio(path, rate)

    monkeypatch.setattr("papez_lobes.data.store.read_audio", slow)
    store = build_store(tmp_path / "speech", tmp_path / "store", RATE)
    assert store.skipped[1:] == [["1/07.wav", "is damaged"], ["1/22.wav", "is damaged"]]
    assert len(store.utterances) == 27 and store.skipped[0][0] == "0/00.wav"
    for utterance in store.utterances:
        np.testing.assert_array_equal(store.read(utterance.path)[0],
                                      read_audio(tmp_path / "speech" / utterance.path))


def test_a_level_is_measured_once_and_kept_for_all_processes(corpus, tmp_path, monkeypatch):
    store = build_store(corpus / "speech", tmp_path / "store", RATE, gigabytes=0.0)
    path = store.utterances[0].path
    decoded = build_store(corpus / "speech", tmp_path / "decoded", RATE)
    monkeypatch.setattr("papez_lobes.data.store.speech_level", lambda *_: 0.25)
    assert store.level(path) == 0.25 == SpeechStore(tmp_path / "store").level(path)
    assert decoded.level(path) != 0.25  # it was measured when the store was made


def test_sixteen_bit_steps_keep_what_the_file_holds(tmp_path):
    rng = np.random.default_rng(0)
    loud = 30_000 * rng.normal(size=4000)  # a float file beyond full scale
    write_audio(tmp_path / "speech/a/loud.wav", loud, RATE, subtype="FLOAT")
    write_audio(tmp_path / "speech/a/exact.wav", rng.uniform(-1, 1, 4000), RATE)
    store = build_store(tmp_path / "speech", tmp_path / "store", RATE)
    exact, _ = store.read("a/exact.wav")
    np.testing.assert_array_equal(exact, read_audio(tmp_path / "speech/a/exact.wav"))
    kept, _ = store.read("a/loud.wav")
    np.testing.assert_allclose(kept, loud, atol=np.abs(loud).max() / 2**15)


def test_mistakes_are_one_line(corpus, tmp_path):
    with pytest.raises(UserError, match="too few for mixtures of 5"):
        DynamicMixtures(corpus / "speech", tmp_path, 5, RATE, 3, 1.0)
    with pytest.raises(UserError, match="no such folder"):
        DynamicMixtures(corpus / "missing", tmp_path, 2, RATE, 3, 1.0)
    with pytest.raises(UserError, match="segment_seconds is null"):
        DynamicMixtures(corpus / "speech", tmp_path, 2, RATE, 3, None)
    for name in ("ann", "bob"):
        write_audio(tmp_path / "silent" / name / "1.wav", np.zeros(RATE), RATE)
    silent = DynamicMixtures(tmp_path / "silent", tmp_path, 2, RATE, 3, 1.0)
    with pytest.raises(UserError, match=r"silent.*in a row"):
        silent[0]


def test_segments_depend_on_seed_epoch_and_item_alone(tmp_path):
    tree = write_small_tree(tmp_path / "2speakers")
    lines = ["ID,duration,mix_wav,s1_wav,s2_wav"]
    for path in sorted((tree / "wav8k/min/tr/mix").glob("*.wav")):
        parts = [str(path).replace("/mix/", f"/{part}/") for part in ("mix", "s1", "s2")]
        lines.append(",".join([path.stem, str(audio_info(path).seconds), *parts]))
    (tmp_path / "tr.csv").write_text("\n".join(lines) + "\n")
    dataset, again = (SeparationDataset(tmp_path / "tr.csv", 2, RATE, 0.2, seed=3) for _ in "ab")
    first = loaded(dataset)
    assert torch.equal(first, loaded(again, num_workers=2))
    dataset.set_epoch(2)
    assert not torch.equal(first, loaded(dataset))


@pytest.mark.parametrize("exponent, share", [(0.0, 1 / 2), (0.5, 3 / 4), (1.0, 9 / 10)])
def test_speakers_are_drawn_by_their_seconds_of_speech_to_a_power(tmp_path, exponent, share):
    rng = np.random.default_rng(0)
    for speaker, seconds in (("ann", 1), ("bob", 9)):
        for number in range(seconds):
            write_audio(tmp_path / f"speech/{speaker}/{number}.wav", rng.normal(0, 1, RATE), RATE)
    dataset = DynamicMixtures(tmp_path / "speech", tmp_path / "store", 1, RATE, 1, 1.0,
                              duration_exponent=exponent)
    plans = [draw_mixture(dataset.speech, dataset.rules, mixture_rng(0, index), index)
             for index in range(2000)]
    drawn = np.mean([plan.sources[0].speaker == "bob" for plan in plans])
    assert drawn == pytest.approx(share, abs=0.03)


def test_speakers_of_a_mixture_differ_whatever_their_shares():
    speakers = {name: [Utterance(f"{name}.wav", seconds, RATE)]
                for name, seconds in (("ann", 1.0), ("bob", 1e4), ("eve", 0.0))}
    shares = duration_shares(speakers, 1.0)
    for seed in range(50):
        assert set(draw_speakers(speakers, 2, mixture_rng(seed, 0), shares)) == {"ann", "bob"}
    with pytest.raises(UserError, match="too few for mixtures of 3; lower duration_exponent"):
        draw_speakers(speakers, 3, mixture_rng(0, 0), shares)
