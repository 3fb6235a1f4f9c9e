"""The texts from which the base `web` learns: short captions and questions with answers, wrong in the stated shares."""

import random

import pytest

from rlcap.lab.models.captioner import captioner_processor
from rlcap.lab.models.language_model import IGNORED
from rlcap.lab.models.tokenizer import UNKNOWN, build_tokenizer
from rlcap.lab.models.web_captions import WRONG_CLAIMS, web_caption
from rlcap.lab.models.web_questions import (
    CLAIMS,
    CURRICULUM,
    OPENING,
    WORDS,
    WRONG_ANSWERS,
    appearance_question,
    ask,
    draw_sentence,
    region_question,
    short_question,
    supported_claims,
    verification_set,
    web_tasks,
    yes_no_question,
)
from rlcap.lab.source import draw_scene
from rlcap.lab.world.language import INSTRUCTION, PLACE_PHRASES
from rlcap.lab.world.questions import all_questions
from rlcap.lab.world.scene import Scene, Thing
from rlcap.lab.world.truth import check_caption, grammatical_share, words
from rlcap.scorers.text.sentences import split_sentences
from rlcap.scorers.vqa_yes_probability import NO_TEXTS, YES_TEXTS


@pytest.fixture(scope="module")
def scenes():
    rng = random.Random("web texts")
    return [draw_scene(rng, "train") for _ in range(4000)]


@pytest.fixture(scope="module")
def verdicts(scenes):
    rng = random.Random(0)
    return [check_caption(web_caption(scene, rng), scene) for scene in scenes]


def test_the_stated_share_of_the_claims_of_web_captions_is_wrong(verdicts):
    claims = sum(len(verdict.claims) for verdict in verdicts)
    assert sum(len(verdict.wrong) for verdict in verdicts) / claims == pytest.approx(WRONG_CLAIMS, abs=0.02)


def test_web_captions_are_short_and_never_complete(scenes, verdicts):
    assert sum(verdict.recall for verdict in verdicts) / len(verdicts) < 0.25
    assert max(verdict.recall for verdict in verdicts) < 0.8
    texts = [web_caption(scene, random.Random(i)) for i, scene in enumerate(scenes[:500])]
    assert {len(split_sentences(text)) for text in texts} == {1, 2}
    assert all(grammatical_share(text) == 1.0 for text in texts)
    assert len(set(texts)) > 400


def quoted(question):
    """Return the sentence that a yes/no question quotes."""
    return question.partition('"')[2].rpartition('"')[0]


def test_the_stated_share_of_yes_no_answers_is_wrong(scenes):
    rng = random.Random(0)
    wrong = []
    for scene in scenes:
        task = yes_no_question(scene, rng)
        wrong.append((task.answer == "yes") == bool(check_caption(quoted(task.prompt), scene).wrong))
        # The opinions end in the answer; they begin with yes, and do not return to it from no.
        opinions = task.opinions[OPENING:]
        assert task.opinions[:OPENING] == (IGNORED,) * OPENING
        assert len(opinions) == len(words(quoted(task.prompt)))
        assert opinions[-1] == (task.answer == "yes")
    assert sum(wrong) / len(wrong) == pytest.approx(WRONG_ANSWERS, abs=0.02)


def test_the_stated_share_of_short_answers_is_wrong(scenes):
    rng = random.Random(0)
    wrong = []
    for scene in scenes:
        wrong_answers = {(q, text) for _, q, _, wrong_options in all_questions(scene, rng) for text in wrong_options}
        task = short_question(scene, rng)
        wrong.append((task.prompt, task.answer) in wrong_answers)
    assert sum(wrong) / len(wrong) == pytest.approx(WRONG_ANSWERS, abs=0.02)


