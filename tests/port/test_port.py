import pytest
from tiny import CONFIGS, changed, examples, loaded, logits, make, shuffled, trio

from symport.port import port
from symport.port.settings import make_settings

ONCE = {"folds": 0, "steps": 2}


@pytest.mark.parametrize("kind", CONFIGS)
def test_fgmt_gives_a_base_in_another_order_the_same_fine_tune(kind, tmp_path):
    files = trio(tmp_path, kind)
    found = port(make_settings({**files, **ONCE, "examples": examples(kind, tmp_path)}))
    assert found.outcome.pick == "transfer"
    expected = logits(changed(make(kind)), kind)
    assert (logits(loaded(kind, found.folder), kind) - expected).abs().max() < 1e-5
    assert (logits(shuffled(make(kind)), kind) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("kind", CONFIGS)
def test_weight_matching_does_so_without_examples(kind, tmp_path):
    files = trio(tmp_path, kind)
    found = port(make_settings({**files, "method": "weights"}))
    assert "exact if the new base is the old one in another order" in " ".join(found.verdict)
    expected = logits(changed(make(kind)), kind)
    assert (logits(loaded(kind, found.folder), kind) - expected).abs().max() < 1e-5
