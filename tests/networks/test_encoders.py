"""Encoders: what they are built from, that padding and neighbours change nothing, that folders are what was saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from gymnasium import spaces

from networks.encoders import store
from networks.encoders.audio import CRNNAttention
from networks.encoders.base import ARCHITECTURES, Encoder, EncoderError, build, describe, space_of
from networks.encoders.text import WordAttention
from networks.encoders.vocabulary import Vocabulary, check_drift

FRAMES = spaces.Box(0, 255, (4, 84, 84), np.uint8)
DIGITS = spaces.Box(0, 255, (1, 8, 8), np.uint8)
GRID = spaces.Box(0, 1, (20, 7, 7), np.uint8)
WORDS = spaces.MultiDiscrete([30] * 12)
SOUND = spaces.Box(-32768, 32767, (8000,), np.int16)
NUMBERS = spaces.Box(-np.inf, np.inf, (6,), np.float32)
SPACES: dict[str, spaces.Space] = {"image": FRAMES, "grid": GRID, "text": WORDS, "audio": SOUND, "vector": NUMBERS}
ODD = {"small-cnn": DIGITS, "minatar": spaces.Box(0, 1, (4, 10, 10), np.uint8),
       "console": spaces.Box(0, 255, (2048,), np.uint8)}  # fmt: skip
SPEECH = [name for name, (kind, _) in ARCHITECTURES.items() if kind == "audio" and name not in ODD]


def made(arch: str, **kwargs: Any) -> tuple[Encoder, torch.Tensor]:
    """An encoder in eval mode, and five observations for it."""
    torch.manual_seed(0)
    space = ODD.get(arch, SPACES[ARCHITECTURES[arch][0]])
    if arch in SPEECH:
        kwargs["sample_rate"] = 8000
    space.seed(0)
    x = torch.from_numpy(np.stack([space.sample() for _ in range(5)]))
    return build(arch, space, **kwargs).eval(), x


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_an_encoder_is_what_its_spec_says(arch: str) -> None:
    encoder, x = made(arch)
    spec = encoder.spec
    features = encoder(x)
    assert features.shape == (5, spec.out_dim)
    assert features.dtype == torch.float32
    assert torch.isfinite(features).all()
    assert features.std(dim=0).max() > 1e-4  # different observations, different features
    if spec.token_dim is not None:
        tokens, real = encoder.tokens(x)
        assert tokens.shape == (*real.shape, spec.token_dim)
        assert real.dtype == torch.bool
        assert real.any(dim=1).all()
        pooled, again, _ = encoder.features_and_tokens(x)
        assert torch.allclose(pooled, features, atol=1e-4)
        assert torch.equal(again, tokens)
    else:
        with pytest.raises(EncoderError, match="has no tokens"):
            encoder.tokens(x)
    grouped = [id(p) for group in encoder.layer_groups() for p in group.parameters()]
    assert len(grouped) == len(set(grouped))
    missing = {id(p) for p in encoder.parameters()} - set(grouped)
    names = {name for name, p in encoder.named_parameters() if id(p) in missing}
    assert names <= {"position", "norms.0.weight", "norms.0.bias", "norms.1.weight", "norms.1.bias",
                     "norms.2.weight", "norms.2.bias", "layers.norm.weight", "layers.norm.bias"}  # fmt: skip
    assert space_of(spec.input) == ODD.get(arch, SPACES[spec.modality])


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_one_observation_has_the_features_that_it_has_among_others(arch: str) -> None:
    encoder, x = made(arch)
    together = encoder(x)
    alone = torch.cat([encoder(x[index : index + 1]) for index in range(len(x))])
    assert torch.allclose(together, alone, atol=2e-5)


@pytest.mark.parametrize("arch", SPEECH)
def test_padding_of_a_recording_changes_nothing(arch: str) -> None:
    generator = torch.Generator().manual_seed(1)
    wave = torch.randint(-5000, 5000, (1, 6000), generator=generator).to(torch.int16)
    wave[wave == 0] = 1
    found = []
    for length in (8000, 12000):
        torch.manual_seed(0)
        encoder = build(arch, spaces.Box(-32768, 32767, (length,), np.int16), sample_rate=8000).eval()
        found.append(encoder(torch.nn.functional.pad(wave, (0, length - 6000))))
    assert torch.allclose(found[0], found[1], atol=1e-4)
    assert torch.isfinite(encoder(torch.zeros(2, 12000, dtype=torch.int16))).all()  # silence


@pytest.mark.parametrize("arch", [name for name, (kind, _) in ARCHITECTURES.items() if kind == "text"])
def test_padding_of_a_text_changes_nothing(arch: str) -> None:
    encoder, _ = made(arch)
    text = torch.tensor([[5, 9, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0], [7, 2, 2, 8, 9, 4, 1, 0, 0, 0, 0, 0]])
    cut = encoder.pooled(text[:, :7])  # type: ignore[operator]
    assert torch.allclose(encoder.pooled(text), cut, atol=1e-5)  # type: ignore[operator]
    assert torch.isfinite(encoder(torch.zeros(1, 12, dtype=torch.long))).all()  # an empty text


def test_what_a_word_answers_does_not_depend_on_the_words_around_it() -> None:
    torch.manual_seed(0)
    encoder = build("word-attention", SPACES["text"], questions=1, answer=4).eval()
    assert isinstance(encoder, WordAttention)
    texts = torch.tensor([[5, 9, 3, *[0] * 9], [7, 9, 2, *[0] * 9]])
    with torch.no_grad():
        encoder.score.weight.zero_()
        encoder.score.bias.fill_(50.0)  # asks for any word, rather than none
        shares = encoder(texts)
        assert torch.allclose(shares, encoder.answers(texts[:, :3]).mean(dim=1), atol=1e-5)
        encoder.score.bias.fill_(-50.0)
        assert torch.allclose(encoder(texts), torch.zeros(2, 4), atol=1e-5)
        encoder.score.bias.zero_()
        assert torch.allclose(encoder(texts), 0.75 * shares, atol=1e-5)  # no word is one more to choose from


def test_what_a_sound_answers_does_not_depend_on_what_sounds_long_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, _ = made("crnn-attention", questions=1)
    assert isinstance(encoder, CRNNAttention)
    first, last = torch.rand(2, 2, 1, 20, 128)
    kept = torch.ones(1, 50, dtype=torch.bool)

    def heard(before: int, after: int) -> torch.Tensor:
        moments = torch.cat([first[before], torch.zeros(1, 10, 128), last[after]], dim=1)
        monkeypatch.setattr(encoder, "moments", lambda x: (moments, kept))
        return encoder(torch.empty(0))

    with torch.no_grad():
        encoder.score.weight.zero_()
        encoder.score.bias.fill_(50.0)  # asks for any moment, rather than none
        changed = heard(0, 1) - heard(0, 0)
        assert changed.abs().max() > 1e-3
        assert torch.allclose(heard(1, 1) - heard(1, 0), changed, atol=1e-6)
        encoder.score.bias.fill_(-50.0)
        assert torch.allclose(heard(0, 0), torch.zeros(1, 16), atol=1e-5)


def test_missing_numbers_are_seen_as_missing() -> None:
    encoder, x = made("mlp")
    gone = x.clone()
    gone[0, 2] = float("nan")
    at_mean = x.clone()
    at_mean[0, 2] = 0.0
    assert torch.isfinite(encoder(gone)).all()
    assert not torch.allclose(encoder(gone)[0], encoder(at_mean)[0])
    assert torch.equal(encoder(gone)[1:], encoder(x)[1:])


def test_resnet_takes_weights_under_their_usual_names(tmp_path: Path) -> None:
    encoder, x = made("resnet18", norm="batch")
    names = set(encoder.state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer2.0.downsample.0.weight",
            "layer4.1.bn2.bias"} <= names  # fmt: skip
    weights = {
        name: torch.full_like(value, 0.5) for name, value in encoder.state_dict().items() if "normal" not in name
    }
    encoder.load_published({**weights, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)})  # type: ignore[operator]
    assert (encoder.state_dict()["layer3.0.conv2.weight"] == 0.5).all()
    before = encoder.train()(x)
    assert torch.equal(encoder.eval()(x), before)  # statistics that were loaded stay as they are
    with pytest.raises(EncoderError, match="no weights of a ResNet-18 normalised by group"):
        made("resnet18")[0].load_published(weights)  # type: ignore[operator]


BAD: dict[str, tuple[str, spaces.Space, dict[str, Any], str]] = {
    "unknown": ("natur", FRAMES, {}, "there is no architecture 'natur'"),
    "a text for an image": ("nature", WORDS, {}, "reads images"),
    "an image for a text": ("gru", FRAMES, {}, "reads token ids"),
    "an image for a sound": ("crnn", FRAMES, {}, "reads waveforms"),
    "unknown option": ("gru", WORDS, {"depth": 3}, "cannot be built so"),
    "small image": ("small-cnn", spaces.Box(0, 255, (1, 3, 3), np.uint8), {}, "too small"),
    "other norm": ("resnet18", FRAMES, {"norm": "layer"}, "not layer"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_built_is_told(name: str) -> None:
    arch, space, kwargs, words = BAD[name]
    with pytest.raises(EncoderError, match=words):
        build(arch, space, **kwargs)


def saved(folder: Path, arch: str = "gru") -> Encoder:
    encoder, _ = made(arch)
    words = {"input": Vocabulary(("ball", "red"))}
    heads = {"x.weight": torch.ones(2, 3)}
    store.save(folder, encoder, heads, {"task": "t"}, {"test": {"f1": 1.0}}, {"x": ["a", "b"]}, words)
    return encoder


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_folder_gives_the_encoder_back(arch: str, tmp_path: Path) -> None:
    encoder, x = made(arch)
    if hasattr(encoder, "normalize"):
        encoder.normalize.fit(x.float())  # type: ignore[operator]
    store.save(tmp_path / "run" / "encoder", encoder, {}, {}, {})
    again = store.load(tmp_path / "run")
    assert again.encoder.spec == encoder.spec
    assert torch.equal(again.encoder(x), encoder(x))


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    saved(tmp_path / "e", "textcnn")
    saved(tmp_path / "e")
    stored = store.load(tmp_path / "e")
    assert stored.encoder.spec.arch == "gru"
    assert stored.heads["x.weight"].shape == (2, 3)
    assert stored.labels == {"x": ["a", "b"]}
    assert stored.vocabularies["input"].words == ("ball", "red")
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


def test_a_write_that_fails_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "e")

    def fail(*arguments: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match="no space"):
        saved(tmp_path / "e", "textcnn")
    assert store.load(tmp_path / "e").encoder.spec.arch == "gru"
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


def edit(path: Path, **changes: Any) -> None:
    values = json.loads(path.read_text())
    for key, value in changes.items():
        part = values
        *way, last = key.split("__")
        for step in way:
            part = part[step]
        part[last] = value
    path.write_text(json.dumps(values))


def test_damaged_folders_are_told_apart(tmp_path: Path) -> None:
    def spoiled(name: str) -> Path:
        saved(tmp_path / name)
        return tmp_path / name

    with pytest.raises(EncoderError, match="holds no encoder"):
        store.load(tmp_path / "nothing")
    weights = spoiled("cut") / "encoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(EncoderError, match=r"encoder\.safetensors is not the file that was saved"):
        store.load(tmp_path / "cut")
    edit(spoiled("later") / "config.json", spec__schema=99)
    with pytest.raises(EncoderError, match=r"schema 99.*later version"):
        store.load(tmp_path / "later")
    edit(spoiled("other") / "config.json", spec__arch="textcnn")
    with pytest.raises(EncoderError, match=r"cannot be"):
        store.load(tmp_path / "other")
    edit(spoiled("strange") / "config.json", spec__colour="red")
    with pytest.raises(EncoderError, match="unknown colour"):
        store.load(tmp_path / "strange")
    (spoiled("words") / "vocab.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"vocab\.json is not the file"):
        store.load(tmp_path / "words")
    (spoiled("text") / "config.json").write_text("{")
    with pytest.raises(EncoderError, match="cannot be read"):
        store.load(tmp_path / "text")


FITS: dict[str, tuple[str, spaces.Space, str]] = {
    "a text": ("nature", WORDS, "expects uint8 box 4x84x84"),
    "channels last": ("nature", spaces.Box(0, 255, (84, 84, 4), np.uint8), "channels first"),
    "other size": ("nature", spaces.Box(0, 255, (4, 42, 42), np.uint8), "--image-size 84"),
    "floats": ("nature", spaces.Box(0, 1, (4, 84, 84), np.float32), "give it the raw frames"),
    "other words": ("gru", spaces.MultiDiscrete([31] * 12), "another vocabulary"),
    "a dict": ("gru", spaces.Dict({"a": WORDS}), "cannot read 'obs'"),
}


@pytest.mark.parametrize("name", FITS)
def test_an_encoder_refuses_what_it_was_not_made_for(name: str, tmp_path: Path) -> None:
    arch, space, words = FITS[name]
    encoder, _ = made(arch)
    store.save(tmp_path / "e", encoder, {}, {}, {})
    stored = store.load(tmp_path / "e")
    store.check_fits(stored, "obs", space_of(encoder.spec.input))
    with pytest.raises(EncoderError, match=words):
        store.check_fits(stored, "obs", space)


def test_words_have_their_numbers_for_good() -> None:
    words = Vocabulary.of(["go to the red ball", "pick up a key"])
    assert words.words == tuple(sorted(["go", "to", "the", "red", "ball", "pick", "up", "a", "key"]))
    assert words.decode(words.encode("go to the blue ball")) == "go to the <unk> ball"
    assert words.array(["red ball", "a"], 3).tolist() == [[*words.encode("red ball"), 0], [*words.encode("a"), 0, 0]]
    assert Vocabulary.from_json(json.loads(json.dumps(words.to_json()))) == words
    assert Vocabulary(words.words[::-1]).sha256 != words.sha256
    with pytest.raises(EncoderError, match="changed after it was written"):
        Vocabulary.from_json({**words.to_json(), "words": ["red"]})
    marked = Vocabulary.of(["走到 红色的球"], marks=True, tokenizer="letters")
    assert marked.encode("红球") == [2, *(marked.words.index(letter) + 4 for letter in "红球"), 3]
    assert marked.decode([*marked.encode("红色的球"), 5, 5]) == "红色的球"
    check_drift(words, ["go to the red ball"])
    with pytest.raises(EncoderError, match="25% of the words are unknown, such as azure"):
        check_drift(words, ["the azure red ball"])


def test_spaces_are_described_whole() -> None:
    for space in (*SPACES.values(), *ODD.values()):
        assert space_of(json.loads(json.dumps(describe(space)))) == space
    with pytest.raises(EncoderError, match="no encoder reads"):
        describe(spaces.Discrete(3))
    with pytest.raises(EncoderError, match="does not describe"):
        space_of({"kind": "box"})
