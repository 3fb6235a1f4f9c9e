"""CIDEr-D as a reward: the published numbers, the end mark, and independence of the other captions."""

import contextlib
import io
import json
from pathlib import Path

import pytest
from photo_texts import photo_texts

from rlcap.cli import main as cli
from rlcap.rewards.cider import Cider
from rlcap.scorers.text.cider import EOS, CiderD
from rlcap.scorers.text.ngrams import tokenize
from rlcap.types import RewardBatch, Sample

COCO = Path(__file__).parents[3] / "shared" / "real" / "coco" / "annotations" / "captions_val2017.json"
TEXTS = [sample.references for sample in photo_texts()]


def theirs(captions, references, eos):
    """pycocoevalcap's numbers, with frequencies from these references; there the end mark is one more word."""
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.cider.cider import Cider as Published

    def plain(text):
        return " ".join(tokenize(text) + [EOS] * eos)

    gts = {i: [plain(text) for text in texts] for i, texts in enumerate(references)}
    res = {i: [plain(caption)] for i, caption in enumerate(captions)}
    with contextlib.redirect_stdout(io.StringIO()):
        return Published().compute_score(gts, res)[1].tolist()


def values(reward, captions, references):
    samples = [Sample(str(i), "", references=tuple(texts)) for i, texts in enumerate(references)]
    return [score.value for score in reward.score(RewardBatch(captions, samples))]


@pytest.mark.parametrize("eos", [False, True])
def test_equals_pycocoevalcap(eos):
    captions, references = [texts[0] for texts in TEXTS], [texts[1:] for texts in TEXTS]
    ours = values(Cider(CiderD.fit(references, eos=eos)), captions, references)
    assert ours == pytest.approx(theirs(captions, references, eos), abs=1e-6)


@pytest.mark.parametrize("eos", [False, True])
def test_equals_pycocoevalcap_on_coco(eos):
    if not COCO.exists():
        pytest.skip(f"no {COCO.name}")
    by_image = {}
    for annotation in json.loads(COCO.read_text())["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation["caption"])
    texts = list(by_image.values())[:400]
    captions, references = [own[0] for own in texts], [own[1:] for own in texts]
    ours = values(Cider(CiderD.fit(references, eos=eos)), captions, references)
    assert ours == pytest.approx(theirs(captions, references, eos), abs=1e-6)


def test_the_end_mark_makes_fragments_lose():
    references = ("a man rides on a horse", "a man on a horse in a field", "there is a man on a horse")
    corpus = [references, *TEXTS]
    reward = Cider(corpus)
    whole, fragment = values(reward, ["a man on a horse", "a man on a"], [references, references])
    assert whole > fragment
    without = values(Cider(CiderD.fit(corpus)), ["a man on a horse", "a man on a"], [references, references])
    assert whole - fragment > without[0] - without[1]


def test_empty_loses_and_missing_references_abstain():
    reward = Cider(TEXTS)
    assert values(reward, ["", " \n", "..."], [TEXTS[0]] * 3) == [0, 0, 0]
    for references in ((), ("", " ")):
        score = reward.score(RewardBatch(["a bus"], [Sample("a", "", references=references)]))[0]
        assert score.reason == "no reference to compare with"


def test_another_images_words_are_worth_less_and_a_reference_the_most():
    own = values(Cider(TEXTS), [texts[0] for texts in TEXTS], TEXTS)
    other = values(Cider(TEXTS), [texts[0] for texts in TEXTS], [*TEXTS[1:], TEXTS[0]])
    assert all(mine > 2 > 1 > theirs for mine, theirs in zip(own, other, strict=True))
    assert values(Cider(TEXTS), ["a red bus"], [("a red bus",)])[0] == pytest.approx(10)


def test_frequencies_are_counted_by_command(tmp_path, capsys):
    from PIL import Image

    rows = []
    for sample in photo_texts():
        Image.new("RGB", (8, 8)).save(tmp_path / sample.image)
        rows.append({"id": sample.id, "image": sample.image, "references": sample.references})
    source, out = tmp_path / "rows.jsonl", tmp_path / "cider.json"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli.main(["cider", str(source), "--out", str(out)]) == 0
    assert "n-grams of 8 images" in capsys.readouterr().out
    reward = Cider(str(out))
    assert reward.cider.eos
    assert values(reward, ["a red bus"], [TEXTS[0]]) == values(Cider(TEXTS), ["a red bus"], [TEXTS[0]])
    assert cli.main(["cider", "nothing.json", "--out", str(out)]) == 2
    assert cli.main(["cider", str(source), "--out", str(out), "--tokenizer", "ptb"]) == 0
    assert Cider(str(out)).cider.tokenizer == "ptb"
    assert values(Cider(str(out)), ["a dog's"], [["a dog 's"]])[0] == pytest.approx(10)
    assert values(Cider(TEXTS), ["a dog's"], [["a dog 's"]])[0] < 5
    with pytest.raises(ValueError, match="tokenizer is words, but the frequencies were counted with ptb"):
        Cider(str(out), tokenizer="words")


def test_published_value_of_clipscores_examples():
    folder = COCO.parents[2] / "golden" / "clipscore"
    if not folder.is_dir():
        pytest.skip("no golden examples")
    references = json.loads((folder / "refs.json").read_text())
    cider = CiderD.fit(references.values())
    for name, published in (("good", 0.5637), ("bad", 0.2790)):
        captions = json.loads((folder / f"{name}_captions.json").read_text())
        texts = [references[image] for image in captions]
        mean = sum(values(Cider(cider), list(captions.values()), texts)) / len(texts)
        assert mean == pytest.approx(published, abs=5e-5)
