"""Two processes with different images end a backward pass with the same gradients: DDP takes part in every family."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os
import sys
import torch
import torch.distributed as dist
from captioners import build, images
from peft import LoraConfig, get_peft_model
from torch.nn.parallel import DistributedDataParallel
from transformers.utils import logging
from rlcap.policy.families.registry import make_captioner
from rlcap.policy.loading import find_lora_modules

logging.disable_progress_bar()
rank, folder = int(os.environ["RANK"]), sys.argv[1]
built = {family: build(family, f"{folder}/{family}-{rank}") for family in sys.argv[2:]}
dist.init_process_group("gloo")  # from here on transformers saves on one process alone
for family, (whole, processor) in built.items():
    for trainable in ("lora-language",) if family == "blip" else ("lora-language", "projector"):
        torch.manual_seed(0)
        lora = LoraConfig(r=2, target_modules=find_lora_modules(whole, trainable), init_lora_weights=False)
        adapted = get_peft_model(whole, lora)
        captioner = make_captioner(DistributedDataParallel(adapted, find_unused_parameters=True), processor)
        prompts = captioner.prepare(images(2)[rank : rank + 1], "describe")
        ids = torch.arange(20, 28).view(2, 4) + rank
        captioner.log_probs(prompts, ids, torch.ones_like(ids)).log_probs.sum().backward()
        mine = torch.cat([p.grad.flatten() for p in adapted.parameters() if p.grad is not None])
        both = [torch.empty_like(mine) for _ in range(2)]
        dist.all_gather(both, mine)
        if rank == 0:
            print(family, trainable, float(mine.norm()) > 0, float((both[0] - both[1]).abs().max()) < 1e-6, flush=True)
        whole = adapted.unload()
"""
FAMILIES = ("blip", "blip_2", "blip_2_with_t5", "florence2", "git", "llava", "vision_encoder_decoder")
"""One of each captioner class."""


@pytest.mark.slow
def test_gradients_are_averaged_over_both_processes(tmp_path):
    script = tmp_path / "gradients.py"
    script.write_text(SCRIPT)
    names = [family.replace("_with_", "_") for family in FAMILIES]
    path = os.pathsep.join([str(Path(__file__).parents[1] / "support"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    environment = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(tmp_path), *names], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    results = [line for line in done.stdout.splitlines() if line.endswith(("True", "False"))]
    assert results == [
        f"{name} {trainable} True True"
        for name in names
        for trainable in ("lora-language", "projector")
        if (name, trainable) != ("blip", "projector")
    ]
