"""A tiny model of each family, built once for the tests of captioners and value models."""

import captioners
import pytest

from rlcap.policy.families.registry import FAMILIES, get_family


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def loaded(request, tmp_path_factory):
    """(model, processor). Whoever puts an adapter into the model takes it out again, and lets everything be trained."""
    builder = request.param.replace("-", "_").replace(" with ", "_")  # of `blip-2 with t5` it is `blip_2_t5`
    model, processor = captioners.build(builder, tmp_path_factory.mktemp("model"))
    assert get_family(model.config) == request.param
    return model.to(captioners.DEVICE), processor
