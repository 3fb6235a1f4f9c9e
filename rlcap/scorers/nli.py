"""Natural-language inference (NLI): the probability that a premise entails, leaves open or contradicts a hypothesis.

Any `AutoModelForSequenceClassification` with the three labels works (bart-large-mnli, deberta-…-mnli, a MiniLM). The
columns are found by the model's label names, since their order differs between published models.
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
"""Order of the columns of `NliScorer.probabilities`, whatever the order of the model."""


def find_label_columns(id2label: Mapping[int, str]) -> tuple[int, int, int]:
    """Return the output columns of (entailment, neutral, contradiction), by name ("ENTAILMENT", "entail", "contra" …).

    Raises:
        ValueError: one of the three does not occur exactly once; the message lists the model's labels.
    """
    columns = []
    for stem in ("entail", "neutral", "contra"):
        matches = [int(i) for i, label in id2label.items() if str(label).lower().startswith(stem)]
        if len(matches) != 1:
            raise ValueError(
                f"not a three-way NLI model: its labels are {list(id2label.values())}, and exactly one must start with "
                f"{stem!r}; choose a model trained on MNLI or SNLI, or name its labels in config.json (id2label)"
            )
        columns.append(matches[0])
    return columns[0], columns[1], columns[2]


class NliScorer:
    """A frozen NLI cross-encoder; usually created by `NliScorer.load(path_or_name)`."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 32, name: str = "nli") -> None:
        self.model, self.tokenizer, self.batch_size, self.name = model.eval(), tokenizer, batch_size, name
        self.model.requires_grad_(False)
        empty = [key for key, weight in model.named_parameters() if not weight.numel()]
        if empty:  # DeepSpeed ZeRO-3 partitions every model that is created while it is active
            raise ValueError(f"{name}: some weights are empty ({empty[0]}, …): build scorers before the trainer")
        self.columns = find_label_columns(model.config.id2label)
        limit = getattr(model.config, "max_position_embeddings", None) or 512
        self.max_tokens = min(limit, tokenizer.model_max_length)
        self.truncated_share = 0.0
        """Share of the pairs of the last call that were cut at `max_tokens`."""

    @classmethod
    def load(cls, path_or_name: str, device: str = "cpu", batch_size: int = 32) -> NliScorer:
        """Load from a folder or a hub name; safetensors only, and no code of a hub repository is run.

        Raises:
            ConfigError: the model does not exist.
        """
        from transformers import AutoModelForSequenceClassification

        fix = "give the folder or hub name of a sequence classifier"
        model, tokenizer = load_text_model(AutoModelForSequenceClassification, path_or_name, device, "NLI model", fix)
        return cls(model, tokenizer, batch_size, name=str(path_or_name))

    @torch.inference_mode()
    def probabilities(self, premises: Sequence[str], hypotheses: Sequence[str]) -> Tensor:
        """Return (N, 3) float32 on the CPU: P(entailment), P(neutral), P(contradiction) of N premises and hypotheses.

        A pair that occurs twice is judged once, so that equal captions get exactly equal scores. Where a pair is too
        long, the premise is cut; the hypothesis stays complete as long as it fits by itself.
        """
        if len(premises) != len(hypotheses):
            raise ValueError(f"{len(premises)} premises for {len(hypotheses)} hypotheses")
        pairs = dict.fromkeys(zip(premises, hypotheses, strict=True))
        unique = list(pairs)
        if not unique:
            return torch.zeros(0, 3)
        scores = torch.empty(len(unique), 3)
        encoded, cut = self._encode(unique)
        for rows in length_sorted_batches([len(p) + len(h) for p, h in unique], self.batch_size):
            logits = self.model(**self._padded([encoded[i] for i in rows])).logits.float()
            scores[rows] = logits.softmax(-1)[:, list(self.columns)].cpu()
        self.truncated_share = cut / len(unique)
        place = {pair: i for i, pair in enumerate(unique)}
        return scores[[place[pair] for pair in zip(premises, hypotheses, strict=True)]]

    def _encode(self, pairs: Sequence[tuple[str, str]]) -> tuple[list[dict[str, list[int]]], int]:
        """Return the tokens, types and mask of each pair, and the number of pairs that had to be cut.

        Each text is tokenised once, however many pairs contain it: the claims of a caption share their premise.
        """
        core = self.tokenizer.backend_tokenizer
        core.no_truncation()  # a call with truncation leaves it switched on
        core.no_padding()
        texts = list(dict.fromkeys(replace_lone_surrogates(text) for pair in pairs for text in pair))
        encodings = dict(zip(texts, core.encode_batch(texts, add_special_tokens=False), strict=True))
        clean = [(replace_lone_surrogates(first), replace_lone_surrogates(second)) for first, second in pairs]
        encoded_pairs = [core.post_process(encodings[first], encodings[second], True) for first, second in clean]
        rows = []
        for pair, encoded in zip(clean, encoded_pairs, strict=True):
            if len(encoded) > self.max_tokens:
                options = {"truncation": "longest_first", "max_length": self.max_tokens}
                short = self.tokenizer(*([text] for text in self._shorten(*pair)), **options)
                rows.append({name: values[0] for name, values in short.items()})
            else:
                fields = {
                    "input_ids": encoded.ids,
                    "token_type_ids": encoded.type_ids,
                    "attention_mask": encoded.attention_mask,
                }
                rows.append({name: fields[name] for name in self.tokenizer.model_input_names if name in fields})
        return rows, sum(len(encoded) > self.max_tokens for encoded in encoded_pairs)

    def _padded(self, rows: Sequence[Mapping[str, list[int]]]) -> dict[str, Tensor]:
        """Return a batch of tensors, padded on the tokenizer's side.

        `tokenizer.pad` is not used, because it loops over every number in Python.
        """
        width = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": self.tokenizer.pad_token_id or 0, "token_type_ids": self.tokenizer.pad_token_type_id}
        left = self.tokenizer.padding_side == "left"
        batch = {}
        for name in rows[0]:
            padding = [[fill.get(name, 0)] * (width - len(row[name])) for row in rows]
            padded = [pad + row[name] if left else row[name] + pad for pad, row in zip(padding, rows, strict=True)]
            # by way of numpy, since torch.tensor takes three times as long
            batch[name] = torch.from_numpy(np.array(padded)).to(self.model.device)
        return batch

    def _shorten(self, premise: str, hypothesis: str) -> tuple[str, str]:
        """Cut the premise to the tokens that are left; the hypothesis gets at most three quarters of the room."""
        room = self.max_tokens - self.tokenizer.num_special_tokens_to_add(pair=True)
        claim = self._cut(hypothesis, room * 3 // 4)
        spent = len(self.tokenizer(claim, add_special_tokens=False, verbose=False)["input_ids"])
        return self._cut(premise, room - spent), claim

    def _cut(self, text: str, tokens: int) -> str:
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return text if len(ids) <= tokens else self.tokenizer.decode(ids[:tokens], skip_special_tokens=True)
