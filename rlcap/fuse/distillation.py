"""Chat pairs from fused rows, by which a local model is taught to fuse: the distilled fuser of CapsFusion.

A pair is what the fuser was told and the paragraph that remained after the verification. TRL trains on a folder with such a file as it is
(`trl sft --dataset_name FOLDER`), and the result is a fuser again (`fuser: transformers:FOLDER`).
"""

from __future__ import annotations

import json
from pathlib import Path

from rlcap.experts.statement import Statement
from rlcap.fuse.preset import Preset
from rlcap.fuse.prompt import FusionPrompt
from rlcap.io.atomic import replaced_file
from rlcap.io.text import iter_log


def write_pairs(rows: Path, preset: Preset, out: Path) -> int:
    """Write a line {"messages": [system, user, assistant]} for each row, and return their number.

    Args:
        rows: The file of fused rows.
        preset: The preset with which they were made.
        out: The file to write.

    Raises:
        StorageError: The file can't be written.
    """
    prompt = FusionPrompt(preset.prompt, preset.experts)
    count = 0
    with replaced_file(out, "the pairs") as partial, open(partial, "w", encoding="utf-8") as file:
        for row in iter_log(rows):
            statements = [Statement.from_json(one) for one in row["fusion"]["statements"]]
            messages = [
                {"role": "system", "content": prompt.template.system},
                {"role": "user", "content": prompt.fill(statements)},
                {"role": "assistant", "content": row["paragraph"]},
            ]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
            count += 1
    return count
