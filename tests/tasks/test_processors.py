"""What folders say of their inputs and classes, and what they may not say."""

import json
from types import SimpleNamespace

import pytest

from symport.errors import FileError, SettingsError
from symport.tasks._images import ImageScaling
from symport.tasks._processors import class_numbers, image_scaling


def config(**values):
    known = {"num_channels": 3, "image_size": 16, "num_labels": 2, "problem_type": None,
             "label2id": {"a": 0, "b": 1}, "id2label": {0: "a", 1: "b"}}  # fmt: skip
    return SimpleNamespace(**{**known, **values})


def processed(folder, content, **values):
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    return image_scaling(folder, config(**values))


def test_sizes_and_norms_come_from_model_and_processor(tmp_path):
    assert image_scaling(tmp_path, config()) == ImageScaling((16, 16), (0.5,) * 3, (0.5,) * 3)
    assert image_scaling(tmp_path, config(image_size=[8, 4])).size == (8, 4)
    norms = {"image_mean": [0.1, 0.2, 0.3], "image_std": 0.5}
    found = processed(tmp_path, norms)
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
    assert processed(tmp_path, {"do_normalize": False}).std == (1.0, 1.0, 1.0)
    for size, expected in [(224, (224, 224)), ({"height": 8, "width": 4}, (8, 4)),
                           ({"shortest_edge": 7}, (7, 7))]:  # fmt: skip
        assert processed(tmp_path, {"size": size}, image_size=None).size == expected
    crop = {"size": {"shortest_edge": 9}, "crop_size": {"height": 6, "width": 6}}
    assert processed(tmp_path, crop, image_size=None).size == (6, 6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected an object with keys, not None"),
        ([1], r"expected an object with keys, not \[1\]"),
        ({"image_mean": [0.1]}, r"image_mean is \[0.1\], expected 3 numbers"),
        ({"image_mean": None}, "image_mean is None, expected 3 numbers"),
        ({"image_mean": ["a", "b", "c"]}, "image_mean is .*expected 3 numbers"),
        ({"image_std": [0.1, 0.0, 1]}, "image_std is .*expected numbers above 0"),
        ({"image_std": [0.1, float("nan"), 1]}, "image_std is .*expected 3 numbers"),
    ],
)
def test_a_processor_that_is_none_is_refused(tmp_path, content, message):
    with pytest.raises(SettingsError, match=f"preprocessor_config.json: {message}"):
        processed(tmp_path, content)


@pytest.mark.parametrize("size", ["x", 0, -3, [1, 2, 3], {"longest": 3}, 10**9, True, 1.5])
def test_a_size_that_is_none_is_refused(tmp_path, size):
    with pytest.raises(SettingsError, match=r"the size of images is .*, expected pixels"):
        processed(tmp_path, {}, image_size=size)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_broken_file_is_named(tmp_path, content):
    (tmp_path / "preprocessor_config.json").write_bytes(content)
    with pytest.raises(FileError, match=r"preprocessor_config\.json: "):
        image_scaling(tmp_path, config())


def test_what_else_a_processor_needs(tmp_path):
    with pytest.raises(SettingsError, match=r"neither config.json .* how large images"):
        image_scaling(tmp_path, config(image_size=None))
    with pytest.raises(SettingsError, match="num_channels is 4, expected 1 or 3"):
        image_scaling(tmp_path, config(num_channels=4))


def test_classes_are_numbered_from_0(tmp_path):
    assert list(class_numbers(tmp_path, config(label2id={"b": 1, "a": 0}))) == ["a", "b"]
    assert class_numbers(tmp_path, config(label2id={"x": 3})) == {"a": 0, "b": 1}
    for odd, message in [
        ({"label2id": {"a": 1}, "id2label": {0: "a", 1: "a"}}, "numbers its classes"),
        ({"label2id": None}, "are to map names to numbers"),
        ({"label2id": {"a": "x"}}, "are to map names to numbers"),
        ({"num_labels": 1}, "answers with a number"),
        ({"problem_type": "regression"}, "answers with a number.*--set task=arrays"),
        ({"problem_type": "multi_label_classification"}, "answers with several classes at once"),
    ]:
        with pytest.raises(SettingsError, match=message):
            class_numbers(tmp_path, config(**odd))
