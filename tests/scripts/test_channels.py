"""Mission channels: Chinese and French text, speech, and interpreters that turn them into English."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from agents.config import TrainConfig
from agents.errors import ConfigError
from envs.make import make_envs
from envs.missions import MissionChannel, mission_text
from networks.encoders import store
from networks.encoders.base import EncoderError
from networks.supervised import espeak
from networks.supervised.data import DataError
from networks.supervised.mission_grammar import Clause, Mission, Thing, parse, to_english, translate
from scripts.runner import mission_channels
from scripts.runner.environments import environments
from scripts.runner.saved_run import load_run
from tests.scripts.inside import assert_one_line, call

GAME = "BabyAI-GoToLocal-v0"


def has_voice() -> bool:
    try:
        return len(espeak.synthesize("go")) > 0
    except DataError:
        return False


needs_voice = pytest.mark.skipif(not has_voice(), reason="no espeak-ng is installed")


@pytest.fixture(scope="module")
def chinese(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A briefly trained translator from Chinese to English."""
    run = tmp_path_factory.mktemp("zh") / "run"
    words = ("--examples", 200, "--epochs", 1, "--threads", 1, "--no-baselines", "--run-dir", run)
    done = call("pretrain", "translate-zh-en", *words)
    assert done.code == 0, done.err
    return run


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("agent") / "run"
    done = call("train", "ppo", "--env", GAME, "--preset", "tiny", "--track", "disabled", "--run-dir", run)
    assert done.code == 0, done.err
    return run


def test_a_mission_is_rendered_once_per_episode_and_follows_from_the_seed() -> None:
    calls: list[tuple[str, int]] = []

    def render(text: str, seed: int) -> np.ndarray:
        calls.append((text, seed))
        return np.full(3, len(calls))

    plain = make_envs(GAME, 2)
    envs = MissionChannel(
        make_envs(GAME, 2), render, mission_channels.space_from_json({"kind": "box", "shape": [3], "dtype": "int64"})
    )
    for _ in range(2):
        obs, _ = envs.reset(seed=[5, 6])
        expected, _ = plain.reset(seed=[5, 6])
        rng = np.random.default_rng(0)
        for _ in range(70):  # beyond one episode of 64 steps
            action = rng.integers(7, size=2)
            obs, *_ = envs.step(action)
            expected, *_ = plain.step(action)
            assert (obs["image"] == expected["image"]).all()
            texts = [text for text, _ in calls]
            assert [texts[number - 1] for number in obs["mission"][:, 0]] == [
                mission_text(mission) for mission in expected["mission"]
            ]
        half = calls
    count = len(calls) // 2
    assert 4 <= count < 40
    assert half[:count] == half[count:]
    assert len({seed for _, seed in calls[:count]}) == count


def test_a_game_without_missions_is_refused() -> None:
    with pytest.raises(ValueError, match="has no missions"):
        MissionChannel(make_envs("CartPole-v1", 1), lambda text, seed: np.zeros(1), None)  # type: ignore[arg-type]


def test_a_mission_is_parsed_and_translated() -> None:
    mission = Mission(
        (Clause("put", Thing("red", "box", "left"), Thing(None, "door", None, False)),),
        (Clause("go to", Thing()),),
        "after",
    )
    assert to_english(mission) == "put the red box on your left next to a door after you go to the object"
    assert translate(mission, "zh") == "把你左边的红色的箱子放到门旁边，不过要先走到东西"
    assert (
        translate(mission, "fr") == "mets la boîte rouge à ta gauche à côté d'une porte, mais d'abord va vers l'objet"
    )
    assert parse(to_english(mission)) == mission
    assert parse(" Go to  the RED ball. ") == Mission((Clause("go to", Thing("red", "ball")),))
    assert parse("go to a key and then open a door").joint == "then"


def test_an_interpreter_translates_chinese_missions_for_an_agent(agent: Path, chinese: Path) -> None:
    saved = load_run(agent)
    config = TrainConfig(env=GAME, mission_channel="zh", interpreter=str(chinese))
    envs = environments(config, 2)
    assert envs.single_observation_space == saved.agent.observation_space
    obs, _ = envs.reset(seed=[1, 2])
    assert envs.single_observation_space.contains({key: part[0] for key, part in obs.items()})
    words = ("--episodes", 2, "--mission-channel", "zh", "--interpreter", chinese)
    done = call("evaluate", agent, *words)
    assert done.code == 0, done.err
    assert json.loads(done.out.splitlines()[-1])["mission_channel"] == "zh"


def test_a_run_folder_holds_a_copy_of_its_interpreter(chinese: Path, tmp_path: Path) -> None:
    words = ("--preset", "tiny", "--track", "disabled", "--run-dir", tmp_path / "run")
    done = call("train", "ppo", "--env", GAME, *words, "--mission-channel", "zh", "--interpreter", chinese)
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "encoders" / "interpreter" / "config.json").exists()
    assert load_run(tmp_path / "run").config.interpreter.startswith(str(tmp_path / "run"))


def test_an_agent_reads_chinese_by_an_encoder_of_chinese(chinese: Path, tmp_path: Path) -> None:
    words = ("--preset", "tiny", "--track", "disabled", "--total-steps", 100, "--run-dir", tmp_path / "run")
    given = ("--mission-channel", "zh", "--encoder", f"mission={chinese}", "--encoder-mode", "mission=finetune")
    done = call("train", "ppo", "--env", GAME, *words, *given)
    assert done.code == 0, done.err
    saved = load_run(tmp_path / "run")
    envs = environments(saved.config, 2)
    stored = store.load(chinese)
    missions = envs.reset(seed=[1, 2])[0]["mission"]
    texts = [stored.vocabularies["input"].decode(row) for row in missions]
    assert all("走" in text or "去" in text or "到" in text for text in texts), texts


