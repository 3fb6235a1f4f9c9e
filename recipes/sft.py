"""Maximum likelihood: a LoRA adapter on fused paragraphs, the starting checkpoint of reinforcement.

    accelerate launch recipes/sft.py                             the embedded lab
    accelerate launch recipes/sft.py --config my.yaml            your own data and model
    accelerate launch recipes/sft.py train.target=references     short captions instead of paragraphs

The adapter is written to <run folder>/adapter; give it to recipes/grpo.py as model.adapter.
"""

import functools
from pathlib import Path

from rlcap.config.schema import SFTConfig
from rlcap.train.command_line import parse
from rlcap.train.process import run

CONFIGS = Path(__file__).parent / "configs"


def main() -> None:
    config = parse(SFTConfig, __doc__, CONFIGS / "lab_sft.yaml")

    import torch
    from accelerate import PartialState
    from accelerate.utils import set_seed

    from rlcap.data.source import instruction_for, load_splits
    from rlcap.policy.loading import load_policy
    from rlcap.policy.visual_tokens import count_visual_tokens, describe_visual_tokens
    from rlcap.train.callbacks import RunFolderInit
    from rlcap.train.run_folder import RunFolder
    from rlcap.train.saving import save_tuned
    from rlcap.train.sft import build_trainer

    # Told that there is no GPU, accelerate joins CPU processes over gloo; untold, each would believe it is alone.
    state = PartialState(cpu=not torch.cuda.is_available())
    say = print if state.is_main_process else (lambda *_: None)
    set_seed(config.train.seed)
    folder = RunFolder.choose("sft", config.name, config.output_dir)

    with state.main_process_first():
        splits, lines = load_splits(config.data)
    say("\n".join(lines))
    policy = load_policy(config.model)
    say(policy.describe())
    say(describe_visual_tokens(count_visual_tokens(policy.captioner, [sample.image for sample in splits["train"]])))

    trainer = build_trainer(policy, splits["train"], config, instruction_for(config.data), folder)
    facts = {"trainable_parameters": policy.trainable_parameters, "processes": state.num_processes}
    trainer.add_callback(RunFolderInit(functools.partial(folder.begin, config, splits, **facts)))
    trainer.train()
    save_tuned(trainer, policy.processor, folder.adapter)
    if state.is_main_process:
        print(f"adapter: {folder.adapter}")


if __name__ == "__main__":
    run(main)
