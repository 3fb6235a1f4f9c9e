"""Natural-language inference: does a premise entail, leave open, or contradict a hypothesis?

Any `AutoModelForSequenceClassification` with the three labels will do (bart-large-mnli, deberta-…-mnli, a MiniLM).
Which output is which is read from the model's own label names: their order differs between published models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlcap.scorers.loading import load_text_model
from rlcap.scorers.text.batches import length_sorted_batches, replace_lone_surrogates

LABELS = ("entailment", "neutral", "contradiction")
"""Order of the columns that `NliScorer.probabilities` answers, whatever the model's own."""


def find_label_columns(id2label: Mapping[int, str]) -> tuple[int, int, int]:
    """Output columns of (entailment, neutral, contradiction), by name ("ENTAILMENT", "entail", "contra" …).

    Raises ValueError listing the model's labels when one of the three is not among them exactly once.
    """
    columns = []
    for stem in ("entail", "neutral", "contra"):
        found = [int(i) for i, label in id2label.items() if str(label).lower().startswith(stem)]
        if len(found) != 1:
            raise ValueError(
                f"not a three-way NLI model: its labels are {list(id2label.values())}, and exactly one must start with "
                f"{stem!r}; choose a model trained on MNLI or SNLI, or name its labels in config.json (id2label)"
            )
        columns.append(found[0])
    return columns[0], columns[1], columns[2]


class NliScorer:
    """A frozen NLI cross-encoder. `NliScorer.load(path_or_name)` is the usual way in."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 32, name: str = "nli") -> None:
        self.model, self.tokenizer, self.batch_size, self.name = model.eval(), tokenizer, batch_size, name
        self.model.requires_grad_(False)
        empty = [key for key, weight in model.named_parameters() if not weight.numel()]
        if empty:  # a scorer built while DeepSpeed ZeRO-3 partitions whatever is created
            raise ValueError(f"{name}: weights without elements ({empty[0]}, …): build scorers before the trainer")
        self.columns = find_label_columns(model.config.id2label)
        limit = getattr(model.config, "max_position_embeddings", None) or 512
        self.max_tokens = min(limit, tokenizer.model_max_length)
        self.truncated_share = 0.0
        """Share of the pairs judged last that were cut at `max_tokens`."""

    @classmethod
    def load(cls, path_or_name: str, device: str = "cpu", batch_size: int = 32) -> NliScorer:
        """From a folder or a hub name; safetensors only, none of the repository's own code is run. ConfigError where there is no
        such model."""
        from transformers import AutoModelForSequenceClassification

        fix = "give the folder or hub name of a sequence classifier"
        model, tokenizer = load_text_model(AutoModelForSequenceClassification, path_or_name, device, "NLI model", fix)
        return cls(model, tokenizer, batch_size, name=str(path_or_name))

    @torch.inference_mode()
    def probabilities(self, premises: Sequence[str], hypotheses: Sequence[str]) -> Tensor:
        """N premises, N hypotheses → (N, 3) float32 on the CPU: P(entailment), P(neutral), P(contradiction).

        A pair that occurs twice is judged once, so that equal captions get equal scores to the last bit. When a pair is
        too long the premise is cut: the claim under judgement stays whole as long as it fits by itself.
        """
        if len(premises) != len(hypotheses):
            raise ValueError(f"{len(premises)} premises for {len(hypotheses)} hypotheses")
        pairs = dict.fromkeys(zip(premises, hypotheses, strict=True))
        unique = list(pairs)
        if not unique:
            return torch.zeros(0, 3)
        found = torch.empty(len(unique), 3)
        encoded, cut = self._encode(unique)
        for rows in length_sorted_batches([len(p) + len(h) for p, h in unique], self.batch_size):
            logits = self.model(**self._padded([encoded[i] for i in rows])).logits.float()
            found[rows] = logits.softmax(-1)[:, list(self.columns)].cpu()
        self.truncated_share = cut / len(unique)
        place = {pair: i for i, pair in enumerate(unique)}
        return found[[place[pair] for pair in zip(premises, hypotheses, strict=True)]]

    def _encode(self, pairs: Sequence[tuple[str, str]]) -> tuple[list[dict[str, list[int]]], int]:
        """Each pair's tokens, types and mask, and how many of the pairs had to be cut.

        Each text is read once, however many pairs it is part of: the claims of a caption share their premise.
        """
        core = self.tokenizer.backend_tokenizer
        core.no_truncation()  # a call with truncation leaves it on
        core.no_padding()
        texts = list(dict.fromkeys(replace_lone_surrogates(text) for pair in pairs for text in pair))
        read = dict(zip(texts, core.encode_batch(texts, add_special_tokens=False), strict=True))
        clean = [(replace_lone_surrogates(first), replace_lone_surrogates(second)) for first, second in pairs]
        wholes = [core.post_process(read[first], read[second], True) for first, second in clean]
        rows = []
        for pair, whole in zip(clean, wholes, strict=True):
            if len(whole) > self.max_tokens:
                options = {"truncation": "longest_first", "max_length": self.max_tokens}
                short = self.tokenizer(*([text] for text in self._shorten(*pair)), **options)
                rows.append({name: values[0] for name, values in short.items()})
            else:
                given = {
                    "input_ids": whole.ids,
                    "token_type_ids": whole.type_ids,
                    "attention_mask": whole.attention_mask,
                }
                rows.append({name: given[name] for name in self.tokenizer.model_input_names if name in given})
        return rows, sum(len(whole) > self.max_tokens for whole in wholes)

    def _padded(self, rows: Sequence[Mapping[str, list[int]]]) -> dict[str, Tensor]:
        """A batch of tensors, padded on the tokenizer's side. By hand: `tokenizer.pad` walks through every number in Python."""
        width = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": self.tokenizer.pad_token_id or 0, "token_type_ids": self.tokenizer.pad_token_type_id}
        left = self.tokenizer.padding_side == "left"
        batch = {}
        for name in rows[0]:
            room = [[fill.get(name, 0)] * (width - len(row[name])) for row in rows]
            whole = [pad + row[name] if left else row[name] + pad for pad, row in zip(room, rows, strict=True)]
            batch[name] = torch.from_numpy(np.array(whole)).to(self.model.device)  # torch.tensor takes thrice as long
        return batch

    def _shorten(self, premise: str, hypothesis: str) -> tuple[str, str]:
        """Cut the premise; a hypothesis that is too long by itself keeps at most three quarters of the room."""
        room = self.max_tokens - self.tokenizer.num_special_tokens_to_add(pair=True)
        claim = self._cut(hypothesis, room * 3 // 4)
        spent = len(self.tokenizer(claim, add_special_tokens=False, verbose=False)["input_ids"])
        return self._cut(premise, room - spent), claim

    def _cut(self, text: str, tokens: int) -> str:
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return text if len(ids) <= tokens else self.tokenizer.decode(ids[:tokens], skip_special_tokens=True)
