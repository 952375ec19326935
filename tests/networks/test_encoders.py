"""Encoders: spec, invariance to padding and batch composition, saving and loading."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from gymnasium import spaces

from networks.encoders import reuse, store
from networks.encoders.audio import CRNNAttention
from networks.encoders.base import ARCHITECTURES, Encoder, EncoderError, build, space_from_json, space_to_json
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
def test_an_encoder_matches_its_spec(arch: str) -> None:
    encoder, x = made(arch)
    spec = encoder.spec
    features = encoder(x)
    assert features.shape == (5, spec.out_dim)
    assert features.dtype == torch.float32
    assert torch.isfinite(features).all()
    assert features.std(dim=0).max() > 1e-4  # different observations, different features
    if spec.token_dim is not None:
        tokens, mask = encoder.tokens(x)
        assert tokens.shape == (*mask.shape, spec.token_dim)
        assert mask.dtype == torch.bool
        assert mask.any(dim=1).all()
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
    assert space_from_json(spec.input) == ODD.get(arch, SPACES[spec.modality])


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_features_do_not_depend_on_the_rest_of_the_batch(arch: str) -> None:
    encoder, x = made(arch)
    together = encoder(x)
    alone = torch.cat([encoder(x[index : index + 1]) for index in range(len(x))])
    assert torch.allclose(together, alone, atol=2e-5)


@pytest.mark.parametrize("arch", SPEECH)
def test_features_do_not_depend_on_the_padding_of_a_recording(arch: str) -> None:
    generator = torch.Generator().manual_seed(1)
    wave = torch.randint(-5000, 5000, (1, 6000), generator=generator).to(torch.int16)
    wave[wave == 0] = 1
    result = []
    for length in (8000, 12000):
        torch.manual_seed(0)
        encoder = build(arch, spaces.Box(-32768, 32767, (length,), np.int16), sample_rate=8000).eval()
        result.append(encoder(torch.nn.functional.pad(wave, (0, length - 6000))))
    assert torch.allclose(result[0], result[1], atol=1e-4)
    assert torch.isfinite(encoder(torch.zeros(2, 12000, dtype=torch.int16))).all()  # silence


@pytest.mark.parametrize("arch", [name for name, (kind, _) in ARCHITECTURES.items() if kind == "text"])
def test_features_do_not_depend_on_the_padding_of_a_text(arch: str) -> None:
    encoder, _ = made(arch)
    text = torch.tensor([[5, 9, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0], [7, 2, 2, 8, 9, 4, 1, 0, 0, 0, 0, 0]])
    cut = encoder.pooled(text[:, :7])  # type: ignore[operator]
    assert torch.allclose(encoder.pooled(text), cut, atol=1e-5)  # type: ignore[operator]
    assert torch.isfinite(encoder(torch.zeros(1, 12, dtype=torch.long))).all()  # an empty text


def test_the_value_of_a_word_does_not_depend_on_its_context() -> None:
    torch.manual_seed(0)
    encoder = build("word-attention", SPACES["text"], questions=1, answer=4).eval()
    assert isinstance(encoder, WordAttention)
    texts = torch.tensor([[5, 9, 3, *[0] * 9], [7, 9, 2, *[0] * 9]])
    with torch.no_grad():
        encoder.score.weight.zero_()
        encoder.score.bias.fill_(50.0)  # attend to all words, not to "none"
        mean = encoder(texts)
        assert torch.allclose(mean, encoder.answers(texts[:, :3]).mean(dim=1), atol=1e-5)
        encoder.score.bias.fill_(-50.0)
        assert torch.allclose(encoder(texts), torch.zeros(2, 4), atol=1e-5)
        encoder.score.bias.zero_()
        assert torch.allclose(encoder(texts), 0.75 * mean, atol=1e-5)  # "none" is a fourth option


def test_the_value_of_a_sound_does_not_depend_on_distant_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, _ = made("crnn-attention", questions=1)
    assert isinstance(encoder, CRNNAttention)
    first, last = torch.rand(2, 2, 1, 20, 128)
    mask = torch.ones(1, 50, dtype=torch.bool)

    def features(before: int, after: int) -> torch.Tensor:
        frames = torch.cat([first[before], torch.zeros(1, 10, 128), last[after]], dim=1)
        monkeypatch.setattr(encoder, "frames", lambda x: (frames, mask))
        return encoder(torch.empty(0))

    with torch.no_grad():
        encoder.score.weight.zero_()
        encoder.score.bias.fill_(50.0)  # attend to all frames, not to "none"
        changed = features(0, 1) - features(0, 0)
        assert changed.abs().max() > 1e-3
        assert torch.allclose(features(1, 1) - features(1, 0), changed, atol=1e-6)
        encoder.score.bias.fill_(-50.0)
        assert torch.allclose(features(0, 0), torch.zeros(1, 16), atol=1e-5)


def test_missing_values_differ_from_the_mean() -> None:
    encoder, x = made("mlp")
    missing = x.clone()
    missing[0, 2] = float("nan")
    at_mean = x.clone()
    at_mean[0, 2] = 0.0
    assert torch.isfinite(encoder(missing)).all()
    assert not torch.allclose(encoder(missing)[0], encoder(at_mean)[0])
    assert torch.equal(encoder(missing)[1:], encoder(x)[1:])


def test_resnet_loads_published_weights(tmp_path: Path) -> None:
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
    assert torch.equal(encoder.eval()(x), before)  # loaded batch statistics stay frozen
    with pytest.raises(EncoderError, match="not weights of a ResNet-18 with group norm"):
        made("resnet18")[0].load_published(weights)  # type: ignore[operator]


BAD: dict[str, tuple[str, spaces.Space, dict[str, Any], str]] = {
    "unknown": ("natur", FRAMES, {}, "there is no architecture 'natur'"),
    "a text for an image": ("nature", WORDS, {}, "takes images"),
    "an image for a text": ("gru", FRAMES, {}, "takes token ids"),
    "a text for numbers": ("mlp", WORDS, {}, "takes vectors"),
    "an image for a game's sound": ("console", FRAMES, {}, "takes sound"),
    "an image for a sound": ("crnn", FRAMES, {}, "takes waveforms"),
    "unknown option": ("gru", WORDS, {"depth": 3}, "cannot be built with these arguments"),
    "small image": ("small-cnn", spaces.Box(0, 255, (1, 3, 3), np.uint8), {}, "too small"),
    "other norm": ("resnet18", FRAMES, {"norm": "layer"}, "not layer"),
}


@pytest.mark.parametrize("name", BAD)
def test_impossible_encoders_are_refused(name: str) -> None:
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
def test_an_encoder_survives_saving_and_loading(arch: str, tmp_path: Path) -> None:
    encoder, x = made(arch)
    if hasattr(encoder, "normalize"):
        encoder.normalize.fit(x.float())  # type: ignore[operator]
    store.save(tmp_path / "run" / "encoder", encoder, {}, {}, {})
    again = store.load(tmp_path / "run")
    assert again.encoder.spec == encoder.spec
    assert torch.equal(again.encoder(x), encoder(x))


def test_saving_replaces_a_folder(tmp_path: Path) -> None:
    saved(tmp_path / "e", "textcnn")
    saved(tmp_path / "e")
    stored = store.load(tmp_path / "e")
    assert stored.encoder.spec.arch == "gru"
    assert stored.heads["x.weight"].shape == (2, 3)
    assert stored.labels == {"x": ["a", "b"]}
    assert stored.vocabularies["input"].words == ("ball", "red")
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


def test_a_failed_save_keeps_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_damaged_folders_are_refused_with_a_reason(tmp_path: Path) -> None:
    def damaged(name: str) -> Path:
        saved(tmp_path / name)
        return tmp_path / name

    with pytest.raises(EncoderError, match="holds no encoder"):
        store.load(tmp_path / "nothing")
    weights = damaged("cut") / "encoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(EncoderError, match=r"encoder\.safetensors is not the file that was saved"):
        store.load(tmp_path / "cut")
    edit(damaged("later") / "config.json", spec__schema=99)
    with pytest.raises(EncoderError, match=r"schema 99.*later version"):
        store.load(tmp_path / "later")
    edit(damaged("other") / "config.json", spec__arch="textcnn")
    with pytest.raises(EncoderError, match=r"cannot be"):
        store.load(tmp_path / "other")
    edit(damaged("strange") / "config.json", spec__colour="red")
    with pytest.raises(EncoderError, match="unknown colour"):
        store.load(tmp_path / "strange")
    (damaged("words") / "vocab.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"vocab\.json is not the file"):
        store.load(tmp_path / "words")
    (damaged("text") / "config.json").write_text("{")
    with pytest.raises(EncoderError, match="cannot be read"):
        store.load(tmp_path / "text")


FITS: dict[str, tuple[str, spaces.Space, str]] = {
    "a text": ("nature", WORDS, "expects uint8 box 4x84x84"),
    "channels last": ("nature", spaces.Box(0, 255, (84, 84, 4), np.uint8), "channels first"),
    "other size": ("nature", spaces.Box(0, 255, (4, 42, 42), np.uint8), "--image-size 84"),
    "floats": ("nature", spaces.Box(0, 1, (4, 84, 84), np.float32), "give it the raw frames"),
    "other words": ("gru", spaces.MultiDiscrete([31] * 12), "another vocabulary"),
    "a dict": ("gru", spaces.Dict({"a": WORDS}), "does not fit 'obs'"),
}


def test_an_encoder_lists_no_file_outside_its_folder(tmp_path: Path) -> None:
    saved(tmp_path / "e")
    (tmp_path / "outside").write_text("x")
    edit(tmp_path / "e" / "config.json", **{"files__../outside": hashlib.sha256(b"x").hexdigest()})
    with pytest.raises(EncoderError, match="outside is not the file that was saved"):
        store.load(tmp_path / "e")


@pytest.mark.parametrize("name", FITS)
def test_an_encoder_refuses_other_observations(name: str, tmp_path: Path) -> None:
    arch, space, words = FITS[name]
    encoder, _ = made(arch)
    store.save(tmp_path / "e", encoder, {}, {}, {})
    stored = store.load(tmp_path / "e")
    store.check_fits(stored, "obs", space_from_json(encoder.spec.input))
    with pytest.raises(EncoderError, match=words):
        store.check_fits(stored, "obs", space)


def test_vocabularies_are_stable() -> None:
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


def test_spaces_survive_json() -> None:
    for space in (*SPACES.values(), *ODD.values()):
        assert space_from_json(json.loads(json.dumps(space_to_json(space)))) == space
    with pytest.raises(EncoderError, match="no encoder supports"):
        space_to_json(spaces.Discrete(3))
    with pytest.raises(EncoderError, match="does not describe"):
        space_from_json({"kind": "box"})


def test_a_file_of_enormous_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "e")
    monkeypatch.setattr(store, "MAX_BYTES", 100)
    with pytest.raises(EncoderError, match="is larger than"):
        store.load(tmp_path / "e")


def test_an_architecture_that_has_changed_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "e")
    edit(tmp_path / "e" / "config.json", spec__out_dim=7)
    with pytest.raises(EncoderError, match="its architecture 'gru' has changed since"):
        store.load(tmp_path / "e")


def test_an_encoder_of_a_key_needs_a_dict() -> None:
    with pytest.raises(EncoderError, match="is given for 'screen'"):
        reuse.check_key("screen", FRAMES)
