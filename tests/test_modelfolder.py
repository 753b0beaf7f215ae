"""Model folders get into a study with what loads them and nothing else, whole or not at all."""

import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file

from tests import tiny
from vlg import files
from vlg.errors import UserError
from vlg.models import folders, headers

SAMPLE = Path(__file__).parent / "data/parti_sample.tsv"
WEIGHTS = save({"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)})


def file(header, body=b""):
    """A safetensors file with any header."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + body


PARTS = ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model")
PARTS = tuple(f"{name}.safetensors" for name in PARTS)
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
}


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_whole_file_passes(tmp_path):
    headers.check_safetensors(write(tmp_path / "a", WEIGHTS))
    save_file({"x": torch.zeros(3)}, tmp_path / "b", metadata={"format": "pt"})
    headers.check_safetensors(tmp_path / "b")


@pytest.mark.parametrize("length", [0, 5, 8, 20, len(WEIGHTS) // 2, len(WEIGHTS) - 1])
def test_a_file_cut_short_is_refused(tmp_path, length):
    path = write(tmp_path / "cut.safetensors", WEIGHTS[:length])
    with pytest.raises(UserError, match="cut.safetensors: not a whole safetensors file"):
        headers.check_safetensors(path)


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
        headers.check_safetensors(path)
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
        headers.check_safetensors(path)
    except UserError as error:
        assert "\n" not in str(error)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    for name, data in tiny.hollow(index=INDEX).items():
        write(path / name, WEIGHTS if name in PARTS else data)
    write(path / "tokenizer/merges.txt", b"a b")
    for name in ("unet/diffusion_pytorch_model.bin", "unet/code.py", ".git/config", "README.md"):
        write(path / name, b"not wanted")
    write(path / "manifest.json", b'{"files": {"gone": {}}}')
    return path


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_only_what_loads_a_model_is_taken(source, tmp_path):
    folders.take(source, "base", tmp_path / "out")
    assert names(tmp_path / "out") == {*tiny.SAID, *PARTS, "tokenizer/merges.txt"}


def test_the_safety_checker_is_left_out_and_the_rest_loads_without_it(source, tmp_path):
    write(source / "safety_checker/model.safetensors", WEIGHTS)
    folders.take(source, "base", tmp_path / "out")
    index = json.loads((tmp_path / "out/model_index.json").read_text())
    assert index["safety_checker"] == index["feature_extractor"] == [None, None]
    assert index["unet"] == INDEX["unet"] and index["requires_safety_checker"] is False
    assert not (tmp_path / "out/safety_checker").exists()
    kept = json.loads((source / "model_index.json").read_text())
    assert kept == tiny.SAID["model_index.json"] | INDEX


def test_other_pipelines_are_refused(source, tmp_path):
    index = {**INDEX, "_class_name": "StableCascadeCombinedPipeline"}
    (source / "model_index.json").write_text(json.dumps(index))
    told = r"is a StableCascadeCombinedPipeline; families there are: flux \(.*, sd3 \(.*, sdxl \("
    with pytest.raises(UserError, match=told):
        folders.take(source, "base", tmp_path / "out")


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (["model", "model.fp16", "model.non_ema"], {"model": "model"}),
        (["model.non_ema", "model.fp16", "model.bf16"], {"model.fp16": "model"}),
        (["model-00001-of-00002", "model-00002-of-00002", "model"], {"model": "model"}),
        (["open_clip_model", "model"], {"open_clip_model": "open_clip_model"}),
        (["b", "a"], {"a": "a"}),
        (["model.non_ema"], {}),
        (
            ["model.fp16-00001-of-00002", "model.fp16-00002-of-00002", "model.bf16"],
            dict.fromkeys(["model.fp16-00001-of-00002", "model.fp16-00002-of-00002"]),
        ),
    ],
)
def test_of_several_weights_one_set_is_taken(given, taken):
    found = folders.wanted("guide", [f"{name}.safetensors" for name in given])
    assert found == {f"{a}.safetensors": f"{b or a}.safetensors" for a, b in taken.items()}


def test_of_a_folder_for_two_libraries_each_kind_takes_its_own(tmp_path):
    """As CLIPs lie on the Hub: open_clip's weights and configuration beside transformers'."""
    given = [f"{name}.safetensors" for name in ("open_clip_model", "model")]
    for name, content in tiny.hollow_judge("both/").items():
        write(tmp_path / name, content)
    for name in given:
        write(tmp_path / "both" / name, WEIGHTS)
    write(tmp_path / "both/open_clip_config.json", b'{"model_cfg": {}}')
    for kind, name in zip(("guide", "judge"), given, strict=True):
        assert list(folders.wanted(kind, given)) == [name]
        folders.take(tmp_path / "both", kind, tmp_path / kind)
        assert {name} == {each for each in names(tmp_path / kind) if each in given}
    (tmp_path / "both/model.safetensors").unlink()
    with pytest.raises(UserError, match="has open_clip_model.safetensors and no model.safetens"):
        folders.take(tmp_path / "both", "judge", tmp_path / "out")


def test_shards_stay_together():
    names = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    names.append("model.safetensors.index.json")
    others = ["model.fp16.safetensors", "pytorch_model.bin.index.json"]
    assert set(folders.wanted("judge", [*names, *others])) == set(names)


def test_weights_are_linked_and_links_are_followed(source, tmp_path):
    weights = source / "unet/diffusion_pytorch_model.safetensors"
    blob = weights.rename(tmp_path / "blob")
    weights.symlink_to(blob)
    folders.take(source, "base", tmp_path / "out")
    taken = tmp_path / "out/unet/diffusion_pytorch_model.safetensors"
    assert taken.samefile(blob) and not taken.is_symlink()


def test_folders_of_another_kind_are_refused(source, tmp_path):
    for kind, mark in (("guide", "open_clip_config.json"), ("judge", "config.json")):
        with pytest.raises(UserError, match=rf"models.{kind}: .* has no {mark}"):
            folders.take(source, kind, tmp_path / "out")
    (source / "model_index.json").unlink()
    with pytest.raises(UserError, match="models.base: .* has no model_index.json"):
        folders.take(source, "base", tmp_path / "out")


def test_pickled_weights_are_not_enough(source, tmp_path):
    for name in PARTS:
        kept = (source / name).rename(tmp_path / "kept")
        part = name.partition("/")[0]
        with pytest.raises(UserError, match=f"base: .* has no .*safetensors in {part}; convert"):
            folders.take(source, "base", tmp_path / "out")
        kept.rename(source / name)


def test_cut_weights_are_found_before_anything_is_taken(source, tmp_path):
    path = source / "unet/diffusion_pytorch_model.safetensors"
    path.write_bytes(WEIGHTS[:-2])
    with pytest.raises(UserError, match="diffusion_pytorch_model.safetensors.*get it again"):
        folders.take(source, "base", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_judge_with_the_guides_weights_is_refused(tmp_path):
    guide, judge = tmp_path / "guide", tmp_path / "judge"
    write(guide / "open_clip_model.safetensors", WEIGHTS)
    write(guide / "config.json", b"{}")
    files.write_manifest(guide)
    write(judge / "config.json", b"{}")
    write(judge / "model.safetensors", save({"a": torch.zeros(1)}))
    folders.check_differs(judge, guide)
    write(judge / "model.safetensors", WEIGHTS)
    with pytest.raises(UserError, match="model.safetensors is the guide's open_clip_model.saf"):
        folders.check_differs(judge, guide)


@pytest.fixture
def shipped(tmp_path):
    path = tmp_path / "shipped"
    half, other = torch.linspace(-2, 2, 5).half(), torch.full((5,), 3.0).half()
    for name, tensors in {
        "base/unet": {"w": half, "n": torch.tensor(7)},
        "base/vae": {"w": half},
        "base-early/unet": {"w": other},
        "base-flow/transformer": {"w": other},
        "judge": {"w": half},
    }.items():
        (path / name).mkdir(parents=True)
        save_file(tensors, path / name / "model.safetensors")
    write(path / "base/model_index.json", b"{}")
    write(path / "base/vae/config.json", b"{}")
    write(path / "base/tokenizer/tokenizer.json", b"{}")
    write(path / "base-flow/vae/config.json", b'{"shift_factor": 0.0}')
    files.write_manifest(path)
    return path


def test_shipped_models_become_float32(shipped, tmp_path):
    folders.unpack(shipped, "base", tmp_path / "base")
    tensors = load_file(tmp_path / "base/unet/model.safetensors")
    assert tensors["w"].dtype == torch.float32 and tensors["n"].dtype == torch.int64
    assert torch.equal(tensors["w"], torch.linspace(-2, 2, 5).half().float())
    folders.unpack(shipped, "judge", tmp_path / "judge")
    assert names(tmp_path / "judge") == {"model.safetensors"}


def test_the_early_base_has_the_rest_of_the_base(shipped, tmp_path):
    folders.unpack(shipped, "base-early", tmp_path / "early")
    assert load_file(tmp_path / "early/unet/model.safetensors")["w"][0] == 3
    assert load_file(tmp_path / "early/vae/model.safetensors")["w"][0] == -2
    assert (tmp_path / "early/model_index.json").is_file()


def test_the_flow_base_has_vae_and_words_of_the_base_and_nothing_else(shipped, tmp_path):
    folders.unpack(shipped, "base-flow", tmp_path / "flow")
    assert load_file(tmp_path / "flow/vae/model.safetensors")["w"][0] == -2
    assert files.read_json(tmp_path / "flow/vae/config.json") == {"shift_factor": 0.0}
    assert {name.split("/")[0] for name in names(tmp_path / "flow")} == {
        "tokenizer", "transformer", "vae",
    }  # fmt: skip


def test_a_shipped_file_that_changed_is_refused(shipped, tmp_path):
    data = bytearray((shipped / "base/vae/model.safetensors").read_bytes())
    data[-1] ^= 1
    (shipped / "base/vae/model.safetensors").write_bytes(data)
    with pytest.raises(UserError, match="base/vae/model.safetensors: checksum differs"):
        folders.unpack(shipped, "judge", tmp_path / "judge")
