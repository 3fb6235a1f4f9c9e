"""Running experts: the cache, broken images, limits, order, and an expert of one's own."""

import pytest
from fusion import Brightness, photo

from rlcap.errors import ConfigError, DataError, ImageError
from rlcap.experts.loading import ExpertConfig, load_expert
from rlcap.experts.running import ExpertPanel
from rlcap.judge.cache import ReplyCache
from rlcap.types import Sample


def panel(cache=":memory:", **entries):
    configs = {name: ExpertConfig.parse(values) for name, values in entries.items()}
    return ExpertPanel(configs, ReplyCache(cache))


def samples(folder, count=3):
    return [Sample(f"p{i}", str(photo(folder / f"{i}.png", i)), (f"dog {i}.",)) for i in range(count)]


def test_statements_come_in_the_order_of_the_experts_with_their_names(tmp_path):
    found = panel(
        light={"expert": "fusion:Brightness"}, people={"expert": "references"}, other={"expert": "fusion:Brightness"}
    ).describe(samples(tmp_path, 2))
    assert [[one.source for one in row] for row in found] == [["light", "people", "other"]] * 2
    assert found[1][1].text == "dog 1."


def test_an_expert_is_asked_once_for_an_image_and_again_with_other_parameters(tmp_path):
    rows, cache = samples(tmp_path), tmp_path / "experts.sqlite"
    Brightness.asked = 0
    first = panel(cache, light={"expert": "fusion:Brightness"}).describe(rows)
    copy = [Sample("other", str(photo(tmp_path / "copy.png", 1)))]  # the same pixels and bytes under another name
    again = panel(cache, renamed={"expert": "fusion:Brightness"})
    assert again.describe([*rows, *copy])[3][0].text == first[1][0].text
    assert Brightness.asked == 3
    assert (again.usage["renamed"].images, again.usage["renamed"].cached) == (4, 4)
    panel(cache, light={"expert": "fusion:Brightness", "params": {"name": "shot"}}).describe(rows)
    assert Brightness.asked == 6


def test_the_texts_of_a_row_are_part_of_the_key_only_where_they_are_read(tmp_path):
    row = samples(tmp_path, 1)[0]
    asked = panel(people={"expert": "references"}, light={"expert": "fusion:Brightness"})
    asked.describe([row])
    changed = asked.describe([Sample(row.id, row.image, ("a cat.",))])
    assert changed[0][0].text == "a cat."
    assert asked.usage["light"].cached == 1
    assert asked.usage["people"].cached == 0


def test_an_expert_that_reads_earlier_statements_is_asked_again_when_they_change(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from rlcap.experts.base import Expert, Statement\n"
        "class Echo(Expert):\n"
        "    reads_known = True\n"
        "    def describe(self, inputs):\n"
        "        return [[Statement('heard ' + s.text, 'tag') for s in one.known] for one in inputs]\n"
    )
    row, cache = samples(tmp_path, 1), tmp_path / "c.sqlite"
    echo = {"expert": f"{file}:Echo"}
    one = panel(cache, people={"expert": "references"}, echo=echo).describe(row)
    assert [s.text for s in one[0]] == ["dog 0.", "heard dog 0."]
    two = panel(cache, people={"expert": "references", "params": {"most": 0}}, echo=echo).describe(row)
    assert two == [[]]


def test_changed_code_of_a_file_is_not_answered_from_the_cache(tmp_path):
    file, row = tmp_path / "own.py", samples(tmp_path, 1)
    for word in ("first", "second"):
        file.write_text(
            "from rlcap.experts.base import Expert, Statement\n"
            f"class Own(Expert):\n    def describe(self, inputs):\n        return [[Statement('{word}', 'tag')] for _ in inputs]\n"
        )
        import sys

        sys.modules.pop(f"own in {tmp_path.resolve()}", None)  # as in a new process
        found = panel(tmp_path / "c.sqlite", own={"expert": f"{file}:Own"}).describe(row)
        assert found[0][0].text == word


