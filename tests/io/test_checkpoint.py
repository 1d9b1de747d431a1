"""Checkpoints against safetensors and transformers, and every way in which one can be broken."""

import errno
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from symport.errors import FileError, ParamsError
from symport.io import INDEX, open_checkpoint, write_checkpoint
from symport.io._safetensors_shard import ShardWriter

ONE, TWO = (f"model-0000{k}-of-00002.safetensors" for k in (1, 2))


def mixed() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "mask": torch.tensor([True, False, True]),
        "w": torch.randn(5, 3, generator=generator),
        "half": torch.randn(4, 2, generator=generator).bfloat16(),
        "scalar": torch.tensor(3),
        "none": torch.zeros(0, 2),
        "kernel": torch.randn(2, 3, 1, 2, generator=generator, dtype=torch.float64),
    }


def sharded(folder: Path) -> dict[str, Tensor]:
    """Two shards and their index, written by safetensors."""
    params = mixed()
    files = {name: ONE if k < 3 else TWO for k, name in enumerate(params)}
    folder.mkdir()
    for file in (ONE, TWO):
        save_file({n: t for n, t in params.items() if files[n] == file}, folder / file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return params


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_shards_of_safetensors_are_read_whole_and_in_rows(tmp_path: Path):
    params = sharded(tmp_path / "model")
    with open_checkpoint(tmp_path / "model") as checkpoint:
        assert_same(dict(checkpoint), params)
        assert torch.equal(checkpoint.rows("w", 1, 3), params["w"][1:3])
        assert torch.equal(checkpoint.rows("kernel", 1, 9), params["kernel"][1:])
        assert checkpoint.files["half"] == ONE
        assert checkpoint.files["kernel"] == TWO
        assert "w" in checkpoint
        assert "v" not in checkpoint
        outline = checkpoint.outline()
    assert {n: (t.shape, t.dtype, t.device.type) for n, t in outline.items()} == {
        n: (t.shape, t.dtype, "meta") for n, t in params.items()
    }


def test_a_single_file_opens_by_its_name_or_its_folder(tmp_path: Path):
    for name in ("model.safetensors", "adapter_model.safetensors"):
        folder = tmp_path / name[:3]
        folder.mkdir()
        save_file(mixed(), folder / name, {"made": "here"})
        for path in (folder, folder / name):
            with open_checkpoint(path) as checkpoint:
                assert_same(dict(checkpoint), mixed())
                assert checkpoint.metadata == {"made": "here"}


@pytest.mark.parametrize("count", [1, 2])
def test_safetensors_reads_what_is_written(tmp_path: Path, count: int):
    params = mixed()
    names = ["model.safetensors"] if count == 1 else [ONE, TWO]
    files = {name: names[k % count] for k, name in enumerate(params)}
    write_checkpoint(tmp_path / "a" / "b", params, files, reversed(params.items()))
    found = {k: v for name in names for k, v in load_file(tmp_path / "a" / "b" / name).items()}
    assert_same(found, params)
    with open_checkpoint(tmp_path / "a" / "b") as checkpoint:
        assert_same(dict(checkpoint), params)
        assert checkpoint.files == files
    assert len(list((tmp_path / "a" / "b").iterdir())) == count + (count > 1)


def test_transformers_loads_what_is_written(tmp_path: Path):
    config = LlamaConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        vocab_size=11, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    params = model.state_dict()
    files = {name: TWO if "layers" in name else ONE for name in params}
    write_checkpoint(tmp_path / "m", params, files, params.items())
    config.save_pretrained(tmp_path / "m")
    loaded = LlamaForCausalLM.from_pretrained(tmp_path / "m").eval()
    tokens = torch.arange(11)[None]
    assert torch.equal(loaded(tokens).logits, model(tokens).logits)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / TWO).unlink(), f"names {TWO}, not in that folder"),
        (lambda f: (f / ONE).write_bytes((f / ONE).read_bytes()[:-1]), "cut short"),
        (lambda f: (f / INDEX).write_text("{}"), "not an index"),
        (lambda f: (f / INDEX).write_text("half a li"), "not an index"),
        (lambda f: edit_index(f, w=TWO), f"{TWO} does not contain w"),
        (lambda f: edit_index(f, ghost=ONE), f"{ONE} does not contain ghost"),
        (lambda f: edit_index(f, w=None), f"does not list w of {ONE}"),
        (lambda f: edit_index(f, w="../" + ONE), "outside its folder"),
        (lambda f: edit_index(f, w="..\\" + ONE), "outside its folder"),
        (lambda f: edit_index(f, w="README.md"), "'README.md', which is not a safetensors file"),
        (lambda f: edit_index(f, w="." + ONE), "not a safetensors file"),
        (lambda f: edit_index(f, w="x" * 5000 + ".safetensors"), "'x{60}'…, which is not a"),
        (lambda f: edit_index(f, **dict.fromkeys(mixed())), "names no tensors"),
    ],
)
def test_a_broken_folder_is_refused(tmp_path: Path, spoil, message: str):
    sharded(tmp_path / "m")
    spoil(tmp_path / "m")
    with pytest.raises(FileError, match=message), open_checkpoint(tmp_path / "m"):
        pass


