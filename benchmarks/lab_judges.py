"""Make two models that the lab does not ship, so that the rewards that need them can be compared with its truth.

    python benchmarks/lab_judges.py --out DIR --json benchmarks/results/lab_judges.json
    python benchmarks/reward_quality.py --only lab --lab_judges DIR

* `answerer`, for `vqa_score`: the lab's captioner (FastVLM), trained to answer VQAScore's question about one sentence
  with yes or no. The sentences are true ones, and ones that are true of a near-duplicate or of another image.
* `chooser`, for `pick_score`: the lab's CLIP in the form of transformers, its context lengthened to CLIP's 77 tokens,
  then fine-tuned as PickScore was: which of two images belongs to the text? The other image is a near-duplicate.

Both see only scenes of the train split; their quality is measured on the test split. It takes twenty minutes on two
cores.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from quality_statistics import wins
from safetensors.torch import load_file
from tokenizers import AddedToken, processors
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, FastVlmForConditionalGeneration

from rlcap.cli.arguments import positive
from rlcap.lab.assets import ASSETS
from rlcap.lab.models.captioner import base_caption, captioner_processor, normalise, visual_tokens
from rlcap.lab.models.corpus import draw_corpus
from rlcap.lab.models.retriever import detailed_caption, retriever_config
from rlcap.lab.models.tokenizer import BOS, EOS, PAD, build_tokenizer
from rlcap.lab.source import draw_family, draw_scene
from rlcap.lab.world.renderer import draw
from rlcap.lab.world.scene import Scene, sample_sibling
from rlcap.lab.world.truth import check_caption
from rlcap.rewards.vqa_score import QUESTION
from rlcap.scorers.text.ngrams import tokenize
from rlcap.scorers.text.sentences import split_sentences
from rlcap.scorers.training.schedule import one_cycle

# isort: split
# Without the split, a folder `runs` in the root changes where ruff sorts this import.
from lab_runs import write_json

IGNORED = -100
"""A label that cross_entropy ignores."""
CONTEXT = 77
FAMILY = 4
PARTS = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
"""Names of a layer's parts: open_clip's → transformers'."""
QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
"""The parts that are one matrix in open_clip."""
Log = Callable[[str], None]


def draw_claim(scene: Scene, true: bool, rng: random.Random, split: str = "train") -> str:
    """Draw a sentence that is true of the scene, or one that is false.

    A false sentence is true of a similar scene (in 70 % of the draws) or of any scene.
    """
    while True:
        described = scene
        if not true:
            described = (
                sample_sibling(scene, rng, rng.choice((1, 2, 3))) if rng.random() < 0.7 else draw_scene(rng, split)
            )
        sentence = rng.choice(split_sentences(base_caption(described, rng)))
        verdict = check_caption(sentence, scene)
        if verdict.claims and bool(verdict.wrong) != true:
            return sentence


