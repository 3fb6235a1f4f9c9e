"""The process of a recipe or a command: settings that must precede the import of torch, and one-line error messages."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable

from tqdm import tqdm

from rlcap.errors import InputError
from rlcap.train.sharding import refuse_fsdp

DEFAULTS = {
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait actively slow a step down many times on a busy machine
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DELAY": "2",  # hides the progress bar of short operations, such as loading a small model
    "WANDB_PROJECT": "rlcap",
}
"""Environment variable → the value that it gets where the user has not set it."""


def prepare() -> None:
    """Set the environment variables of `DEFAULTS`, and silence two messages of libraries that are of no use to a user."""
    os.environ.update({name: value for name, value in DEFAULTS.items() if name not in os.environ})
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    # If DeepSpeed is installed, accelerate imports it, and DeepSpeed warns about a missing GPU even if a run does not use it.
    logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator to CPU" not in record.getMessage())


def run(main: Callable[[], None]) -> None:
    """Run a recipe. An error that the user can fix, or Ctrl-C, ends the process with one line instead of a traceback.

    Args:
        main: The recipe.
    """
    prepare()
    try:
        refuse_fsdp()
        main()
    except InputError as error:
        with tqdm.external_write_mode(file=sys.stderr):  # an unfinished progress bar must not share the line
            print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit("\nstopped; run the same command with resume=auto to continue from the last checkpoint")