def edit_index(folder: Path, **changes: str | None):
    index = json.loads((folder / INDEX).read_text())
    entries = index["weight_map"] | changes
    index["weight_map"] = {name: file for name, file in entries.items() if file}
    (folder / INDEX).write_text(json.dumps(index))


def test_pickled_weights_are_refused_with_a_command_that_converts_them(tmp_path: Path):
    torch.save({"w": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(FileError, match="contains only pickled weights"):
        open_checkpoint(tmp_path / "pytorch_model.bin").__enter__()
    with pytest.raises(FileError, match=r"has neither model\.safetensors"):
        open_checkpoint(tmp_path.parent).__enter__()
    with pytest.raises(FileError, match="no such file or folder"):
        open_checkpoint(tmp_path / "nowhere").__enter__()


def pickled_llama(folder: Path, name: str):
    """A model as old versions saved it, in one file or two, beside what training leaves there."""
    config = LlamaConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        vocab_size=11, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    config.save_pretrained(folder)
    state = list(model.state_dict().items())
    if name == "pytorch_model.bin":
        torch.save(dict(state), folder / name)
    else:
        for k, part in enumerate((state[:3], state[3:]), 1):
            torch.save(dict(part), folder / f"pytorch_model-0000{k}-of-00002.bin")
    torch.save({"lr": torch.ones(1)}, folder / "optimizer.pt")
    return model


@pytest.mark.parametrize("name", ["pytorch_model.bin", "in two"])
def test_the_printed_command_makes_a_folder_that_loads(tmp_path: Path, name: str):
    folder = tmp_path / "a folder"
    model = pickled_llama(folder, name)
    with pytest.raises(FileError) as refused:
        open_checkpoint(folder).__enter__()
    command = str(refused.value).partition("if you trust them, convert them: ")[2]
    command = command.replace("python -c", f"{shlex.quote(sys.executable)} -c")
    subprocess.run(command, shell=True, check=True)
    with open_checkpoint(folder) as found:
        assert all(torch.equal(found[n], t) for n, t in model.state_dict().items())
    for file in folder.glob("*.bin"):
        file.unlink()
    tokens = torch.arange(11)[None]
    loaded = LlamaForCausalLM.from_pretrained(folder).eval()
    assert torch.equal(loaded(tokens).logits, model(tokens).logits)


def test_of_a_file_and_an_index_that_is_taken_which_transformers_takes(tmp_path: Path):
    """A stale index beside a newer file, as training without shards leaves it."""
    models = [pickled_llama(tmp_path / str(k), "pytorch_model.bin") for k in range(2)]
    models[0].save_pretrained(tmp_path / "m", max_shard_size="1KB")
    models[1].save_pretrained(tmp_path / "n")
    shutil.copy(tmp_path / "n" / "model.safetensors", tmp_path / "m")
    assert (tmp_path / "m" / INDEX).exists()
    expected = LlamaForCausalLM.from_pretrained(tmp_path / "m").state_dict()
    with open_checkpoint(tmp_path / "m") as found:
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
        assert torch.equal(found["model.embed_tokens.weight"], models[1].model.embed_tokens.weight)


def test_shards_of_any_name_get_an_index(tmp_path: Path):
    params = {"a": torch.ones(2), "b": torch.zeros(3)}
    names = {"a": "first.safetensors", "b": "second.safetensors"}
    write_checkpoint(tmp_path / "m", params, names, params.items())
    with open_checkpoint(tmp_path / "m") as found:
        assert found.files == names


def test_a_file_that_shrinks_while_it_is_read_is_noticed(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(100)}, path)
    with open_checkpoint(path) as checkpoint:
        with path.open("r+b") as file:
            file.truncate(300)
        with pytest.raises(FileError, match="cut short"):
            checkpoint["w"]


def write(folder: Path, tensors: Iterator[tuple[str, Tensor]] | None = None):
    params = mixed()
    files = {name: ONE if k < 3 else TWO for k, name in enumerate(params)}
    write_checkpoint(folder, params, files, params.items() if tensors is None else tensors)


def failing(error: BaseException) -> Iterator[tuple[str, Tensor]]:
    """All tensors of the first shard, then an interruption."""
    yield from list(mixed().items())[:4]
    raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ParamsError("NaN")])
