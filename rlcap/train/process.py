"""A recipe's process: what it is told before torch and its friends are imported, and how it ends when it can't go on."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable

from rlcap.errors import InputError
from rlcap.train.sharding import refuse_fsdp

DEFAULTS = {
    "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads that spin make a step many times slower where others want a core
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DELAY": "2",  # no bar for what is done in two seconds, such as loading a small model
    "WANDB_PROJECT": "rlcap",
}


def prepare() -> None:
    """Set `DEFAULTS` where the user has not, and silence what tells nobody anything; real warnings stay."""
    os.environ.update({name: value for name, value in DEFAULTS.items() if name not in os.environ})
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    # DeepSpeed, where it is installed, is imported by accelerate and warns of a missing GPU also when nobody asked for it.
    logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator to CPU" not in record.getMessage())


def run(main: Callable[[], None]) -> None:
    """`prepare`, then the recipe; what the user can mend, and Ctrl-C, end it with one line instead of a traceback."""
    prepare()
    try:
        refuse_fsdp()
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command with resume=auto goes on from the last checkpoint")
