"""The training loop of both bases: tasks that share an image are computed as if each stood alone."""

import random

import pytest
import torch

from rlcap.lab.models.captioner import PATCHES, captioner_config, new_captioner
from rlcap.lab.models.corpus import draw_corpus
from rlcap.lab.models.language_model import (
    IGNORED,
    Task,
    _pack_tasks,
    _separate_tasks,
    align_words,
    encode_images,
    train_language_model,
    truthful_tasks,
)
from rlcap.lab.models.tokenizer import build_tokenizer
from rlcap.lab.models.web_questions import WORDS, web_tasks


@pytest.fixture(scope="module")
def corpus():
    return draw_corpus("test of the loop", 8, 0.0, workers=1)


def new_model():
    from transformers import TimmWrapperModel

    torch.manual_seed(0)
    return new_captioner(TimmWrapperModel(captioner_config().vision_config).eval(), WORDS)


def test_packed_tasks_give_the_hidden_states_of_single_tasks(corpus):
    model, tokenizer = new_model(), build_tokenizer(words=WORDS)
    language = model.model.language_model
    tasks = web_tasks(corpus.scenes[0], random.Random(0), 0.9)
    prefix = torch.randn(1, 2 + PATCHES, 128)

    def hidden(chosen):
        ids, _, _, positions, numbers = (torch.tensor([row]) for row in _pack_tasks(tokenizer, chosen))
        places = torch.cat([torch.arange(prefix.shape[1])[None], prefix.shape[1] + positions], 1)
        inputs = torch.cat([prefix, language.get_input_embeddings()(ids)], 1)
        mask = _separate_tasks(prefix.shape[1], numbers) if len(chosen) > 1 else None
        with torch.no_grad():
            found = language(inputs_embeds=inputs, attention_mask=mask, position_ids=places).last_hidden_state
        return found[:, prefix.shape[1] :]

    alone = torch.cat([hidden([task]) for task in tasks], 1)
    assert torch.allclose(hidden(tasks), alone, atol=1e-5)


def test_only_answers_are_learnt():
    tokenizer = build_tokenizer(words=WORDS)
    tasks = [Task("What size is the ball?", "small"), Task("red ball", "no", (1, 0))]
    ids, labels, opinions, positions, numbers = _pack_tasks(tokenizer, tasks)
    learnt = [i for i, label in zip(ids, labels, strict=True) if label != IGNORED]
    assert tokenizer.convert_ids_to_tokens(learnt) == ["small", "</s>", "no", "</s>"]
    # The last opinion is also that of the colon after `assistant`.
    assert opinions == [IGNORED] * 10 + [1, 0, IGNORED, 0] + [IGNORED] * 2
    assert positions == [*range(10), *range(6)]
    assert numbers == [0] * 10 + [1] * 6


def train(model, corpus, tasks, steps, seed, log=lambda line: None):
    features, tokenizer = encode_images(model, corpus), build_tokenizer(words=WORDS)
    return train_language_model(model, tokenizer, corpus.scenes, features, tasks, steps, seed, log, batch=4)


def test_the_vision_encoder_stays_as_it_is(corpus):
    model = new_model().train()
    before = {name: value.clone() for name, value in model.model.vision_tower.state_dict().items()}
    train(model, corpus, web_tasks, 2, 1)
    assert all(value.equal(before[name]) for name, value in model.model.vision_tower.state_dict().items())


@pytest.mark.parametrize("tasks", [truthful_tasks, web_tasks])
def test_training_is_a_function_of_its_seed(corpus, tasks):
    losses = []
    for seed in (1, 1, 2):
        lines = []
        train(new_model(), corpus, tasks, 3, seed, lines.append)
        losses.append(lines)
    assert losses[0] == losses[1] != losses[2]


def test_alignment_brings_visual_tokens_near_the_words_for_what_they_show(corpus):
    model, tokenizer, lines = new_model(), build_tokenizer(words=WORDS), []
    align_words(model, tokenizer, corpus, encode_images(model, corpus), 30, 1, lines.append, batch=8)
    losses = [float(line.rpartition(" ")[2]) for line in lines]
    assert losses[-1] < losses[0] - 0.5
