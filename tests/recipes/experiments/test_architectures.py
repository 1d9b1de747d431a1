"""Every architecture of the zoo has the groups that are known of it, and the page says so."""

import warnings

import pytest

from symport_recipes.experiments._architectures import measure, moving_share, show_sizes
from symport_recipes.experiments._architectures_page import page
from symport_recipes.networks import COMPONENTS, ZOO
from symport_recipes.networks.zoo._transformers import CASES

QUICK = {"MLP", "ResNet-18", "UNet", "LSTM", "Llama"}


@pytest.mark.parametrize(
    "architecture",
    [pytest.param(a, id=a.name, marks=[] if a.name in QUICK else pytest.mark.slow) for a in ZOO],
)
def test_the_groups_of_a_known_architecture_are_found_and_proven(architecture):
    if architecture.name in CASES:
        pytest.importorskip("transformers")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="transformers")
        found = measure(architecture)
    assert found.finding.groups == architecture.expected_groups
    assert found.finding.error < 1e-10
    assert found.finding.share > 0.96
    assert 0 < moving_share(found.spec, dict(found.model.named_parameters())) <= 1


def test_the_quick_ones_are_in_the_zoo_and_names_are_unique():
    names = [architecture.name for architecture in ZOO]
    assert set(names) >= QUICK
    assert len(set(names)) == len(names)


def test_every_component_is_shown_by_architectures_of_the_zoo():
    names = {architecture.name for architecture in ZOO}
    for component in COMPONENTS:
        assert component.shown_by
        assert names.issuperset(component.shown_by)


def test_the_page_has_a_row_for_each_and_says_what_is_left_out():
    chosen = [a for a in ZOO if a.name in ("LSTM", "ShuffleNetV2")]
    found = measure(chosen[-1])
    text = page([found.finding], chosen[-1:])
    assert text.count("\n| ") == 3 + 2 + len(COMPONENTS)
    assert f"| LSTM | 1 | {show_sizes(found.spec)} | 99.0 % |" in text
    assert "2 architectures" not in text
    assert "**ShuffleNet" not in text
    assert "12 of the 21 sets" in page([], chosen)
