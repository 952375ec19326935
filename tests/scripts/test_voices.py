"""pretrain.py record: missions to read aloud, and error rates of their recordings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from networks.encoders import store
from networks.supervised.mission_grammar import parse
from scripts.runner import mission_channels
from tests.scripts.inside import assert_one_line, call
from tests.scripts.test_pretrain import VOICE, pretrain

pytestmark = pytest.mark.skipif(not VOICE, reason="no espeak-ng is installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A barely trained speech-to-text run."""
    folder = tmp_path_factory.mktemp("runs") / "speech"
    done = pretrain("speech-to-text", "--examples", 60, "--epochs", 1, "--threads", 1, "--no-baselines",
                    "--run-dir", folder)  # fmt: skip
    assert done.code == 0, done.err
    return folder


def test_missions_are_listed_and_recordings_evaluated(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "voices"
    done = call("pretrain", "record", run, "--data", folder, "--examples", 4)
    assert done.code == 0, done.err
    listed = folder / "me-1.trans.txt"
    assert str(listed) in done.out
    lines = dict(line.split(" ", 1) for line in listed.read_text().splitlines())
    assert list(lines) == [f"me-1-{number:04d}" for number in range(4)]
    assert len({parse(text) for text in lines.values()}) == 4
    assert_one_line(call("pretrain", "record", run, "--data", folder), 2, "there is no me-1-0000")
    transcribe = mission_channels.interpreter(store.load(run))
    transcripts = {}
    for number, (name, text) in enumerate(lines.items()):
        wave = mission_channels.spoken(text, number, 48_000, 8_000)
        wave = np.concatenate([np.zeros(4_000, np.int16), np.trim_zeros(wave)])
        soundfile.write(folder / f"{name}.wav", wave, 8_000)
        transcripts[name] = transcribe(mission_channels.recorded(folder / f"{name}.wav", 48_000, 8_000))
    done = call("pretrain", "record", run, "--data", folder)
    assert done.code == 0, done.err
    result = json.loads(done.out.splitlines()[-1])
    assert (result["examples"], result["speakers"]) == (4, 1)
    assert result["exact"] == np.mean([transcripts[name] == text for name, text in lines.items()])
    assert all(f"{name}.wav" in done.out for name in lines)


def test_bad_input_is_one_line(run: Path, tmp_path: Path) -> None:
    assert_one_line(call("pretrain", "record", run), 2, "--data FOLDER for the recordings")
    for count in (0, 10**6):
        done = call("pretrain", "record", run, "--data", tmp_path / "v", "--examples", count)
        assert_one_line(done, 2, f"must be 1 to 1,000 missions, not {count}")
    assert not (tmp_path / "v").exists()
    (tmp_path / "a.trans.txt").write_text("a-0 go to the ball\n")
    soundfile.write(tmp_path / "a-0.wav", np.full(70_000, 99, np.int16), 8_000)
    assert_one_line(call("pretrain", "record", run, "--data", tmp_path), 2, "the network takes 6.0 s at most")
    words = ("digits", "--examples", 100, "--epochs", 1, "--threads", 1, "--no-baselines", "--run-dir", tmp_path / "d")
    assert pretrain(*words).code == 0
    assert_one_line(call("pretrain", "record", tmp_path / "d", "--data", tmp_path), 2, "missions come by speech")
