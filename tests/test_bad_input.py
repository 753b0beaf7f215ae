"""Bad prompts, data, weights and environments, given to the real command lines.

Each ends with one line that names the file and the remedy, writes nothing and runs nothing. The
cases of the config and of prompt files, over a hundred, stand in test_config.py and
test_prompts.py; those here are a sample of every kind, as a user meets them.
"""

import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import test_config, test_prompts, test_stated, tiny
from tests.pipeline import ROOT, Done
from tests.test_pixels import signed
from vlg.data import pictures, prompts, wordless

DATA = {"size": None, "source": "given"}
PROMPTS = {"study": 1, "pool": None, "category": None, "challenge": None, "order": "first"}
INDEX = json.dumps(
    {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
)


def png(size=(8, 8)):
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    return buffer.getvalue()


def grey(level):
    """A TIFF of floating-point numbers."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), level, np.float32)).save(buffer, "TIFF")
    return buffer.getvalue()


def table(path):
    """A parquet file that names a picture."""
    return tiny.table(image=[path], text=["a cat"])


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width, height):
    """A PNG of some hundred bytes that says it has so many pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def text_bomb(name=b"vlg"):
    """A PNG with a text of 100 million letters in some kilobytes."""
    text = chunk(b"zTXt", name + b"\0\0" + zlib.compress(b"a" * 100_000_000, 9))
    return png()[:-12] + text + chunk(b"IEND", b"")


def tensors(header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def tensor(start, stop, shape=None, dtype="U8"):
    return {"dtype": dtype, "shape": shape or [stop - start], "data_offsets": [start, stop]}


WHOLE = tensors({"a": tensor(0, 1)}, b"1")


def model(weights, name="unet/diffusion_pytorch_model.safetensors"):
    parts = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
    parts["text_encoder"] = "model"
    files = {f"{part}/{file}.safetensors": WHOLE for part, file in parts.items()}
    configs = {f"{part}/config.json": "{}" for part in parts}
    return {"model_index.json": INDEX, **configs, **files, name: weights}


def rows(*values):
    return "".join(json.dumps(value) + "\n" for value in values)


CAT = {"file_name": "0.png", "text": "a cat"}
# kind: {case: (files of the folder `given`, what the one line says)}
CASES = {
    "dataset": {
        "no folder": ({}, "given: no captioned pictures"),
        "no captions": ({"0.png": png()}, "given/0.png: no caption"),
        "no JSON": ({"0.png": png(), "metadata.jsonl": "{"}, "metadata.jsonl: line 1 is no JSON"),
        "deep JSON": ({"metadata.jsonl": "[" * 100_000}, "metadata.jsonl: line 1 is no JSON"),
        "not UTF-8": ({"metadata.jsonl": b"\xff\xfe"}, "metadata.jsonl: not UTF-8"),
        "no text": ({"0.png": png(), "metadata.jsonl": rows({"file_name": "0.png"})}, "row 1"),
        "a number": ({"0.png": png(), "metadata.jsonl": rows({**CAT, "text": 3})}, "row 1"),
        "way out": ({"metadata.jsonl": rows({**CAT, "file_name": "../secret.png"})}, "row 1"),
        "from the root": ({"metadata.jsonl": rows({**CAT, "file_name": "/etc/passwd"})}, "row 1"),
        "gone": ({"metadata.jsonl": rows({**CAT, "file_name": "1.png"})}, "row 1"),
        "no picture": ({"0.png": "text", "metadata.jsonl": rows(CAT)}, "no usable picture (1 br"),
        "cut": ({"0.png": png()[:40], "metadata.jsonl": rows(CAT)}, "no usable picture (1 broken"),
        "bomb": ({"0.png": bomb(60_000, 60_000), "metadata.jsonl": rows(CAT)}, "no usable picture"),
        "text bomb": ({"0.png": text_bomb(), "metadata.jsonl": rows(CAT)}, "no usable picture"),
        "huge": ({"0.png": bomb(2**31 - 1, 2**31 - 1), "metadata.jsonl": rows(CAT)}, "no usable"),
        "cut caption": (
            {"0.png": png(), "metadata.csv": "file_name,text\n0.png,a red, round ball\n"},
            "metadata.csv: row 1: 3 cells where the header has 2",
        ),
        "cut caption_0": (
            {"0.png": png(), "metadata.csv": "file_name,caption_0\n0.png,a red, round ball\n"},
            "metadata.csv: row 1: 3 cells where the header has 2",
        ),
        "other column": (
            {"0.png": png(), "metadata.csv": "file_name,prompt\n0.png,a cat\n"},
            "lacks the column text, there are file_name, prompt; name",
        ),
        "semicolons": (
            {"0.png": png(), "metadata.csv": "file_name;text\n0.png;a cat\n"},
            "there are file_name;text; separate cells by commas",
        ),
        "half a letter": (
            {"0.png": png(), "metadata.jsonl": rows({**CAT, "text": "a \ud83d"})},
            "metadata.jsonl: row 1 has half a character in a caption",
        ),
        "Latin-1": ({"0.png": png(), "0.txt": "café".encode("latin-1")}, "0.txt: not UTF-8 text"),
        "UTF-16": ({"0.png": png(), "0.caption": "a cat".encode("utf-16-le")}, "not UTF-8 text"),
        "empty caption": ({"0.png": png(), "0.txt": " \n"}, "0.txt: has no caption"),
        "other split": (
            {"test/0.png": png(), "test/metadata.jsonl": rows(CAT)},
            "dataset.split: no metadata.jsonl of split train, there are test/metadata.jsonl",
        ),
        "no depth": ({"0.tiff": grey(3e9), "0.txt": "a cat"}, "no usable picture (1 of an unknown"),
        "below 0": ({"0.tiff": signed(np.full(64, -9, np.int16)), "0.txt": "a"}, "1 of an unknown"),
        "not seen": ({"0.png": png(), "0.txt": "\u200b\ufeff\n"}, "0.txt: has no caption"),
        "not seen in a list": (
            {"0.png": png(), "metadata.jsonl": rows({**CAT, "text": "\u00ad"})},
            "row 1 lacks file_name or a caption",
        ),
        "twice": (
            {"0.parquet": table("1.png"), "1.png": png(), "1.txt": "a cat"},
            "holds captioned pictures twice, 0.parquet and 1.png with 1.txt; move one",
        ),
        "captions in numbers": (
            {"0.parquet": tiny.table(image=["1.png"], text=[3])},
            "0.parquet: column text holds int64, no text or lists of it; name the columns",
        ),
        "a list in a cell": (
            {"0.png": png(), "metadata.csv": "file_name,text\n0.png,\"['a cat', 'one']\"\n"},
            "metadata.csv: row 1 has a list or an object in a cell of text; write a metadata.jsonl",
        ),
        "a list as text": (
            {"0.parquet": tiny.table(image=[b"x"], text=['["a cat", "one"]'])},
            "0.parquet: row 0, column text: a list or an object as text; write a list, or name",
        ),
        "a key twice": (
            {
                "0.png": png(),
                "metadata.jsonl": '{"file_name": "0.png", "text": "a", "text": "b"}\n',
            },
            "metadata.jsonl: line 1 is no JSON (two keys are named text); mend it",
        ),
        "a long name": ({"metadata.jsonl": rows({**CAT, "file_name": "a" * 5000})}, "row 1: aaa"),
        "a name of two lines": ({"a\nb.png": png(), "a\nb.txt": ""}, "a\\nb.txt: has no caption"),
        "a name of other bytes": (
            {"\udce9.png": png(), "\udce9.txt": ""},
            "\\udce9.txt: has no cap",
        ),
        "captions not fetched": ({"0.png": png(), "0.txt": POINTER}, "0.txt: a pointer of Git LFS"),
        "lists not fetched": (
            {"0.png": png(), "metadata.csv": POINTER},
            "metadata.csv: a pointer of Git LFS and not the file; git lfs pull",
        ),
        "parquet not fetched": ({"0.parquet": POINTER}, "0.parquet: a pointer of Git LFS"),
        "pictures not fetched": (
            {"0.png": POINTER, "0.txt": "a cat"},
            "no usable picture (1 a pointer of Git LFS)",
        ),
        "no kind": ({"0.heic": b"ftypheic", "0.txt": "a cat"}, "no usable picture (1 of an unkn"),
        "path gone": ({"0.parquet": table("1.png")}, "0.parquet: row 0: 1.png is no file beside"),
        "path out": ({"0.parquet": table("../secret.png")}, "../secret.png is no file beside it"),
        "no parquet": ({"train-0.parquet": b"PAR1"}, "train-0.parquet"),
    },
    "model": {
        "empty": ({}, "has no model_index.json"),
        "pickles": (
            {
                "model_index.json": INDEX,
                "unet/config.json": "{}",
                "unet/diffusion_pytorch_model.bin": pickle.dumps(test_stated.Touch()),
            },
            "safetensors",
        ),
        "no index": (model(WHOLE) | {"model_index.json": "{"}, "model_index.json"),
        "another pipeline": (
            model(WHOLE) | {"model_index.json": INDEX.replace("StableD", "D")},
            "families there are: flux (FluxPipeline), qwen_image (",
        ),
        "nothing": (model(b""), "not a whole safetensors file"),
        "cut": (model(tensors({"a": tensor(0, 8)}, b"1234")), "cut short"),
        "long header": (model(tensors({}, length=2**62)), "header longer than the file"),
        "header of 4 GB": (model(tensors({}, b"12", length=2**32)), "header longer than the file"),
        "overlap": (
            model(tensors({"a": tensor(0, 4), "b": tensor(2, 6)}, b"123456")),
            "tensors overlap or leave gaps",
        ),
        "same place": (
            model(tensors({"a": tensor(0, 4), "b": tensor(0, 4)}, b"1234")),
            "tensors overlap or leave gaps",
        ),
        "gap": (model(tensors({"a": tensor(0, 2), "b": tensor(4, 6)}, b"123456")), "leave gaps"),
        "a name twice": (
            model(
                tensors(b'{"a": %s, "a": %s}' % ((json.dumps(tensor(0, 1)).encode(),) * 2), b"1")
            ),
            "a name occurs twice",
        ),
        "shape": (model(tensors({"a": tensor(0, 4, [2, 2], "F32")}, b"1234")), "as its shape"),
        "endless shape": (
            model(tensors({"a": tensor(0, 4, [2**60, 2**60], "F32")}, b"1234")),
            "as its shape",
        ),
        "behind the file": (model(tensors({"a": tensor(0, 2**62)}, b"1234")), "cut short"),
        "a list": (model(tensors([1, 2])), "not a whole safetensors file"),
        "inpainting": (tiny.hollow(unet={"in_channels": 9}), "unet/config.json: in_channels is 9"),
        "flow matching": (
            tiny.hollow(scheduler={"_class_name": "Flow", "use_flow_sigmas": True}),
            "scheduler/scheduler_config.json: Flow is no noise schedule with betas",
        ),
        "a LoRA": (
            {"pytorch_lora_weights.safetensors": tiny.file_of("unet.to_q.lora_A.weight")},
            "has no model_index.json: this is a LoRA",
        ),
        "not fetched": (
            model(WHOLE) | {"unet/config.json": POINTER},
            "unet/config.json: a pointer of Git LFS and not the file; git lfs pull",
        ),
        "a GGUF file": ({"sd-Q4_0.gguf": b"GGUF"}, "has no model_index.json: this is a GGUF file"),
        "another tokenizer": (
            tiny.hollow() | {"tokenizer/tokenizer.json": '{"model": {"vocab": {"a": 50000}}}'},
            "tokenizer/tokenizer.json: has the id 50000 and the text model 49408 tokens",
        ),
    },
    "prompts": {
        "no header": ({"p.tsv": "a cat\tAnimals\n"}, "p.tsv: has no column Prompt"),
        "empty prompt": ({"p.tsv": "Prompt\tNote\na\tb\n\tc\n"}, "line 3: the prompt is empty"),
        "not fetched": ({"p.txt": POINTER}, "p.txt: a pointer of Git LFS and not the file; git lf"),
        "lines of JSON": ({"p.txt": '{"prompt": "a cat"}\n'}, "p.txt: is JSON; write one prompt a"),
        "some lines of JSON": ({"p.txt": 'a\n["a", "b"]\n'}, "line 2: the prompt is a list or an"),
        "RTF": ({"p.txt": "{\\rtf1\\ansi a cat}"}, "p.txt: is RTF; save it as plain text"),
        "a web page": ({"p.txt": "\n<!DOCTYPE html>\n<p>a cat"}, "p.txt: is a web page; save it"),
        "a header": ({"p.txt": "Prompt\na cat\n"}, "p.txt: line 1 looks like a header; delete"),
        "not seen": ({"p.txt": "a\n\u200b\u2060\n"}, "line 2: the prompt is empty, what it holds"),
        "twice to a tokenizer": (
            {"p.txt": "a cafe\u0301\na caf\xe9\n"},
            "p.txt: lines 1 and 2 have the same prompt",
        ),
        "twice": ({"p.txt": "a cat\na cat\n"}, "p.txt: lines 1 and 2 have the same prompt"),
        "cells": ({"p.csv": "Prompt,Note\na, b, c\n"}, "line 2: 3 cells where the header has 2"),
        "quote": ({"p.csv": 'Prompt\n"a cat\n'}, "p.csv: line"),
        "NUL": ({"p.txt": "a\0cat\n"}, "p.txt: line 1: has a NUL inside a cell"),
        "escape": ({"p.txt": "\x1b[2J a cat\n"}, "p.txt: line 1: has the control character"),
        "line break": ({"p.csv": 'Prompt\n"a\ncat"\n'}, "has a line break inside a cell"),
        "not UTF-8": ({"p.txt": b"caf\xe9\n"}, "p.txt: line 1: not UTF-8 text"),
        "nothing": ({"p.txt": ""}, "p.txt: has no prompts"),
        "of another kind": ({"p.xlsx": b"PK\x03\x04"}, "p.xlsx: not a .tsv, .csv or .txt file"),
    },
}
ENVIRONMENTS = 8  # the tests of the last part of this file
SETTINGS = {"dataset": DATA, "model": {"kind": "base", "source": "given"}, "prompts": PROMPTS}


def run(folder, script, *words):
    line = [sys.executable, ROOT / f"scripts/{script}.py", *words]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True)
    return Done(done.returncode, done.stdout + done.stderr)


def write(root, files):
    (root / "given").mkdir(exist_ok=True)
    for name, content in files.items():
        path = root / "given" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_there_are_as_many_cases_as_the_documentation_says():
    """With those of the config and of prompt files, which have tables of their own."""
    own = [*map(len, CASES.values()), ENVIRONMENTS]
    others = (test_config.INVALID, test_prompts.INVALID, test_stated.BASES, test_stated.JUDGES)
    others += (test_stated.FILES, test_stated.OTHERS)
    number = sum(own) + sum(map(len, others))
    told = re.search(r"More than (\d+) invalid inputs", (ROOT / "docs/robustness.md").read_text())
    assert int(told[1]) < number < int(told[1]) + 50


@pytest.mark.parametrize("script", CASES)
def test_bad_input_ends_in_one_line(tmp_path, script):
    """One test a kind: each case is a process of its own."""
    for case, (files, told) in CASES[script].items():
        folder = tmp_path / case.replace(" ", "-")
        folder.mkdir()
        (folder / "secret.png").write_bytes(png())
        write(folder, files)
        before = set(folder.rglob("*"))
        source = f"given/{next(iter(files))}" if script == "prompts" else "given"
        settings = json.dumps(SETTINGS[script])
        words = ("--settings", settings, "--source", source, "--out", "results/out")
        done = run(folder, script, *words)
        assert done.code != 0 and told in done.output, (case, done.output)
        done.refused(told)
        made = set(folder.rglob("*")) - before
        assert {path.relative_to(folder).as_posix() for path in made} <= {"results"}, (case, made)


@pytest.mark.parametrize("data", [bomb(60_000, 60_000), text_bomb(), text_bomb(b"other")])
def test_a_picture_that_swells_is_refused_wherever_it_is_read(tmp_path, data):
    path = tmp_path / "0.png"
    path.write_bytes(data)
    assert pictures.kept(path, "key") is None
    with pytest.raises(pictures.UserError, match="0.png: not a whole picture"):
        pictures.load(path)


@pytest.mark.parametrize(
    "text", ["[photo] a cat", "{a|b}", "[1]", "[]", "{0}", "[", '"a"', "{'a'", "[a, b]", "[" * 9999]
)
def test_words_in_brackets_are_words(text):
    assert not wordless.is_data(text)


@pytest.mark.parametrize(
    "text", ["", " \t", "\u200b\u200d", "\ufeff", "\u00ad\ufe0f", "\u3164\u2800"]
)
def test_what_shows_nothing_is_blank(text):
    assert wordless.is_blank(text)
    assert not wordless.is_blank(text + "a") and not wordless.is_blank(text + "\u0301")


# --- prompts that are meant badly ---------------------------------------------------------------

AWKWARD = [
    "\"quoted\" and 'quoted' and `quoted`",
    "$(touch executed); touch executed && `touch executed` | touch executed #",
    "../../../etc/passwd",
    "/etc/passwd",
    "..\\..\\windows",
    "C:\\prompt.png",
    "{prompt} {wildcards.model} {{params}} %s %(name)s {0}",
    "</script><script>document.title = 'executed'</script>",
    "![x](javascript:alert(1)) | a | b |",
    "\\input{/etc/passwd} \\write18{touch executed} $\\frac{1}{0}$ & _ ^ ~",
    "=cmd|' /C calc'!A0",
    "👩‍🚀 un été à 模型 \u202egnp.exe \u2028 \u200b",
    "NUL",
    "-rf --help",
    "a" * 10_000,
    "null",
    "NaN",
]


def test_awkward_prompts_reach_pictures_pages_and_tables_as_they_are(tmp_path):
    """From the prompt file through PNG and metadata to the gallery's page."""
    from vlg.report import gallery

    write(tmp_path, {"p.txt": "\n".join(AWKWARD)})
    settings = json.dumps({**PROMPTS, "study": len(AWKWARD)})
    words = ("--settings", settings, "--source", "given/p.txt", "--out", "results/prompts.tsv")
    done = run(tmp_path, "prompts", *words)
    assert done.code == 0, done.output
    read = [row["Prompt"] for row in prompts.read_table(tmp_path / "results/prompts.tsv")]
    assert read == AWKWARD

    folder = tmp_path / "results/images"
    drawn = [
        {"file_name": f"0-p{i:04}.png", "prompt": text, "key": str(i)}
        for i, text in enumerate(AWKWARD)
    ]
    for row in drawn:
        pictures.save(folder / row["file_name"], np.zeros((8, 8, 3), np.uint8), row)
        assert pictures.kept(folder / row["file_name"], row["key"]) == row
    pictures.write_metadata(folder, drawn)
    assert [row["prompt"] for row in pictures.read_metadata(folder)] == AWKWARD

    data = {"study": "s", "noise": "", "reference": "base"}
    page = gallery.page({**data, "prompts": [{"text": text} for text in AWKWARD]})
    assert "<script>document.title" not in page
    assert page.count("</script>") == gallery.page(data).count("</script>")
    made = {p.relative_to(tmp_path).parts[0] for p in tmp_path.rglob("*")}
    assert made == {"given", "results"}, "nothing was executed"


# --- environments -------------------------------------------------------------------------------


@pytest.mark.parametrize("variables", [{}, {"XDG_CACHE_HOME": "/dev/null/there"}])
def test_no_folder_for_caches_is_one_line(tmp_path, variables):
    """Snakemake ends in a traceback where it can make none, before it reads the Snakefile."""
    for name in ("Makefile", "requirements.lock", ".venv/requirements.lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / Path(name).name).read_bytes())
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\n[ "$2" = snakemake ] || exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    usable = {"XDG_CACHE_HOME": str(tmp_path / "cache")}

    def make(**more):
        given = {k: v for k, v in os.environ.items() if k != "XDG_CACHE_HOME"}
        environment = {**given, "HOME": "/dev/null/home", **more}
        line = ["make", "tables"]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)

    done = make(**variables)
    place = variables.get("XDG_CACHE_HOME", "/dev/null/home/.cache")
    lines = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    assert done.returncode and len(lines) == 1 and lines[0].startswith(f"error: {place}: no cache")
    assert 'XDG_CACHE_HOME="$PWD/.cache" make' in lines[0]
    assert make(**usable).returncode == 0


def test_a_cache_of_the_hub_that_cannot_be_made_is_one_line(tmp_path):
    from tests.hub_server import Hub

    (tmp_path / "model").mkdir()
    (tmp_path / "model/model_index.json").write_text(INDEX)
    words = ("--settings", '{"source": "hub:a/b"}', "--out", "out")
    with Hub() as server:
        server.add("model", "a/b", tmp_path / "model")
        own = {"HF_ENDPOINT": server.url, "NO_PROXY": "127.0.0.1", "HF_HOME": "/dev/null/hub"}
        line = [sys.executable, ROOT / "scripts/fetch.py", *words]
        environment = {**os.environ, **own, "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    Done(done.returncode, done.stderr).refused("/dev/null/hub/hub: the Hub's cache", "HF_HOME")


def test_an_overlay_that_is_not_there_is_one_line():
    line = ["make", "--dry-run", "study", "CONFIG=no such.yaml"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode and "snakemake" not in done.stdout
    assert done.stderr.endswith("CONFIG: no file no such.yaml; check the path.  Stop.\n")


def test_a_package_that_is_missing_is_one_line(tmp_path):
    """-S: without site-packages, as in an environment that is not the study's."""
    write(tmp_path, {"0.png": png(), "metadata.jsonl": rows(CAT)})
    line = [sys.executable, "-S", ROOT / "scripts/dataset.py", "--source", "given", "--out", "out"]
    settings = ["--settings", json.dumps({"size": None, "source": "given"})]
    done = subprocess.run([*line, *settings], cwd=tmp_path, capture_output=True, text=True)
    Done(done.returncode, done.stderr).refused("not installed", "make study")


@pytest.mark.parametrize("blocked", ["results", "results/log"])
def test_a_file_where_a_folder_belongs_is_one_line(tmp_path, blocked):
    write(tmp_path, {"p.txt": "a cat"})
    (tmp_path / blocked).parent.mkdir(exist_ok=True)
    (tmp_path / blocked).write_text("a file")
    words = ("--settings", json.dumps(PROMPTS), "--source", "given/p.txt")
    done = run(tmp_path, "prompts", *words, "--out", f"{blocked}/p.tsv", "--log", f"{blocked}/l")
    done.refused(blocked, "and rerun")
    assert Path(tmp_path / blocked).read_text() == "a file"
