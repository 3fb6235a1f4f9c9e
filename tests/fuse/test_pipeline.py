"""One batch: verification modes, ranking, and images without a paragraph."""

import pytest
from fusion import Joiner, photo, preset

from rlcap.errors import ConfigError
from rlcap.experts.statement import Statement
from rlcap.fuse.pipeline import NO_SENTENCE, NO_STATEMENT, Failure, Pipeline
from rlcap.fuse.preset import RankingConfig
from rlcap.fuse.ranking import Ranking
from rlcap.types import Sample


def samples(folder, count=2):
    return [
        Sample(f"p{i}", str(photo(folder / f"{i}.png", i)), ("a dog runs.", "a dog on grass.")) for i in range(count)
    ]


def fuse(folder, rows=None, **changes):
    return Pipeline(preset(**changes), ":memory:").fuse(rows or samples(folder))


def texts(sentences):
    return [one["text"] for one in sentences]


def test_without_a_verification_everything_stays_with_its_provenance(tmp_path):
    row = fuse(tmp_path)[0]
    assert row["paragraph"].endswith("reds A purple elephant flies.")
    assert row["references"] == ["a dog runs.", "a dog on grass."]
    sentences = row["fusion"]["sentences"]
    assert texts(sentences)[:2] == ["a dog runs.", "a dog on grass."]
    assert sentences[0]["statements"] == [0, 1]  # both references say `dog`
    assert sentences[1]["statements"] == [0, 1]
    assert all("unsupported" not in one for one in sentences)
    assert [one["source"] for one in row["fusion"]["statements"]] == ["references", "references", "light"]


def test_flag_marks_and_keeps(tmp_path):
    row = fuse(tmp_path, verify={"mode": "flag"})[0]
    flagged = [one for one in row["fusion"]["sentences"] if "unsupported" in one]
    assert len(flagged) == 1
    assert flagged[0]["text"].endswith("A purple elephant flies.")
    assert "A purple elephant flies." in row["paragraph"]
    assert "dropped" not in row["fusion"]


def dotted(monkeypatch):
    """A fuser whose sentences are separate: the tag has a full stop."""
    monkeypatch.setattr(Joiner, "invented", ". A purple elephant flies.")


def test_drop_leaves_out_and_says_why(tmp_path, monkeypatch):
    dotted(monkeypatch)
    row = fuse(tmp_path, verify={"mode": "drop"})[0]
    assert "elephant" not in row["paragraph"]
    assert row["fusion"]["dropped"] == [
        {"text": "A purple elephant flies.", "statements": [], "unsupported": "no expert supports it"}
    ]
    assert texts(row["fusion"]["sentences"])[:2] == ["a dog runs.", "a dog on grass."]


def test_rewrite_asks_once_and_verifies_again(tmp_path, monkeypatch):
    dotted(monkeypatch)
    Joiner.calls = 0
    row = fuse(tmp_path, rows=samples(tmp_path, 1), verify={"mode": "rewrite"})[0]
    assert Joiner.calls == 2
    assert texts(row["fusion"]["rewritten"]) == ["A purple elephant flies."]
    assert row["paragraph"] == "A dog stands on grass."
    assert row["fusion"]["sentences"][0]["statements"] == [0, 1]


def test_a_rewritten_sentence_that_still_has_no_support_is_dropped(tmp_path, monkeypatch):
    dotted(monkeypatch)
    generate = Joiner.generate
    monkeypatch.setattr(
        Joiner,
        "generate",
        lambda self, content, system="", **options: (
            "A dog runs. A pink elephant swims." if "<unsupported>" in content else generate(self, content)
        ),
    )
    row = fuse(tmp_path, verify={"mode": "rewrite"})[0]
    assert row["paragraph"] == "A dog runs."
    assert texts(row["fusion"]["dropped"]) == ["A pink elephant swims."]


def test_a_draft_is_no_evidence_for_itself(tmp_path):
    told = {"experts": {"draft": {"expert": "references"}, "light": {"expert": "fusion:Brightness"}}}
    assert fuse(tmp_path, **told, verify={"mode": "drop", "evidence": ["light"]})[0] == Failure("p0", NO_SENTENCE)


