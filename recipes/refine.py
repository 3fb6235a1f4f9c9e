"""Rewrites captions by critique (textual gradient descent), and keeps a rewritten caption if independent rewards improve.

    accelerate launch recipes/refine.py                                  the embedded lab with its own reviser
    accelerate launch recipes/refine.py --config my_refine.yaml          your captioner, data, language model and rewards
    accelerate launch recipes/refine.py captions=runs/a/captions/48.jsonl --output_dir runs/refined
    accelerate launch recipes/refine.py --output_dir runs/refined resume=auto     continue after a kill or Ctrl-C

The run folder then contains refined.jsonl with every caption, its critiques and the decision. It also contains pairs.jsonl
for recipes/dpo.py (pairs=runs/refined/pairs.jsonl) and sft.jsonl for recipes/sft.py (data.source=runs/refined/sft.jsonl).
"""

from pathlib import Path

from rlcap.config.schema import mix_entries
from rlcap.config.supervised import RefineConfig
from rlcap.train.command_line import parse
from rlcap.train.process import run

CONFIGS = Path(__file__).parent / "configs"


def main() -> None:
    """Run the recipe with the command line of this process."""
    config = parse(RefineConfig, __doc__, CONFIGS / "lab_refine.yaml")

    # These imports take seconds. They come after the arguments, so that --help and error messages appear immediately.
    from rlcap.config.loading import dump
    from rlcap.data.captions import read_captions
    from rlcap.data.source import load_instruction, load_splits
    from rlcap.errors import ConfigError
    from rlcap.eval.captioning import caption_samples
    from rlcap.feedback.revise import Reviser
    from rlcap.io.atomic import write_text
    from rlcap.judge.config import JudgeConfig
    from rlcap.policy.loading import load_policy
    from rlcap.reward.context import reward_context
    from rlcap.reward.mix import RewardMix
    from rlcap.train.open_run import join_processes
    from rlcap.train.refine import describe, refine
    from rlcap.train.run_folder import RunFolder

    state = join_processes()
    if state.num_processes > 1:
        raise ConfigError("recipes/refine.py runs as one process, because most of its time it waits for the judge")
    folder = RunFolder.choose("refine", config.name, config.output_dir, config.resume)

    splits, lines = load_splits(config.data)
    print("\n".join(lines))
    samples, instruction = splits["train"], load_instruction(config.data)
    gallery = {sample.id: sample.image for rows in splits.values() for sample in rows}

    reviser = Reviser(JudgeConfig.of(config.reviser.judge), config.reviser.rounds)
    accept = RewardMix.from_config(
        mix_entries(config.accept),
        context=reward_context(
            gallery.values(), base=config.model.base, instruction=instruction.text, device=str(state.device)
        ),
        max_abstain=1.0,  # a caption on which a reward abstains is not accepted, and the summary counts it
    )

    if config.captions:
        written = {str(row["sample_id"]): row["caption"] for row in read_captions(Path(config.captions))}
        samples = [sample for sample in samples if sample.id in written]
        if not samples:
            raise ConfigError(
                f"{config.captions} has no caption of a training image; its sample_ids do not occur in the data"
            )
        captions = [written[sample.id] for sample in samples]
    else:
        policy = load_policy(config.model)
        captions = caption_samples(
            policy.model,
            policy.processor,
            samples,
            instruction=instruction,
            max_new_tokens=config.generation.max_new_tokens,
            progress=True,
        )

    folder.root.mkdir(parents=True, exist_ok=True)
    write_text(folder.root / "config.yaml", dump(config))
    rows = refine(
        captions,
        samples,
        reviser=reviser,
        accept=accept,
        gallery=gallery,
        folder=folder,
        instruction=instruction,
        tolerance=config.tolerance,
    )
    print(describe(rows, accept))
    print(f"pairs: {folder.root / 'pairs.jsonl'}\nsft: {folder.root / 'sft.jsonl'}")


if __name__ == "__main__":
    run(main)
