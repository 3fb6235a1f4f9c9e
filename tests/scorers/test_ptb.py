"""PTB's tokens: golden sentences, and the Java program itself where there is one."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from rlcap.scorers.text.cider import CiderD
from rlcap.scorers.text.overlap import bleu, rouge_l
from rlcap.scorers.text.ptb import PUNCTUATION, tokenize_ptb
from rlcap.scorers.text.tokenizers import get_tokenizer

COCO = Path(__file__).parents[3] / "shared" / "real" / "coco" / "annotations" / "captions_val2017.json"
GOLDEN = """
A man's dog doesn't bark; it's the dogs' toy & can't stop. | a man 's dog does n't bark it 's the dogs toy & ca n't stop
I'd've won't shan't I'm you're they've he'd she'll | i 'd 've wo n't sha n't i 'm you 're they 've he 'd she 'll
I cannot go; gonna wanna gimme lemme. | i can not go gon na wan na gim me lem me
'tis the '60s, it's 1950's; y'all like rock 'n' roll o'clock O'Brien's | 't is the '60s it 's 1950 's y' all like rock 'n' roll o'clock o'brien 's
The clock reads 12:43 and 7:05pm on 11/01/2009. | the clock reads 12:43 and 7:05 pm on 11/01/2009
It is 5 p.m. No. 5, 1,000 people, 3.5 inch, $1.50, 20%, #1, 5pm | it is 5 p.m. no. 5 1,000 people 3.5 inch $ 1.50 20 % # 1 5pm
A tub/shower and/or a 1/2 cup, ½ cup, mother-in-law's semi-truck -- two—dashes | a tub/shower and/or a 1/2 cup 1/2 cup mother-in-law 's semi-truck two dashes
A T.V. on St. Mary's Ave. in Washington D.C. | a t.v. on st. mary 's ave. in washington d.c.
Mr. Smith, Dr. Jones vs. J. Doe Jr. in the U.S. | mr. smith dr. jones vs. j. doe jr. in the u.s.
In Wash. and Pa. we wash. She is ill. See a cat. | in wash. and pa. we wash she is ill see a cat
end of a line.A next one,without space | end of a line.a next one without space
wait... what?! no!! yes! (maybe) [x] {y} | wait what ?! no !! yes -lrb- maybe -rrb- -lsb- x -rsb- -lcb- y -rcb-
"quoted" 'single' “curly” dog’s ‘x’ ''double'' | quoted single curly dog 's x double
www.example.com http://example.org/a?b=1 info@example.org | www.example.com http://example.org/a?b=1 info@example.org
a/c & AT&T C++ 2x4 + * = ~ ^ @ 50° £10 5¢ café | a/c & at&t c++ 2x4 + * = ~ ^ @ 50 ° # 10 5 cents café
"""
"""Sentence | its tokens, which are those of Stanford's PTBTokenizer 3.4.1 without pycocoevalcap's punctuation."""
ROWS = [tuple(line.split(" | ")) for line in GOLDEN.strip().splitlines()]


@pytest.mark.parametrize(("text", "tokens"), ROWS)
def test_golden(text, tokens):
    assert tokenize_ptb(text) == tokens.split()


def java_tokens(texts, folder):
    """Return what pycocoevalcap makes of texts; skip where its program cannot run."""
    package = pytest.importorskip("pycocoevalcap")
    jar = Path(package.__path__[0]) / "tokenizer" / "stanford-corenlp-3.4.1.jar"
    if not shutil.which("java") or not jar.exists():
        pytest.skip("no Java")
    file = folder / "captions.txt"
    file.write_text("\n".join(text.replace("\n", " ") for text in texts))
    command = [
        "java",
        "-cp",
        str(jar),
        "edu.stanford.nlp.process.PTBTokenizer",
        "-preserveLines",
        "-lowerCase",
        str(file),
    ]
    lines = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\n")
    return [[token for token in line.split(" ") if token not in (*PUNCTUATION, "")] for line in lines[: len(texts)]]


def test_the_golden_tokens_are_those_of_the_java_program(tmp_path):
    assert java_tokens([text for text, _ in ROWS], tmp_path) == [tokens.split() for _, tokens in ROWS]


def test_as_the_java_program_on_coco(tmp_path):
    if not COCO.exists():
        pytest.skip(f"no {COCO.name}")
    texts = [row["caption"] for row in json.loads(COCO.read_text())["annotations"]]
    other = [
        text for text, theirs in zip(texts, java_tokens(texts, tmp_path), strict=True) if tokenize_ptb(text) != theirs
    ]
    assert len(other) / len(texts) < 0.0005, other


def test_metrics_use_the_tokenizer_that_they_are_given(tmp_path):
    caption, reference = "the dog's ball & a cat", "the ball of the dog's cat"
    assert bleu(caption, [reference], 1) == pytest.approx(4 / 5 * 2.718281828 ** (1 - 6 / 5), abs=1e-3)
    assert bleu(caption, [reference], 1, "ptb") == pytest.approx(5 / 7, abs=1e-3)
    assert rouge_l(caption, [reference]) != rouge_l(caption, [reference], tokenizer="ptb")
    references = [[reference], ["two zebras"]]
    words, ptb = CiderD.fit(references), CiderD.fit(references, tokenizer="ptb")
    assert words.score(caption, [reference]) != ptb.score(caption, [reference])
    ptb.save(tmp_path / "ptb.json")
    again = CiderD.load(tmp_path / "ptb.json")
    assert again.tokenizer == "ptb"
    assert again.score(caption, [reference]) == ptb.score(caption, [reference])
    with pytest.raises(ValueError, match="tokenizer must be one of words, ptb, got 'moses'"):
        get_tokenizer("moses")