def make_answerer(out: Path, images: int, steps: int, log: Log, batch: int = 48, lr: float = 1e-3) -> None:
    """Train the answerer and save it.

    Only the projector and the language model learn, because the vision encoder sees well already. One answer per
    question teaches almost nothing in so few steps. So a linear probe, which is discarded at the end, also predicts
    after each word whether everything so far is true, and the model must predict true sentences word by word as in a
    caption; otherwise it forgets how to look.
    """
    processor, corpus = captioner_processor(), draw_corpus("answers", images)
    model = FastVlmForConditionalGeneration.from_pretrained(ASSETS / "captioner").float().train()
    tokenizer = processor.tokenizer
    new = dict.fromkeys(["yes", *tokenize(QUESTION.replace("{caption}", ""))])
    tokenizer.add_tokens([AddedToken(w, single_word=True) for w in new if w not in tokenizer.get_vocab()])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        vision_encoder = model.model.vision_tower
        visual = torch.cat(
            [visual_tokens(vision_encoder, corpus.pixels[i : i + 256]) for i in range(0, len(corpus), 256)]
        )
    prefix_ids, answers = tokenizer("user : ")["input_ids"], tokenizer("no yes")["input_ids"]
    opening = len(tokenizer(QUESTION.partition("{caption}")[0])["input_ids"])
    language, projector, head = model.model.language_model, model.model.multi_modal_projector, model.lm_head
    embed, probe = language.get_input_embeddings(), nn.Linear(language.config.hidden_size, 2)
    modules = (language, projector, head, probe)
    update = one_cycle([p for module in modules for p in module.parameters()], lr, steps)
    rng, accuracy = random.Random("answers"), 0.0
    for step in range(steps):
        image_rows = rng.choices(range(len(corpus)), k=batch)
        question_ids, probe_labels, word_labels = [], [], []
        for n, i in enumerate(image_rows):
            text = draw_claim(corpus.scenes[i], bool(n % 2), rng)
            words = tokenizer.tokenize(text)
            so_far = [not check_caption(" ".join(words[: k + 1]), corpus.scenes[i]).wrong for k in range(len(words))]
            ids = tokenizer(f"{QUESTION.replace('{caption}', text)} assistant :")["input_ids"]
            rest = len(ids) - opening - len(words)
            question_ids.append(ids)
            probe_labels.append([IGNORED] * opening + [int(is_true) for is_true in [*so_far, *so_far[-1:] * rest]])
            words_said = [word if is_true else IGNORED for word, is_true in zip(ids[opening:], so_far, strict=False)]
            word_labels.append([IGNORED] * (opening - 1) + words_said + [IGNORED] * rest + [answers[so_far[-1]]])
        inputs = torch.cat(
            [
                embed(torch.tensor([prefix_ids] * batch)),
                projector(visual[image_rows]),
                embed(pad_rows(question_ids, PAD)),
            ],
            1,
        )
        hidden = language(inputs_embeds=inputs).last_hidden_state[:, len(prefix_ids) + visual.shape[1] :]
        logits, words = head(hidden), pad_rows(word_labels, IGNORED)
        ends = torch.arange(batch), torch.tensor([len(ids) - 1 for ids in question_ids])
        loss = cross_entropy(probe(hidden).flatten(0, 1), pad_rows(probe_labels, IGNORED).flatten())
        update(loss + cross_entropy(logits.flatten(0, 1), words.flatten()) + cross_entropy(logits[ends], words[ends]))
        accuracy += 0.02 * ((logits[ends].argmax(-1) == words[ends]).float().mean().item() - accuracy)
        if step % 200 == 0 or step == steps - 1:
            log(f"answerer {step}/{steps} right {accuracy:.3f}")
    model.eval().save_pretrained(out)
    processor.save_pretrained(out)


