"""The originals of torchvision and timm, where they are installed, at full size without weights."""

import pytest
import torch

from symport.symmetry import discover

# Counted by hand from the architectures.
TORCHVISION = {
    "resnet18": 8 + 4,  # hidden convolutions, and a stream for each stage
    "mobilenet_v2": 1 + 7 + 16 + 1,  # stem, stages, blocks that widen, head
    "densenet121": 1 + 2 * 58 + 3,  # stem, two in each layer, transitions
    "googlenet": 3 + 9 * 6,  # stem, modules
    "mobilenet_v3_large": 6 + 14 + 8 + 2,  # streams, blocks that widen, squeezes, head
    "efficientnet_b0": 1 + 7 + 15 + 16 + 1,  # stem, stages, blocks that widen, squeezes, head
    "swin_t": 4 + 12 * 4,  # streams; heads, two kinds of units, hidden units in each block
    # And the hidden units that make the table of positions, and biases of keys, which the network
    # overwrites with zeros, so that any order of them will do.
    "swin_v2_t": 4 + 12 * (4 + 2),
    "convnext_tiny": 4 + 18,  # streams, blocks
}
TIMM = {
    "resnet18": 8 + 4,
    "mobilenetv2_100": 1 + 7 + 16 + 1,
    "mixer_s32_224": 1 + 8 * 2,
    "deit_tiny_patch16_224": 1 + 12 * 4,
}
SIZES = {"mixer_s32_224": 224, "deit_tiny_patch16_224": 224}


def count(make, name):
    with torch.device("meta"):
        model = make(name).eval()
    side = SIZES.get(name, 64)
    select = (lambda out: getattr(out, "logits", out)) if name == "googlenet" else None
    return len(discover(model, torch.zeros(1, 3, side, side), select=select).groups)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torchvision's own, about its defaults
@pytest.mark.parametrize("name", TORCHVISION)
def test_a_model_of_torchvision_has_the_groups_that_are_counted(name):
    models = pytest.importorskip("torchvision.models", exc_type=ImportError)
    assert count(models.get_model, name) == TORCHVISION[name]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TIMM)
def test_a_model_of_timm_has_the_groups_that_are_counted(name):
    timm = pytest.importorskip("timm", exc_type=ImportError)
    assert count(timm.create_model, name) == TIMM[name]
