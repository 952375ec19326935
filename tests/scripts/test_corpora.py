"""Speech Commands, LibriSpeech and sentence pairs on disk: small ones are trained on, broken ones refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from networks.supervised.corpora import (
    read_librispeech,
    read_sentence_pairs,
    read_sound,
    read_speech_commands,
    split_by_speaker,
)
from networks.supervised.data import DataError
from networks.supervised.speech import pad_to
from tests.scripts.inside import assert_one_line, call

RATE = 16_000


def tone(pitch: float, seed: int, seconds: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(int(RATE * seconds)) / RATE
    return (
        8_000 * np.sin(2 * np.pi * pitch * (1 + 0.02 * rng.normal()) * time) + 200 * rng.normal(size=len(time))
    ).astype(np.int16)


def write_commands(folder: Path, speakers: int = 30) -> None:
    for word, pitch in (("high", 2_000.0), ("low", 300.0)):
        (folder / word).mkdir(parents=True)
        for number in range(speakers):
            soundfile.write(folder / word / f"{number:08x}_nohash_0.wav", tone(pitch, number), RATE)
    (folder / "_background_noise_").mkdir()
    soundfile.write(folder / "_background_noise_" / "tap.wav", tone(50.0, 0), RATE)


def write_librispeech(folder: Path, speakers: int = 6) -> None:
    for speaker in range(speakers):
        chapter = folder / str(speaker) / "7"
        chapter.mkdir(parents=True)
        lines = []
        for number in range(4):
            name = f"{speaker}-7-{number:04d}"
            soundfile.write(chapter / f"{name}.flac", tone(200 + 100 * number, speaker, 1.0), RATE)
            lines.append(f"{name} {['AH', 'OH', 'EH', 'EE'][number]} {['YES', 'NO'][number % 2]}")
        (chapter / f"{speaker}-7.trans.txt").write_text("\n".join(lines) + "\n")


def test_speakers_are_split_by_the_data_sets_own_rule() -> None:
    splits = {number: split_by_speaker(f"{number:08x}_nohash_3") for number in range(4_000)}
    shares = Counter(splits.values())
    assert abs(shares["valid"] / 4_000 - 0.1) < 0.02
    assert abs(shares["test"] / 4_000 - 0.1) < 0.02
    assert all(
        split_by_speaker(f"{number:08x}_nohash_0") == name for number, name in splits.items()
    )  # whatever the recording


def test_words_are_resampled_and_background_noise_is_skipped(tmp_path: Path) -> None:
    write_commands(tmp_path / "data", 12)
    result = read_speech_commands(tmp_path / "data", 8_000, 1_000)
    assert sorted(set(result.labels)) == ["high", "low"]
    assert {len(wave) for wave in result.waves} == {4_000}
    assert {result.splits[i] for i, speaker in enumerate(result.speakers) if speaker == result.speakers[0]} == {
        result.splits[0]
    }
    assert len(read_speech_commands(tmp_path / "data", 8_000, 10).waves) == 10
    spectrum = np.abs(np.fft.rfft(result.waves[result.labels.index("high")].astype(float)))
    assert abs(np.argmax(spectrum) * 2 - 2_000) < 200


def test_the_lists_of_the_data_set_override_the_rule(tmp_path: Path) -> None:
    write_commands(tmp_path, 4)
    (tmp_path / "testing_list.txt").write_text("low/00000001_nohash_0.wav\n")
    (tmp_path / "validation_list.txt").write_text("high/00000002_nohash_0.wav\n")
    result = read_speech_commands(tmp_path, 8_000, 1_000)
    names = dict(zip(zip(result.labels, result.speakers, strict=True), result.splits, strict=True))
    assert names.pop(("low", "00000001")) == "test"
    assert names.pop(("high", "00000002")) == "valid"
    assert set(names.values()) == {"train"}


def test_commands_on_disk_are_trained_on(tmp_path: Path) -> None:
    write_commands(tmp_path / "data")
    run = tmp_path / "run"
    done = call("pretrain", "speech-commands", "--data", tmp_path / "data", "--epochs", 4, "--threads", 1,
                "--batch-size", 8, "--augment", "none", "--no-baselines", "--run-dir", run)  # fmt: skip
    assert done.code == 0, done.err
    report = json.loads((run / "encoder/report.json").read_text())
    assert report["test"]["accuracy"] == 1.0
    assert json.loads((run / "encoder/labels.json").read_text()) == {"command": ["high", "low"]}
    done = call("pretrain", "evaluate", run)
    assert done.code == 0, done.err
    assert json.loads(done.out.splitlines()[-1])["same_examples"]


def test_read_sentences_are_transcribed(tmp_path: Path) -> None:
    write_librispeech(tmp_path / "data")
    soundfile.write(tmp_path / "data/0/7/0-7-0009.flac", tone(100.0, 0, 21.0), RATE)
    with open(tmp_path / "data/0/7/0-7.trans.txt", "a") as file:
        file.write("0-7-0009 TOO LONG\n")
    run = tmp_path / "run"
    done = call("pretrain", "speech-to-text", "--data", tmp_path / "data", "--epochs", 1, "--threads", 1,
                "--no-baselines", "--run-dir", run)  # fmt: skip
    assert done.code == 0, done.err
    config = json.loads((run / "encoder/config.json").read_text())
    assert config["data"]["left_out"] == 1
    assert config["spec"]["input"]["shape"] == [8_000]
    report = json.loads((run / "encoder/report.json").read_text())["test"]
    assert report["wer"] >= 0.0
    assert "snapped_wer" not in report
    utterances = list(read_librispeech(tmp_path / "data"))
    assert len(utterances) == 25
    assert utterances[0].text == "ah yes"
    assert {each.speaker for each in utterances} == set("012345")


def test_sentence_pairs_are_translated(tmp_path: Path) -> None:
    english = [f"the {color} {kind}" for color in ("red", "green", "blue") for kind in ("ball", "box", "key", "door")]
    words = {"the": "le", "red": "rouge", "green": "vert", "blue": "bleu"}
    lines = [f"{text}\t{' '.join(words.get(word, word) for word in text.split())}\tCC-BY" for text in english]
    file = tmp_path / "fra.txt"
    file.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    run = tmp_path / "run"
    done = call("pretrain", "translate-fr-en", "--data", file, "--epochs", 2, "--threads", 1, "--run-dir", run)
    assert done.code == 0, done.err
    report = json.loads((run / "encoder/report.json").read_text())["test"]
    assert "bleu" in report
    assert "equivalent" not in report
    assert "goal" not in done.out
    other = call("pretrain", "translate-en-fr", "--data", file, "--epochs", 1, "--threads", 1, "--no-baselines",
                 "--run-dir", tmp_path / "other")  # fmt: skip
    assert other.code == 0, other.err
    words_in = json.loads((tmp_path / "other/encoder/vocab.json").read_text())["input"]["words"]
    assert "red" in words_in
    assert "rouge" not in words_in


@pytest.mark.parametrize(("text", "expected"), [
    ("Hi.\tSalut.\n", [("Hi.", "Salut.")]),
    ("Go.\tVa !\tCC-BY 2.0 (France) Attribution\n", [("Go.", "Va !")]),
    ("1276\tLet's go\t77\tAllons-y\n3\tYes\t4\tOui\n", [("Let's go", "Allons-y"), ("Yes", "Oui")]),
])  # fmt: skip
def test_formats_of_sentence_pairs(text: str, expected: list, tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text(text)
    assert read_sentence_pairs(tmp_path / "pairs.txt") == expected


def broken(write: Callable[[Path], Any]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        folder.mkdir()
        write(folder)
        return folder

    return make


def _damage_a_word(folder: Path) -> None:
    write_commands(folder, 3)
    file = folder / "low" / "00000001_nohash_0.wav"
    file.write_bytes(file.read_bytes()[:20])


def _empty_a_word(folder: Path) -> None:
    write_commands(folder, 2)
    (folder / "silence").mkdir()


def _lose_a_sound(folder: Path) -> None:
    write_librispeech(folder, 1)
    (folder / "0/7/0-7-0001.flac").unlink()


def _lose_a_text(folder: Path) -> None:
    write_librispeech(folder, 1)
    (folder / "0/7/0-7.trans.txt").write_text("0-7-0000\n")


BROKEN = {
    "no folder": ("speech-commands", lambda folder: folder, "is not a folder; expected"),
    "no words": ("speech-commands", broken(lambda folder: None), "has fewer than two folders of words"),
    "an empty word": ("speech-commands", broken(_empty_a_word), "has no recording of silence"),
    "a cut recording": ("speech-commands", broken(_damage_a_word), "cannot be read as sound"),
    "too few speakers": ("speech-commands", broken(lambda folder: write_commands(folder, 2)), "has too few speakers"),
    "no list": ("speech-to-text", broken(lambda folder: None), "has no *.trans.txt"),
    "no sound": ("speech-to-text", broken(_lose_a_sound), "there is no 0-7-0001.flac beside it"),
    "no text": ("speech-to-text", broken(_lose_a_text), "line 1: no text after the name"),
    "a folder of pairs": ("translate-fr-en", broken(lambda folder: None), "is not a file; give lines of English"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_corpora_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    task, make, words = BROKEN[case]
    done = call("pretrain", task, "--data", make(tmp_path / "data"), "--run-dir", tmp_path / "run")
    assert_one_line(done, 2, words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("content", "words"), [
    (b"", "is empty"), (b"only english\n", "line 1: expected two texts"), (b"a\t\n", "line 1: expected two texts"),
    (b"\xff\xfe\x00a", "cannot be read as text"),
])  # fmt: skip
def test_broken_sentence_pairs(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_sentence_pairs(tmp_path / "pairs.txt")


def test_sound_is_mixed_to_one_channel_and_padding_differs_from_silence(tmp_path: Path) -> None:
    both = np.stack([np.full(800, 1_000), np.full(800, 3_000)], axis=1).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", both, 8_000)
    wave = read_sound(tmp_path / "a.wav", 8_000)
    assert wave.tolist() == [2_000] * 800
    soundfile.write(tmp_path / "b.wav", np.zeros(0, np.int16), 8_000)
    with pytest.raises(DataError, match="is empty"):
        read_sound(tmp_path / "b.wav", 8_000)
    padded = pad_to(np.array([5, 0, 7], np.int16), 5)
    assert padded.tolist() == [5, 1, 7, 0, 0]
    assert pad_to(np.arange(9, dtype=np.int16), 2).tolist() == [1, 1]


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("name", ["a.wav", "A.WAV"])
def test_samples_of_every_format_are_read_alike(subtype: str, name: str, tmp_path: Path) -> None:
    wave = np.array([0.0, 0.5, -0.5, 0.25, -1.0])
    soundfile.write(tmp_path / name, wave, 8_000, subtype=subtype, format="WAV")
    assert read_sound(tmp_path / name, 8_000).tolist() == [0, 16_384, -16_384, 8_192, -32_768]


def test_float_samples_beyond_the_range_are_clipped_and_others_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", np.array([2.0, -2.0]), 8_000, subtype="FLOAT")
    assert read_sound(tmp_path / "loud.wav", 8_000).tolist() == [32_767, -32_768]
    soundfile.write(tmp_path / "broken.wav", np.array([0.1, np.nan]), 8_000, subtype="FLOAT")
    with pytest.raises(DataError, match="samples that are not finite numbers"):
        read_sound(tmp_path / "broken.wav", 8_000)


def test_recordings_with_endings_in_capitals_are_found(tmp_path: Path) -> None:
    write_librispeech(tmp_path, 2)
    before = len(list(read_librispeech(tmp_path)))
    for file in list(tmp_path.rglob("*.flac")):
        file.rename(file.with_suffix(".FLAC"))
    assert len(list(read_librispeech(tmp_path))) == before > 0


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c"])
def test_only_a_newline_ends_a_sentence_pair(character: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text(f"one{character}two\tun{character}deux\nthree\ttrois\n", encoding="utf-8")
    pairs = read_sentence_pairs(tmp_path / "pairs.txt")
    assert len(pairs) == 2
    assert pairs[0][0] == f"one{character}two"