def test_a_broken_image_costs_only_itself(tmp_path):
    rows = samples(tmp_path)
    (tmp_path / "1.png").write_bytes(b"not an image")
    (tmp_path / "missing.png").unlink(missing_ok=True)
    rows.append(Sample("gone", str(tmp_path / "missing.png")))
    found = panel(light={"expert": "fusion:Brightness"}, people={"expert": "references"}).describe(rows)
    assert isinstance(found[1], ImageError)
    assert found[1].kind == "not an image"
    assert isinstance(found[3], ImageError)
    assert found[3].kind == "missing image"
    assert [len(found[0]), len(found[2])] == [2, 2]


def test_most_and_min_score_keep_the_surest_statements(tmp_path):
    file = tmp_path / "many.py"
    file.write_text(
        "from rlcap.experts.base import Expert, Statement\n"
        "class Many(Expert):\n"
        "    def describe(self, inputs):\n"
        "        return [[Statement(f's{i}', 'tag', score=s) for i, s in enumerate((.2, .9, .1, .5))] for _ in inputs]\n"
    )
    row = samples(tmp_path, 1)
    best = panel(many={"expert": f"{file}:Many", "most": 2}).describe(row)[0]
    assert [one.text for one in best] == ["s1", "s3"]
    sure = panel(many={"expert": f"{file}:Many", "min_score": 0.2}).describe(row)[0]
    assert [one.text for one in sure] == ["s0", "s1", "s3"]


def test_an_expert_that_answers_for_too_few_images_is_named(tmp_path):
    file = tmp_path / "few.py"
    file.write_text(
        "from rlcap.experts.base import Expert\nclass Few(Expert):\n    def describe(self, inputs):\n        return []\n"
    )
    with pytest.raises(ConfigError, match=r"experts.few: Few.describe returned 0 lists for 2 images"):
        panel(few={"expert": f"{file}:Few"}).describe(samples(tmp_path, 2))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"expert": "detectr"}, "did you mean 'detector'"),
        ({"expert": "rlcap.types:Sample"}, "not a subclass of Expert"),
        ({"expert": "references", "params": {"mots": 1}}, "unknown parameter of references 'mots'"),
        ({"expert": "detector"}, "needs the parameter 'model'"),
        ({"expert": "tagger", "params": {"clip": "x", "vocabulary": ["one"]}}, "needs two words or more"),
        ({"expert": "tagger", "params": {"clip": "x", "vocabulary": "none.txt"}}, "there is no vocabulary none.txt"),
        ({"expert": "attributes", "params": {"clip": "x", "groups": {"size": ["big"]}}}, "needs two attributes"),
        ({"expert": "detector", "params": {"model": "x", "labels": []}}, "labels is empty"),
    ],
)
def test_a_wrong_entry_is_refused_by_its_name(entry, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_expert("mine", ExpertConfig.parse(entry))
    assert str(error.value).startswith("experts.mine: ")


def test_texts_of_the_row(tmp_path):
    path = str(photo(tmp_path / "a.png"))
    row = Sample("a", path, ("", "a dog."), "A paragraph.", meta={"alt_text": "Rex in Rome", "notes": ["one", ""]})
    found = panel(
        people={"expert": "references"},
        web={"expert": "alt_text"},
        notes={"expert": "row_text", "params": {"column": "notes", "kind": "caption"}},
        paragraph={"expert": "row_text", "params": {"column": "paragraph", "kind": "caption"}},
    ).describe([row, Sample("b", path)])
    assert [(one.text, one.kind) for one in found[0]] == [
        ("a dog.", "reference"),
        ("Rex in Rome", "alt_text"),
        ("one", "caption"),
        ("A paragraph.", "caption"),
    ]
    assert found[1] == []
    with pytest.raises(DataError, match="column 'alt_text' must be a text or a list of texts, got 7"):
        panel(web={"expert": "alt_text"}).describe([Sample("a", path, meta={"alt_text": 7})])