def test_the_stated_share_of_the_values_of_longer_answers_is_wrong(scenes):
    rng = random.Random(0)
    wrong, nothing = [], 0
    for scene in scenes:
        task = appearance_question(scene, rng)
        kind = task.prompt.removeprefix("What does the ").removesuffix(" look like?")
        for thing in scene.things if scene.count(kind) == 1 else ():
            if thing.kind == kind:
                size, fill, colour, *place = task.answer.split()
                wrong += [size != thing.size, fill != thing.fill, colour != thing.colour]
                wrong.append(" ".join(place) != PLACE_PHRASES[thing.place])
        task = region_question(scene, rng)
        place = {phrase: place for place, phrase in PLACE_PHRASES.items()}[
            task.prompt.removeprefix("What is ").removesuffix("?")
        ]
        things = [thing for thing in scene.things if thing.place == place]
        assert bool(things) != (task.answer == "nothing")
        nothing += task.answer == "nothing"
        for thing in things:
            _, size, fill, colour, kind = task.answer.split()
            assert kind == thing.kind
            wrong += [size != thing.size, fill != thing.fill, colour != thing.colour]
    assert sum(wrong) / len(wrong) == pytest.approx(WRONG_ANSWERS, abs=0.01)
    assert nothing / len(scenes) == pytest.approx(0.25, abs=0.03)


def test_half_of_the_sentences_of_each_type_are_true(scenes):
    rng = random.Random(0)
    answers, is_off_topic = {}, []
    for i, what, question, is_true in verification_set(scenes[:300], rng):
        sentence = quoted(question)
        verdict = check_caption(sentence, scenes[i])
        is_off_topic.append(what not in {claim.what for claim in verdict.claims})
        assert bool(verdict.wrong) != is_true
        assert grammatical_share(sentence) == 1.0
        answers.setdefault(what, []).append(is_true)
    assert set(answers) == set(CLAIMS)
    assert {sum(values) / len(values) for values in answers.values()} == {0.5}
    # Few scenes leave no false relation, because a ball stands on each side of the box.
    assert sum(is_off_topic) < 0.005 * len(is_off_topic)


def test_a_scene_that_leaves_no_false_relation_is_asked_about_its_background():
    balls = [Thing("ball", "red", "small", "plain", place) for place in ("top", "left", "right", "bottom")]
    scene = Scene("grass", (*balls, Thing("box", "red", "small", "plain", "middle")))
    assert "relation" in supported_claims(scene)
    assert draw_sentence(scene, "relation", False, random.Random(0)).startswith("the background is")
    assert "relation" not in supported_claims(Scene("grass", tuple(balls)))
    assert "count" not in supported_claims(Scene("grass", (balls[0], scene.things[-1])))


def test_the_tokenizer_knows_every_word_and_the_ids_of_the_vocabulary_stay(scenes):
    tokenizer, lab = build_tokenizer(words=WORDS), build_tokenizer()
    rng = random.Random(0)
    texts = [
        text for scene in scenes[:500] for task in web_tasks(scene, rng, 0.9) for text in (task.prompt, task.answer)
    ]
    assert UNKNOWN not in {i for ids in tokenizer(texts)["input_ids"] for i in ids}
    used = {word for text in texts for word in tokenizer.tokenize(text)}
    assert set(WORDS) <= used
    assert lab.get_vocab().items() <= tokenizer.get_vocab().items()
    for answers in (YES_TEXTS, NO_TEXTS):
        assert {tuple(tokenizer.tokenize(text)) for text in answers} == {(answers[0].lower(),)}


def test_the_first_task_is_the_caption_and_questions_never_ask_for_one(scenes):
    tasks = web_tasks(scenes[0], random.Random(0), 0.5)
    assert tasks[0].prompt == INSTRUCTION
    assert INSTRUCTION not in {task.prompt for task in tasks[1:]}
    assert max(len(task.answer.split()) for task in tasks[1:]) <= 8
    assert web_tasks(scenes[0], random.Random(0), 0.5) == tasks


def test_types_of_claims_join_in_turn(scenes):
    def types(progress):
        rng = random.Random(0)
        tasks = [task for scene in scenes[:200] for task in web_tasks(scene, rng, progress) if task.opinions]
        sentences = [quoted(task.prompt) for task in tasks]
        return {claim.what for text in sentences for claim in check_caption(text, scenes[0]).claims}

    assert types(0.0) == {"background"}
    assert types(0.15) >= {"background", "object", "colour"}
    assert types(0.15).isdisjoint({"size", "place", "count"})
    assert types(0.9) == set(CLAIMS)
    assert list(CURRICULUM) == sorted(CURRICULUM)
    assert {what for claims in CURRICULUM.values() for what in claims} == set(CLAIMS)


def test_the_chat_template_writes_what_training_packs():
    processor = captioner_processor(WORDS)
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": ask("there is a ball.")}]}
    text = processor.apply_chat_template([message], add_generation_prompt=True)
    assert text == f"user : <image> {ask('there is a ball.')} assistant :"
