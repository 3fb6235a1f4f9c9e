import json

import numpy as np
import pytest
import torch
from PIL import Image

from rlcap.errors import ConfigError
from rlcap.scorers.clip import ClipScorer

WORDS = [
    "<pad>",
    "<s>",
    "</s>",
    "<unk>",
    *["a", "red", "blue", "dog", "cat", "bus", "runs", "sleeps", "waits", ".", "and", "the"],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny untrained CLIP of open_clip's `local-dir:` layout, with a word tokenizer."""
    import open_clip
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("clip") / "tiny"
    folder.mkdir()
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {
            "context_length": 8,
            "vocab_size": len(WORDS),
            "width": 32,
            "heads": 2,
            "layers": 1,
            "pool_type": "eos",
            "eos_id": 2,
            "hf_tokenizer_name": "here",
        },
    }
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    model = open_clip.CLIP(**{k: config[k] for k in ("embed_dim", "vision_cfg", "text_cfg")})
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def scorer(folder, tmp_path_factory):
    return ClipScorer.load(f"local-dir:{folder}", cache_dir=tmp_path_factory.mktemp("cache"), batch_size=2)


@pytest.fixture
def photos(tmp_path):
    paths = []
    for seed in range(3):
        values = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / f"{seed}.png")
        paths.append(str(tmp_path / f"{seed}.png"))
    return paths


def unit(vectors):
    return torch.allclose(vectors.norm(dim=-1), torch.ones(len(vectors)), atol=1e-5)


def test_image_vectors_are_those_of_open_clip(scorer, photos):
    vectors = scorer.image_embeddings(photos)
    assert vectors.shape == (3, 16)
    assert unit(vectors)
    pixels = torch.stack([scorer.preprocess(Image.open(path)) for path in photos])
    with torch.no_grad():
        expected = torch.nn.functional.normalize(scorer.model.encode_image(pixels), dim=-1)
    torch.testing.assert_close(vectors, expected)


def test_a_cached_image_is_not_encoded_again(scorer, folder, photos, monkeypatch):
    first = scorer.image_embeddings(photos)
    again = ClipScorer.load(f"local-dir:{folder}", cache_dir=scorer._cache_dir)
    monkeypatch.setattr(again.model, "encode_image", None)
    twice = again.image_embeddings([photos[2], photos[0], photos[2]])
    assert torch.equal(twice, first[[2, 0, 2]])


def test_a_paragraph_is_the_mean_of_its_sentences(scorer):
    one = scorer.text_embeddings(["a red dog runs.", "the blue cat sleeps."], pooling="whole").vectors
    both = scorer.text_embeddings(["a red dog runs. the blue cat sleeps."])
    torch.testing.assert_close(both.vectors[0], torch.nn.functional.normalize(one.mean(0), dim=0))
    assert unit(both.vectors)
    assert not both.vectors.is_inference()


def test_unique_sentences_pass_once(scorer, monkeypatch):
    rows = []
    encode = scorer.model.encode_text

    def counting(tokens, **options):
        rows.append(len(tokens))
        return encode(tokens, **options)

    monkeypatch.setattr(scorer.model, "encode_text", counting)
    scorer.text_embeddings(["a dog. a cat.", "a cat. a dog.", "a cat."])
    assert sum(rows) == 2


def test_an_empty_text_is_a_flagged_zero(scorer):
    result = scorer.text_embeddings(["", "a dog", " \n"])
    assert result.empty.tolist() == [True, False, True]
    assert result.vectors[0].abs().sum() == 0
    assert result.vectors.isfinite().all()
    assert scorer.text_embeddings([]).vectors.shape == (0, 16)
    assert scorer.text_embeddings([""]).vectors.shape == (1, 16)


def test_truncation_keeps_the_end_mark_and_is_counted(scorer):
    fits, long = "a red dog and a cat", "a red dog and a cat runs"  # 6 and 7 words; 8 tokens with both marks
    assert scorer.context_length == 8
    assert scorer.tokenizer([long])[0].tolist()[-1] == 2
    result = scorer.text_embeddings([fits, long, ""], pooling="whole")
    assert result.truncated.tolist() == [False, True, False]
    assert result.truncated_fraction == pytest.approx(1 / 3)
    assert scorer.text_embeddings([f"{fits}. the bus waits."]).truncated.tolist() == [True]
    assert scorer.text_embeddings(["a red dog. a cat runs."]).truncated_fraction == 0


def test_the_built_in_tokenizer_counts_too(scorer, monkeypatch):
    from open_clip import SimpleTokenizer

    tokenizer = SimpleTokenizer(context_length=8)
    assert tokenizer(["a red dog and a cat runs"])[0].tolist()[-1] == tokenizer.eot_token_id
    monkeypatch.setattr(scorer, "tokenizer", tokenizer)
    monkeypatch.setattr(scorer.model, "encode_text", lambda tokens, normalize: torch.ones(len(tokens), 16))
    assert scorer._encode_texts(["a red dog and a cat", "a red dog and a cat runs"])[1].tolist() == [False, True]


def test_the_name_follows_weights_and_not_the_path(scorer, folder, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(folder, tmp_path / "elsewhere" / "tiny")
    assert ClipScorer.load(f"local-dir:{copy}").name == scorer.name
    weights = load_file(copy / "open_clip_model.safetensors")
    weights["visual.proj"][0, 0] += 1
    save_file(weights, copy / "open_clip_model.safetensors")
    assert ClipScorer.load(f"local-dir:{copy}").name != scorer.name


def test_the_scale_and_that_it_is_frozen(scorer):
    assert scorer.logit_scale == pytest.approx(1 / 0.07, rel=1e-4)
    assert not scorer.model.training
    assert not any(weight.requires_grad for weight in scorer.model.parameters())


def test_hollow_weights_are_refused(scorer):
    empty = torch.nn.Linear(2, 2)
    empty.weight = torch.nn.Parameter(torch.empty(0))
    with pytest.raises(RuntimeError, match=r"'weight'.*ZeRO-3"):
        ClipScorer(empty, None, scorer.tokenizer, "x", scorer._cache_dir, 1)


def test_refusals(folder, tmp_path):
    with pytest.raises(ConfigError, match="nowhere does not exist"):
        ClipScorer.load(f"local-dir:{tmp_path}/nowhere")
    (tmp_path / "open_clip_config.json").write_text((folder / "open_clip_config.json").read_text())
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match="only safetensors are loaded"):
        ClipScorer.load(f"local-dir:{tmp_path}")
    with pytest.raises(ValueError, match="laion2b_s34b_b79k"):
        ClipScorer.load("ViT-B-32")
    with pytest.raises(ValueError, match="are not safetensors"):
        ClipScorer.load("ViT-B-32", pretrained=str(tmp_path / "open_clip_pytorch_model.bin"))
    with pytest.raises(
        ConfigError, match=r"CLIP 'ViT-B-99 openai' .*can't be loaded: Model config for 'ViT-B-99' not found"
    ):
        ClipScorer.load("ViT-B-99", "openai")
    with pytest.raises(ConfigError, match=r"'opena' is not a known tag or valid file path; .*lists names and tags"):
        ClipScorer.load("ViT-B-32", "opena")