def pad_rows(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Return a (rows, longest) tensor with the value after the shorter rows."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


def convert_to_transformers(weights: Mapping[str, Tensor]) -> CLIPModel:
    """Convert the lab's reward retriever, an open_clip ViT, to transformers' CLIPModel.

    Its end mark becomes the highest token, as in CLIP, and positions beyond its context start as copies of the last
    one.
    """
    vision, text = (retriever_config("reward")[part] for part in ("vision_cfg", "text_cfg"))
    words, width = text["vocab_size"], retriever_config("reward")["embed_dim"]
    config = CLIPConfig(
        projection_dim=width,
        text_config={
            "vocab_size": words + 1, "hidden_size": text["width"], "intermediate_size": 4 * text["width"],
            "num_hidden_layers": text["layers"], "num_attention_heads": text["heads"], "hidden_act": "gelu",
            "max_position_embeddings": CONTEXT, "bos_token_id": BOS, "eos_token_id": words, "pad_token_id": PAD,
        },
        vision_config={
            "image_size": vision["image_size"], "patch_size": vision["patch_size"], "hidden_size": vision["width"],
            "intermediate_size": int(vision["mlp_ratio"] * vision["width"]), "num_hidden_layers": vision["layers"],
            "num_attention_heads": vision["width"] // vision["head_width"], "hidden_act": "gelu",
        },
    )  # fmt: skip
    model = CLIPModel(config)
    positions, tokens = weights["positional_embedding"], weights["token_embedding.weight"]
    state = {
        "logit_scale": weights["logit_scale"],
        "text_projection.weight": weights["text_projection"].T,
        "visual_projection.weight": weights["visual.proj"].T,
        "text_model.embeddings.token_embedding.weight": torch.cat([tokens, tokens[EOS, None]]),
        "text_model.embeddings.position_embedding.weight": torch.cat(
            [positions, positions[-1:].expand(CONTEXT - len(positions), -1)]
        ),
        "vision_model.embeddings.class_embedding": weights["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": weights["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": weights["visual.positional_embedding"],
    }
    for theirs, ours in {"ln_final": "text_model.final_layer_norm", "visual.ln_pre": "vision_model.pre_layrnorm",
                         "visual.ln_post": "vision_model.post_layernorm"}.items():  # fmt: skip
        state |= {f"{ours}.{kind}": weights[f"{theirs}.{kind}"] for kind in ("weight", "bias")}
    for name, value in weights.items():
        if block := re.fullmatch(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)[._](weight|bias)", name):
            layer = f"{'vision' if block[1] else 'text'}_model.encoder.layers.{block[2]}"
            parts = [(PARTS[block[3]], value)] if block[3] in PARTS else zip(QKV, value.chunk(3), strict=True)
            state |= {f"{layer}.{part}.{block[4]}": own for part, own in parts}
    model.load_state_dict(state)
    return model


def clip_processor() -> CLIPProcessor:
    """Return a processor for the lab's images and words, with an end mark after all words."""
    tokenizer = build_tokenizer("text", CONTEXT)
    end = len(tokenizer)
    tokenizer.add_special_tokens({"eos_token": "<end>"})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A <end>", special_tokens=[("<s>", BOS), ("<end>", end)]
    )
    return CLIPProcessor(image_processor=captioner_processor().image_processor, tokenizer=tokenizer)


def make_chooser(out: Path, images: int, steps: int, log: Log, batch: int = 48, lr: float = 5e-4) -> None:
    """Train the chooser with PickScore's objective and save it.

    The objective is the cross-entropy between the two images' softmaxed scores for a text and the choice.
    """
    model, processor = (
        convert_to_transformers(load_file(ASSETS / "retriever" / "open_clip_model.safetensors")).train(),
        clip_processor(),
    )
    corpus = draw_corpus("choices", images, family=FAMILY)
    update, rng, accuracy = one_cycle(model.parameters(), lr, steps), random.Random("choices"), 0.0
    for step in range(steps):
        pairs = [
            family * FAMILY + i
            for family in rng.choices(range(len(corpus) // FAMILY), k=batch)
            for i in rng.sample(range(FAMILY), 2)
        ]
        texts = [detailed_caption(corpus.scenes[chosen], rng) for chosen in pairs[::2]]
        tokens = processor.tokenizer(texts, padding=True, truncation=True, max_length=CONTEXT, return_tensors="pt")
        output = model(
            pixel_values=normalise(corpus.pixels[pairs]),
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
        )
        similarities = (output.image_embeds.view(batch, 2, -1) * output.text_embeds[:, None]).sum(-1)
        update(cross_entropy(model.logit_scale.exp() * similarities, torch.zeros(batch, dtype=torch.long)))
        accuracy += 0.02 * ((similarities[:, 0] > similarities[:, 1]).float().mean().item() - accuracy)
        if step % 200 == 0 or step == steps - 1:
            log(f"chooser {step}/{steps} right {accuracy:.3f}")
    model.eval().save_pretrained(out)
    processor.save_pretrained(out)


def quality(folder: Path, count: int) -> dict[str, float]:
    """Measure both models on scenes of the test split.

    Returns:
        How often the answerer ranks a true claim above a false one of the same image, and how often the chooser ranks
        the text's image above a near-duplicate.
    """
    from rlcap.scorers.preference import PreferenceScorer
    from rlcap.scorers.vqa_yes_probability import YesProbabilityScorer

    rng = random.Random("held out")
    families = [draw_family(rng, "test", 2) for _ in range(count)]
    images = [Image.fromarray(draw(scene, rng.getrandbits(48))[0]) for family in families for scene in family]
    questions = [
        QUESTION.replace("{caption}", draw_claim(own, true, rng, "test"))
        for own, _ in families
        for true in (True, False)
    ]
    yes = np.array(
        YesProbabilityScorer.load(str(folder / "answerer")).probabilities(
            [i for i in images[::2] for _ in range(2)], questions
        )
    )
    texts = [text for own, _ in families for text in [detailed_caption(own, rng)] * 2]
    scores = np.array(PreferenceScorer.load(str(folder / "chooser")).scores(images, texts))
    return {
        "answerer": float(wins(yes[::2], yes[1::2]).mean()),
        "chooser": float(wins(scores[::2], scores[1::2]).mean()),
    }


def main() -> None:
    """Make both models, measure them, print the table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the two models")
    parser.add_argument(
        "--images", type=positive, default=6000, help="scenes that each learns from (default: %(default)s)"
    )
    parser.add_argument("--steps", type=positive, default=2000, help="updates of each (default: %(default)s)")
    parser.add_argument("--count", type=positive, default=500, help="held-out pairs (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    options = parser.parse_args()
    torch.manual_seed(0)
    seconds = {}
    for name, make in (("answerer", make_answerer), ("chooser", make_chooser)):
        start = time.perf_counter()
        make(options.out / name, options.images, options.steps, print)
        seconds[name] = round(time.perf_counter() - start)
    shares_right = quality(options.out, options.count)
    print("| model | right on held-out pairs | seconds |\n|---|---|---|")
    for name, share in shares_right.items():
        print(f"| {name} | {share:.3f} | {seconds[name]} |")
    write_json(
        options.json,
        images=options.images,
        steps=options.steps,
        pairs=options.count,
        right=shares_right,
        seconds=seconds,
    )


if __name__ == "__main__":
    main()
