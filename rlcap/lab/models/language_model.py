"""Trains projector and language model of the lab's captioners on texts about scenes, over frozen visual tokens.

Both bases use this loop. They differ in their texts alone: those of `knowing` are in `rlcap.lab.models.captioner`, and
those of `web` in `rlcap.lab.models.web_captions` and `rlcap.lab.models.web_questions`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn
from transformers import FastVlmForConditionalGeneration, PreTrainedTokenizerFast

from rlcap.lab.models.captioner import PATCHES, base_caption, patch_labels, visual_tokens
from rlcap.lab.models.corpus import Corpus
from rlcap.lab.models.tokenizer import EOS, PAD
from rlcap.lab.world.language import INSTRUCTION
from rlcap.lab.world.scene import Scene
from rlcap.lab.world.vocabulary import BACKGROUNDS, COLOURS, FILLS, KINDS, SIZES
from rlcap.scorers.training.schedule import one_cycle

IGNORED = -100
"""Label of a position that is not learnt."""


class Task(NamedTuple):
    """One task about an image."""

    prompt: str
    """What the user writes after the image."""
    answer: str
    """What the model answers."""
    opinions: tuple[int, ...] = ()
    """Whether all is true up to each of the first tokens of the prompt: 0, 1, or `IGNORED`. The last one also belongs to
    the last token of the prompt, after which the answer comes."""


DrawTasks = Callable[[Scene, random.Random, float], Sequence[Task]]
"""Draws tasks about a scene, given the progress of the training in [0, 1)."""


def truthful_tasks(scene: Scene, rng: random.Random, _progress: float) -> list[Task]:
    """Return the one task about a scene from which the base `knowing` learns: to describe it truthfully."""
    return [Task(INSTRUCTION, base_caption(scene, rng))]


def encode_images(model: FastVlmForConditionalGeneration, corpus: Corpus) -> torch.Tensor:
    """Return the outputs of the frozen vision encoder for all images, (N, PATCHES, width) float16."""
    encoder = model.model.vision_tower.eval()  # in training mode, its batch normalisation would learn
    with torch.no_grad():
        return torch.cat(
            [visual_tokens(encoder, corpus.pixels[i : i + 256]).half() for i in range(0, len(corpus), 256)]
        )


def align_words(
    model: FastVlmForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    corpus: Corpus,
    features: torch.Tensor,
    steps: int,
    seed: int,
    log: Callable[[str], None],
    batch: int = 48,
    lr: float = 2e-3,
) -> None:
    """Bring visual tokens near the embeddings of the words for what they show, before the language model learns.

    As contrastive pre-training aligns the vision encoder of a real model with words, projector and word embeddings learn
    to classify the patches by the products of both: kind, colour, size and fill from each patch, and the background from
    the mean. Then one comparison of tokens serves all words, so that the language model learns to verify in far fewer
    steps.

    Args:
        model: The captioner, which is trained in place.
        tokenizer: The tokenizer of the captioner; it has the word `nothing` for patches without a thing.
        corpus: The images and scenes.
        features: The outputs of the vision encoder, (N, PATCHES, width).
        steps: The number of training steps.
        seed: Seed of the images.
        log: Receives progress messages.
        batch: Images per step.
        lr: The maximum learning rate.
    """
    embed, projector = model.model.language_model.get_input_embeddings(), model.model.multi_modal_projector
    update = one_cycle([*projector.parameters(), *embed.parameters()], lr, steps)
    values = {"kind": ("nothing", *KINDS), "colour": COLOURS, "size": SIZES, "fill": FILLS, "background": BACKGROUNDS}
    words = {name: torch.tensor(tokenizer.convert_tokens_to_ids(list(texts))) for name, texts in values.items()}
    labels = patch_labels(corpus)
    labels["background"] = torch.tensor([BACKGROUNDS.index(scene.background) for scene in corpus.scenes])
    rng = random.Random(seed)
    for step in range(steps):
        rows = [rng.randrange(len(corpus)) for _ in range(batch)]
        visual = projector(features[rows].float())
        loss = torch.zeros(())
        for name, ids in words.items():
            tokens = visual.mean(1) if name == "background" else visual.flatten(0, 1)
            loss = loss + nn.functional.cross_entropy(tokens @ embed(ids).T, labels[name][rows].flatten())
        update(loss)
        if step % 100 == 0 or step == steps - 1:
            log(f"alignment {step}/{steps} loss {loss.item():.3f}")


def train_language_model(
    model: FastVlmForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    scenes: Sequence[Scene],
    features: torch.Tensor,
    draw_tasks: DrawTasks,
    steps: int,
    seed: int,
    log: Callable[[str], None],
    batch: int = 24,
    lr: float = 2e-3,
) -> FastVlmForConditionalGeneration:
    """Train projector and language model by maximum likelihood of the answers.

    One answer per sentence teaches little. So tasks with opinions have a loss of their own, which is the sum of three: a
    linear probe, which is discarded at the end, predicts the opinions; the model predicts the words of which the opinion
    is that all is true so far, as a captioner does; and the answer counts as much as all other answers together.

    Args:
        model: The captioner, which is trained in place. Its vision encoder stays as it is.
        tokenizer: The tokenizer of the captioner.
        scenes: The N scenes.
        features: The outputs of the vision encoder for their images, (N, PATCHES, width).
        draw_tasks: Draws the tasks about a scene. The tasks about one image share its visual tokens, and each is
            computed as if it stood alone behind the image.
        steps: The number of training steps.
        seed: Seed of the images and the tasks.
        log: Receives progress messages.
        batch: Images per step.
        lr: The maximum learning rate.

    Returns:
        The model, in evaluation mode.
    """
    opening = tokenizer("user : ")["input_ids"]
    prefix = len(opening) + PATCHES
    language, projector, head = model.model.language_model, model.model.multi_modal_projector, model.lm_head
    probe = nn.Linear(language.config.hidden_size, 2)
    modules = (language, projector, head, probe)
    update = one_cycle([p for module in modules for p in module.parameters()], lr, steps, warm_up=0.06)
    rng = random.Random(seed)
    embed = language.get_input_embeddings()
    for step in range(steps):
        rows = [rng.randrange(len(scenes)) for _ in range(batch)]
        packed = [_pack_tasks(tokenizer, draw_tasks(scenes[i], rng, step / steps)) for i in rows]
        ids, labels, opinions, positions, tasks = (
            _pad([row[k] for row in packed], value) for k, value in enumerate((PAD, IGNORED, IGNORED, 0, -1))
        )
        visual = projector(features[rows].float())
        inputs = torch.cat([embed(torch.tensor([opening] * batch)), visual, embed(ids)], 1)
        hidden = language(
            inputs_embeds=inputs,
            attention_mask=_separate_tasks(prefix, tasks) if tasks.max() > 0 else None,
            position_ids=torch.cat([torch.arange(prefix).expand(batch, prefix), prefix + positions], 1),
        ).last_hidden_state[:, prefix - 1 :]
        first = int((labels != IGNORED).any(0).nonzero()[0])
        loss = nn.functional.cross_entropy(head(hidden[:, first:-1]).flatten(0, 1), labels[:, first:].flatten())
        has_opinion = opinions != IGNORED
        if has_opinion.any():
            loss = loss + nn.functional.cross_entropy(probe(hidden[:, 1:][has_opinion]), opinions[has_opinion])
            is_believed, is_verdict = opinions == 1, torch.zeros_like(has_opinion)
            is_verdict[:, 1:] = has_opinion[:, :-1] & (labels[:, 1:] != IGNORED)
            for chosen in (is_believed, is_verdict):
                loss = loss + nn.functional.cross_entropy(head(hidden[:, :-1][chosen]), ids[chosen])
        update(loss)
        if step % 100 == 0 or step == steps - 1:
            log(f"language model {step}/{steps} loss {loss.item():.3f}")
    return model.eval()


def _pack_tasks(tokenizer: PreTrainedTokenizerFast, tasks: Sequence[Task]) -> tuple[list[int], ...]:
    """Return the tokens of the tasks one after the other, with what belongs to each token.

    Returns:
        The tokens; their labels, which only the tokens of answers have; the opinions, which only prompts have; their
        positions, which begin at 0 for each task; and the number of their task.
    """
    packed: tuple[list[int], ...] = ([], [], [], [], [])
    for number, task in enumerate(tasks):
        asked, answered = tokenizer([f"{task.prompt} assistant :", task.answer])["input_ids"]
        answered = [*answered, EOS]
        length = len(asked) + len(answered)
        opinions = [*task.opinions, *[IGNORED] * (len(asked) - len(task.opinions))]
        if task.opinions:
            opinions[-1] = task.opinions[-1]
        for values, new in zip(
            packed,
            (
                [*asked, *answered],
                [IGNORED] * len(asked) + answered,
                opinions + [IGNORED] * len(answered),
                range(length),
                [number] * length,
            ),
            strict=True,
        ):
            values += new
    return packed


def _separate_tasks(prefix: int, tasks: torch.Tensor) -> torch.Tensor:
    """Return which positions each position sees, (N, 1, prefix + L, prefix + L) bool.

    A position sees itself, the prefix as far as it has come, and what precedes it in its own task.

    Args:
        prefix: Length of the prefix, which all tasks of a row share.
        tasks: The number of the task of each token, (N, L) int64.
    """
    rows, length = tasks.shape
    owners = torch.cat([torch.full((rows, prefix), -2), tasks], 1)
    is_own = (owners[:, :, None] == owners[:, None]) | (torch.arange(prefix + length) < prefix)
    return (is_own & torch.ones(prefix + length, prefix + length, dtype=torch.bool).tril())[:, None]


def _pad(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    """Return a (rows, longest) tensor with the value after the shorter rows."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])