def test_an_interruption_leaves_nothing_behind(tmp_path: Path, error: BaseException):
    with pytest.raises(type(error)):
        write(tmp_path, failing(error))
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_leaves_does_not_look_finished_and_is_replaced(tmp_path: Path):
    writer = ShardWriter(tmp_path / ONE, mixed(), {})
    writer.write("w", mixed()["w"])
    writer._file.close()  # as a kill does
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    with pytest.raises(FileError, match="has neither"):
        open_checkpoint(tmp_path).__enter__()
    write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [ONE, TWO, INDEX]


@pytest.mark.parametrize("place", ["write", "rename"])
def test_a_full_disk_is_an_error_that_leaves_nothing(tmp_path: Path, monkeypatch, place: str):
    def refuse(*_: object):
        raise OSError(errno.ENOSPC, "No space left on device")

    class Full(FileIO):
        write = refuse

    if place == "write":
        monkeypatch.setattr("symport.io._safetensors_shard.FileIO", Full)
    else:
        monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(FileError, match=r"No space left.*bytes are free"):
        write(tmp_path)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_noticed_before_writing(tmp_path: Path):
    outline = {"w": torch.empty(10**9, 10**9, device="meta")}
    with pytest.raises(FileError, match=r"4,000,000,000,000,000,000 bytes are needed"):
        write_checkpoint(tmp_path, outline, {"w": "model.safetensors"}, [])


def test_a_folder_with_something_in_it_is_refused_untouched(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match=r"contains notes.txt; give a new or an empty folder"):
        write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(FileError, match="cannot be made"):
        write(tmp_path / "notes.txt")


def test_tensors_that_are_not_as_outlined_are_refused(tmp_path: Path):
    for given, message in [
        ([("v", torch.ones(1))], "v: not in the outline, or given twice"),
        ([("mask", mixed()["mask"])] * 2, "mask: not in the outline, or given twice"),
        ([("w", torch.ones(3, 5))], r"w: \(3, 5\) of torch.float32, in the outline \(5, 3\)"),
        ([("half", torch.ones(4, 2))], r"half: .* in the outline \(4, 2\) of torch.bfloat16"),
        ([], "half, mask, w, kernel, none and 1 more: in the outline, but not given"),
    ]:
        with pytest.raises(ParamsError, match=message):
            write(tmp_path, iter(given))
    wide = {"w": torch.empty(1, dtype=torch.complex128, device="meta")}
    with pytest.raises(ParamsError, match=r"w: a safetensors file cannot hold torch.complex128"):
        write_checkpoint(tmp_path, wide, {"w": ONE}, [])
    with pytest.raises(ParamsError, match="outline and files differ in w"):
        write_checkpoint(tmp_path, {"w": torch.ones(1)}, {}, [])
    assert list(tmp_path.iterdir()) == []