def test_several_experts_must_agree(tmp_path, monkeypatch):
    dotted(monkeypatch)
    experts = {
        "one": {"expert": "references"},
        "two": {"expert": "references", "params": {"most": 1}},
        "light": {"expert": "fusion:Brightness"},
    }
    row = fuse(tmp_path, experts=experts, verify={"mode": "drop", "experts": 2})[0]
    assert texts(row["fusion"]["sentences"]) == ["a dog runs."] * 2  # both experts said it, and the joiner joins
    assert {one["unsupported"] for one in row["fusion"]["dropped"]} == {
        "1 of the 2 experts that it needs support it", "no expert supports it",
    }  # fmt: skip


def test_images_without_a_paragraph_say_why(tmp_path):
    good = samples(tmp_path, 1)[0]
    (tmp_path / "bad.png").write_bytes(b"GIF89a broken")
    bad = Sample("bad", str(tmp_path / "bad.png"), ("a dog.",))
    silent = Sample("silent", good.image)
    outcomes = fuse(tmp_path, [good, bad, silent])
    assert outcomes[0]["id"] == "p0"
    assert isinstance(outcomes[1], Failure)
    assert outcomes[1].is_final
    only = fuse(tmp_path, [silent], experts={"references": {"expert": "references"}})
    assert only == [Failure("silent", NO_STATEMENT)]


def test_other_columns_stay_and_an_earlier_fusion_goes(tmp_path):
    good = samples(tmp_path, 1)[0]
    row = fuse(
        tmp_path, [Sample("a", good.image, good.references, "old", {}, {"licence": 4, "fusion": {}}, "burst-1")]
    )[0]
    assert (row["licence"], row["cluster"]) == (4, "burst-1")
    assert row["fusion"]["statements"]
    assert row["paragraph"] != "old"


def captions(*texts):
    return [Statement(text, "caption", name) for name, text in zip("abc", texts, strict=False)]


def test_the_best_captions_are_kept_with_their_scores(tmp_path):
    told = [*captions("a cat.", "a dog runs.", "a dog on grass."), Statement("dog", "tag", "tags")]
    ranking = Ranking(RankingConfig(reward="rouge", keep=2))
    ((kept, left_out),) = ranking.select([told], samples(tmp_path, 1))
    assert [one.text for one in kept] == ["a dog runs.", "a dog on grass.", "dog"]
    assert kept[0].score == pytest.approx(1.0)
    assert kept[2].score is None
    assert [one.text for one in left_out] == ["a cat."]
    assert left_out[0].score < kept[1].score + 1


def test_only_the_named_experts_are_ranked_and_abstentions_come_last(tmp_path):
    told = captions("a dog.", "a dog runs.", "x")
    ranking = Ranking(RankingConfig(reward="rouge", keep=1, experts=["a", "b"]))
    ((kept, left_out),) = ranking.select([told], samples(tmp_path, 1))
    assert [one.text for one in kept] == ["a dog runs.", "x"]
    assert [one.text for one in left_out] == ["a dog."]
    unknown = Sample("u", "u.png")  # without references the reward abstains on all, and the order decides
    ((kept, left_out),) = ranking.select([told], [unknown])
    assert [one.text for one in kept] == ["a dog.", "x"]
    assert kept[0].score is None
    assert ranking.select([[]], [unknown]) == [([], [])]


def test_an_unknown_reward_is_refused():
    with pytest.raises(ConfigError, match="roug"):
        Ranking(RankingConfig(reward="roug"))


def test_ranked_out_captions_are_told_to_nobody(tmp_path):
    experts = {
        "blip": {"expert": "row_text", "params": {"column": "blip", "kind": "caption"}},
        "git": {"expert": "row_text", "params": {"column": "git", "kind": "caption"}},
    }
    base = samples(tmp_path, 1)[0]
    row = Sample("a", base.image, base.references, meta={"blip": "a dog runs fast.", "git": "a yacht."})
    outcome = fuse(tmp_path, [row], experts=experts, ranking={"reward": "rouge", "keep": 1})[0]
    assert "yacht" not in outcome["paragraph"]
    assert [one["text"] for one in outcome["fusion"]["left_out"]] == ["a yacht."]
