"""What every test stands on: no network, no account, and a cache that is thrown away."""

import os

import pytest

# Before any import of the libraries that read them.
os.environ.update(
    HF_HUB_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    WANDB_MODE="offline",
    WANDB_SILENT="true",
    LITELLM_LOCAL_MODEL_COST_MAP="True",
)
if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores: each with a thread for every core, they would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def throwaway_cache(tmp_path_factory):
    """Lab images, embeddings and judges' answers of tests go to a temporary folder, also in the processes they start."""
    before = {name: os.environ.get(name) for name in ("RLCAP_CACHE", "TEXTGRAD_LOG_DIR")}
    folder = tmp_path_factory.mktemp("cache")
    os.environ.update(RLCAP_CACHE=str(folder), TEXTGRAD_LOG_DIR=str(folder / "textgrad"))
    yield folder
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})
