"""Model folders get into a study with what loads them and nothing else, whole or not at all."""

import json
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file

from vlg import files, modelfolder
from vlg.errors import UserError

WEIGHTS = save({"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)})


def file(header, body=b""):
    """A safetensors file with any header."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + body


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_whole_file_passes(tmp_path):
    modelfolder.check_safetensors(write(tmp_path / "a", WEIGHTS))
    save_file({"x": torch.zeros(3)}, tmp_path / "b", metadata={"format": "pt"})
    modelfolder.check_safetensors(tmp_path / "b")


@pytest.mark.parametrize("length", [0, 5, 8, 20, len(WEIGHTS) // 2, len(WEIGHTS) - 1])
def test_a_file_cut_short_is_refused(tmp_path, length):
    path = write(tmp_path / "cut.safetensors", WEIGHTS[:length])
    with pytest.raises(UserError, match="cut.safetensors: not a whole safetensors file"):
        modelfolder.check_safetensors(path)


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**64 - 1),
        file(b"not JSON"),
        file(b"\xff\xff"),
        file([]),
        file("text"),
        file(None),
        file(b"[" * 200_000),
        file({"a": 1}),
        file({"a": {}}),
        file({"a": {"data_offsets": [0]}}),
        file({"a": {"data_offsets": ["0", "4"]}}, b"1234"),
        file({"a": {"data_offsets": [-8, 4]}}, b"1234"),
        file({"a": {"data_offsets": [4, 0]}, "b": {"data_offsets": [0, 4]}}, b"1234"),
        file({"a": {"data_offsets": [0, 4]}}, b"12345"),
        file({"a": {"data_offsets": [0, 1e400]}}, b"1234"),
    ],
    ids=range(16),
)
def test_a_hostile_header_is_refused_in_one_line(tmp_path, data):
    path = write(tmp_path / "x.safetensors", data)
    with pytest.raises(UserError, match="x.safetensors") as error:
        modelfolder.check_safetensors(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300 + len(str(path))


@settings(max_examples=150, deadline=None)
@given(
    header=st.one_of(
        st.binary(max_size=40),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["a", "__metadata__", "data_offsets", "shape"]),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=8,
        ),
    ),
    body=st.binary(max_size=20),
)
def test_any_bytes_pass_or_are_refused(tmp_path_factory, header, body):
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    path.write_bytes(file(header, body))
    try:
        modelfolder.check_safetensors(path)
    except UserError as error:
        assert "\n" not in str(error)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    write(path / "model_index.json", b"{}")
    write(path / "unet/diffusion_pytorch_model.safetensors", WEIGHTS)
    write(path / "unet/config.json", b"{}")
    write(path / "tokenizer/merges.txt", b"a b")
    for name in ("unet/diffusion_pytorch_model.bin", "unet/code.py", ".git/config", "README.md"):
        write(path / name, b"not wanted")
    write(path / "manifest.json", b'{"files": {"gone": {}}}')
    return path


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_only_what_loads_a_model_is_taken(source, tmp_path):
    modelfolder.take(source, "base", tmp_path / "out")
    assert names(tmp_path / "out") == {
        "model_index.json",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/config.json",
        "tokenizer/merges.txt",
    }


def test_weights_are_linked_and_links_are_followed(source, tmp_path):
    weights = source / "unet/diffusion_pytorch_model.safetensors"
    blob = weights.rename(tmp_path / "blob")
    weights.symlink_to(blob)
    modelfolder.take(source, "base", tmp_path / "out")
    taken = tmp_path / "out/unet/diffusion_pytorch_model.safetensors"
    assert taken.samefile(blob) and not taken.is_symlink()


def test_folders_of_another_kind_are_refused(source, tmp_path):
    for kind, mark in (("guide", "open_clip_config.json"), ("judge", "config.json")):
        with pytest.raises(UserError, match=rf"models.{kind}: .* has no {mark}"):
            modelfolder.take(source, kind, tmp_path / "out")
    (source / "model_index.json").unlink()
    with pytest.raises(UserError, match="models.base: .* has no model_index.json"):
        modelfolder.take(source, "base", tmp_path / "out")


def test_pickled_weights_are_not_enough(source, tmp_path):
    (source / "unet/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UserError, match="models.base: .* has no .*safetensors; convert"):
        modelfolder.take(source, "base", tmp_path / "out")


def test_cut_weights_are_found_before_anything_is_taken(source, tmp_path):
    path = source / "unet/diffusion_pytorch_model.safetensors"
    path.write_bytes(WEIGHTS[:-2])
    with pytest.raises(UserError, match="diffusion_pytorch_model.safetensors.*get it again"):
        modelfolder.take(source, "base", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def shipped(tmp_path):
    path = tmp_path / "shipped"
    half, other = torch.linspace(-2, 2, 5).half(), torch.full((5,), 3.0).half()
    for name, tensors in {
        "base/unet": {"w": half, "n": torch.tensor(7)},
        "base/vae": {"w": half},
        "base-early/unet": {"w": other},
        "judge": {"w": half},
    }.items():
        (path / name).mkdir(parents=True)
        save_file(tensors, path / name / "model.safetensors")
    write(path / "base/model_index.json", b"{}")
    files.write_manifest(path)
    return path


def test_shipped_models_become_float32(shipped, tmp_path):
    modelfolder.unpack(shipped, "base", tmp_path / "base")
    tensors = load_file(tmp_path / "base/unet/model.safetensors")
    assert tensors["w"].dtype == torch.float32 and tensors["n"].dtype == torch.int64
    assert torch.equal(tensors["w"], torch.linspace(-2, 2, 5).half().float())
    modelfolder.unpack(shipped, "judge", tmp_path / "judge")
    assert names(tmp_path / "judge") == {"model.safetensors"}


def test_the_early_base_has_the_rest_of_the_base(shipped, tmp_path):
    modelfolder.unpack(shipped, "base-early", tmp_path / "early")
    assert load_file(tmp_path / "early/unet/model.safetensors")["w"][0] == 3
    assert load_file(tmp_path / "early/vae/model.safetensors")["w"][0] == -2
    assert (tmp_path / "early/model_index.json").is_file()


def test_a_shipped_file_that_changed_is_refused(shipped, tmp_path):
    data = bytearray((shipped / "base/vae/model.safetensors").read_bytes())
    data[-1] ^= 1
    (shipped / "base/vae/model.safetensors").write_bytes(data)
    with pytest.raises(UserError, match="base/vae/model.safetensors: checksum differs"):
        modelfolder.unpack(shipped, "judge", tmp_path / "judge")