def test_a_custom_mission_is_interpreted_and_its_words_are_checked(chinese: Path) -> None:
    config = TrainConfig(env=GAME, mission_channel="zh", interpreter=str(chinese))
    mission = Mission((Clause("go to", Thing("red", "ball")),))
    understood = mission_channels.interpreted_mission(config, translate(mission, "zh"))
    assert set(understood.split()) <= set(mission_channels.WORDS.words)
    with pytest.raises(EncoderError, match="vocabulary drift"):
        mission_channels.interpreted_mission(config, "fetch me a cappuccino")
    other = store.load(chinese)
    other.encoder.spec = replace(other.encoder.spec, input={**other.encoder.spec.input, "target_language": "fr"})
    with pytest.raises(ConfigError, match="makes no English"):
        mission_channels.interpreter(other)


def test_a_custom_mission_replaces_the_game_s(agent: Path, tmp_path: Path) -> None:
    done = call("watch", agent, "--say", "Go to the red ball", "--out", tmp_path)
    assert done.code == 0, done.err
    assert 'the agent receives the mission "Go to the red ball"' in done.out
    assert len(list(tmp_path.glob("*.mp4"))) == 1
    assert_one_line(call("watch", agent, "--say", "fetch me a cappuccino", "--out", tmp_path), 2, "vocabulary drift")


@pytest.mark.parametrize("silence", [0.0, 20.0])
def test_silence_is_cut_off_both_ends(silence: float) -> None:
    rng = np.random.default_rng(0)
    speech = (8_000 * np.sin(np.arange(8_000) / 3.0)).astype(np.int16)
    speech[4_000:6_000] //= 100  # a pause stays
    before, after = (rng.normal(0.0, silence + 1e-9, size=size).astype(np.int16) for size in (12_000, 5_000))
    trimmed = mission_channels.between_silences(np.concatenate([before, speech, after]), 8_000)
    assert len(speech) <= len(trimmed) <= len(speech) + 2 * (240 + 160)
    begin = int(np.flatnonzero(trimmed == speech[1])[0]) - 1
    assert np.array_equal(trimmed[begin : begin + len(speech)], speech)
    assert np.array_equal(mission_channels.between_silences(speech, 8_000), speech)
    for silent in (np.zeros(8_000, np.int16), np.zeros(3, np.int16)):
        assert np.array_equal(mission_channels.between_silences(silent, 8_000), silent)


@needs_voice
def test_a_spoken_mission_can_be_a_recording(tmp_path: Path) -> None:
    wave = espeak.synthesize("go to the red ball", rate=22_050)
    soundfile.write(tmp_path / "say.wav", wave, 22_050)
    waveform = mission_channels.spoken(str(tmp_path / "say.wav"), 0, 48_000, 8_000)
    assert waveform.dtype == np.int16
    assert waveform.shape == (48_000,)
    length = np.flatnonzero(waveform)[-1] + 1
    assert len(wave) / 22_050 - 0.3 < length / 8_000 <= len(wave) / 22_050 + 0.01  # espeak ends in silence
    with pytest.raises(ValueError, match=r"the network takes 0\.5 s at most"):
        mission_channels.spoken(str(tmp_path / "say.wav"), 0, 4_000, 8_000)
    (tmp_path / "broken.wav").write_bytes(b"RIFF....")
    with pytest.raises(ValueError, match="cannot be read as sound"):
        mission_channels.spoken(str(tmp_path / "broken.wav"), 0, 4_000, 8_000)
    assert not np.array_equal(mission_channels.spoken("go to the red ball", 1, 48_000, 8_000),
                              mission_channels.spoken("go to the red ball", 2, 48_000, 8_000))  # fmt: skip


@needs_voice
def test_voices_differ_and_test_voices_are_held_out(tmp_path: Path) -> None:
    waves = {
        voice: espeak.synthesize("go left", espeak.VoiceStyle(voice))
        for voice in (*espeak.TRAIN_VOICES, *espeak.TEST_VOICES)
    }
    assert len({wave.tobytes() for wave in waves.values()}) == len(waves)
    assert not set(espeak.TRAIN_VOICES) & {*espeak.TEST_VOICES, *espeak.VALID_VOICES}
    with pytest.raises(DataError, match="no voice nobody"):
        espeak.synthesize("go", espeak.VoiceStyle("nobody"))


BAD: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no reader": (("--mission-channel", "zh"), ("no network reads missions by zh", "--interpreter RUN")),
    "other language": (("--mission-channel", "fr", "--interpreter", "{zh}"), ("come by fr", "reads zh")),
    "speech": (("--mission-channel", "speech", "--interpreter", "{zh}"), ("come by speech", "reads zh")),
    "no folder": (("--mission-channel", "zh", "--interpreter", "nowhere"), ("holds no encoder",)),
}


@pytest.mark.parametrize("name", BAD)
def test_a_channel_without_a_reader_is_one_line(name: str, agent: Path, chinese: Path) -> None:
    words, fragments = BAD[name]
    assert_one_line(call("evaluate", agent, *(word.format(zh=chinese) for word in words)), 2, *fragments)


def test_games_without_missions_take_no_channel(tmp_path: Path) -> None:
    words: Any = ("--preset", "tiny", "--track", "disabled", "--run-dir", tmp_path / "run", "--mission-channel", "zh")
    done = call("train", "ppo", "--env", "CartPole-v1", *words)
    assert_one_line(done, 2, "CartPole-v1 has none")
    assert not (tmp_path / "run").exists()


def test_the_channel_none_gives_empty_missions() -> None:
    envs = environments(TrainConfig(env=GAME, mission_channel="none"), 2)
    assert not envs.reset(seed=[1, 2])[0]["mission"].any()
