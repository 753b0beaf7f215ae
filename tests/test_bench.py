"""What measures at Stable Diffusion's size runs, at a tiny one, through the code it measures."""

import csv
import io
import math
import runpy
import sys
import time
from argparse import Namespace
from contextlib import redirect_stdout
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "bench"))

import flow_families  # noqa: E402
import flux  # noqa: E402
import full_size  # noqa: E402
import gpu  # noqa: E402
import sd15  # noqa: E402
import sd35  # noqa: E402
import sdxl  # noqa: E402

from vlg import plugins  # noqa: E402


def test_the_full_size_is_that_of_the_published_models():
    import torch

    parts = {"unet": sd15.unet, "vae": sd15.vae, "text": sd15.text_encoder, "judge": sd15.judge,
             "guide": sd15.guide}  # fmt: skip
    with torch.device("meta"):  # no memory
        found = {
            name: sum(p.numel() for p in make("full").parameters()) for name, make in parts.items()
        }
        other = {name: sum(p.numel() for p in parts[name]("sd21").parameters()) for name in found}
    assert found == sd15.PARAMETERS
    assert other == sd15.SD21


def test_stable_diffusion_xl_is_counted_at_its_published_size():
    assert sdxl.parameters() == sdxl.PARAMETERS


def test_stable_diffusion_3_5_is_counted_at_its_published_size():
    assert sd35.parameters() == sd35.PARAMETERS


def test_flux_is_counted_at_its_published_size():
    import torch

    assert flux.parameters() == flux.PARAMETERS
    with torch.device("meta"):
        assert sum(p.numel() for p in flux.transformer(False).parameters()) == flux.SCHNELL


@pytest.mark.parametrize("name", flow_families.NAMES)
def test_newer_transformers_are_counted_at_their_published_size(name):
    assert flow_families.parameters(name) == flow_families.PARAMETERS[name]


def test_flops_are_those_of_the_modules():
    work = sd15.flops("full")
    # The figures that docs/benchmarks.md reckons with.
    assert work["unet"] == pytest.approx(0.803e12, rel=0.01)
    assert work["unet step"] == pytest.approx(3 * work["unet"], rel=0.01)
    assert work["vae decode"] == pytest.approx(2.51e12, rel=0.01)
    assert work["clip term"] == pytest.approx(2 * work["vae decode"], rel=0.03)


@pytest.mark.slow
def test_what_a_sample_of_xl_takes_is_what_its_page_says():
    work = {part: sum(both) / 1e12 for part, both in sdxl.flops().items()}
    assert work["UNet, LoRA of rank 16"] == pytest.approx(14.2, abs=0.05)
    assert work["VAE encoder"] == pytest.approx(4.88, abs=0.005)
    assert work["VAE decoder, to the latents"] == pytest.approx(21.5, abs=0.05)


def test_tokens_are_those_of_clip():
    tokens = sd15.tokenizer()
    assert tokens("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]


@pytest.mark.parametrize("family", full_size.FAMILIES)
def test_every_stage_of_full_size_runs(family, tmp_path, monkeypatch, capsys):
    ran = []

    def run(command):  # in this process: importing everything nine times would take a minute
        ran.append(Path(command[0]).name)
        monkeypatch.setattr(sys, "argv", [str(word) for word in command])
        output = io.StringIO()
        with redirect_stdout(output):
            runpy.run_path(str(command[0]), run_name="__main__")
        return output.getvalue(), 1.0, 2.0

    monkeypatch.setattr(full_size, "run", run)
    large = family in full_size.FEW
    args = Namespace(family=family, size="tiny", device="cpu", threads=1, steps=2, only=None,
                     precision="bf16" if large else "fp32", folder=tmp_path)  # fmt: skip
    full_size.print_table(args)
    lines = capsys.readouterr().out.splitlines()
    names = [line.split(" | ")[0].strip("| ") for line in lines]
    assert names == ["stage", "---|---|---:|---:|---:", "build", *full_size.stages(tmp_path, args)]
    assert len(ran) == 8 - large
    for line in lines[5:7]:
        times = line.split(" | ")[3].split(" + ")
        assert len(times) == 2 and all(float(each) >= 0 for each in times), line
    with open(tmp_path / "scores.csv") as file:
        (row,) = csv.DictReader(file)
    assert math.isfinite(float(row["clipscore"])) and math.isfinite(float(row["guide"]))
    refined = list(tmp_path.glob("refined/*.png"))
    assert [path.name for path in refined] == ["0-p0000.png"] * (not large)


def test_a_stage_that_does_not_fit_says_what_it_wants(tmp_path, monkeypatch, capsys):
    def run(command):
        if command[0] == "-c":
            return "False", 1.0, 2.0
        return f"ran {Path(command[0]).name} {command[-1]}", 1.0, 2.0

    monkeypatch.setattr(full_size, "run", run)
    monkeypatch.setattr(full_size, "available", lambda: 15.0)
    args = Namespace(family="sd35", size="full", device="cpu", threads=1, steps=1, only=None,
                     precision=None, folder=tmp_path)  # fmt: skip
    full_size.print_table(args)
    out = capsys.readouterr().out
    rows = {line.split(" | ")[0]: line for line in out.splitlines() if line.startswith("| ")}
    assert "wants 18 GB, 15 are free" in rows["| generate"] and "| score" not in rows
    assert "wants" not in rows["| normal"] and "ran sd35.py" in out


def test_models_that_are_too_large_to_be_written_are_counted(tmp_path, monkeypatch, capsys):
    ran = []

    def run(command):
        ran.append(Path(command[0]).name)
        return "False" if command[0] == "-c" else f"counted by {ran[-1]}", 1.0, 2.0

    monkeypatch.setattr(full_size, "run", run)
    monkeypatch.setattr(full_size, "available", lambda: 24.0)
    args = Namespace(family="flux", size="full", device="cpu", threads=1, steps=1, only=None,
                     precision=None, folder=tmp_path)  # fmt: skip
    full_size.print_table(args)
    out = capsys.readouterr().out
    assert "| build | random weights: want 36 GB of memory and disk, 24 are free; no stage" in out
    assert ran == ["flux.py"] and "counted by flux.py" in out


def test_a_stage_is_measured_and_its_failure_told():
    made = "x = bytearray(300_000_000); x[::4096] = x[::4096]; print('done')"
    output, seconds, peak = full_size.run(["-c", made])
    assert output == "done\n" and seconds > 0 and peak > 0.28
    with pytest.raises(SystemExit, match="wrong"):
        full_size.run(["-c", "raise ValueError('wrong')"])


def bench(tmp_path, seconds=600.0):
    return gpu.Bench("tiny", "cpu", "bf16", time.monotonic() + seconds, 0.0, tmp_path)


WAYS = [plugins.names(plugins.METHODS), plugins.names(plugins.ARMS)]


@pytest.mark.parametrize(
    ("methods", "arms"),
    [pytest.param(["raft"], ["refine"]), pytest.param(*WAYS, marks=pytest.mark.slow)],
    ids=["one", "all"],
)
def test_every_section_of_the_gpu_table_is_measured(methods, arms, tmp_path, capsys):
    measured = bench(tmp_path)
    gpu.measure(measured, 1, [*methods, *arms])
    out = capsys.readouterr().out
    assert measured.failed == []
    for row in ("ceiling: bf16", "ceiling: copy", "normal training, batch 4",
                "embed training, checkpointing, batch 4", "drawing, 3 steps, batch 2",
                "naive drawing, fp32", "naive training, fp32, batch 4", "scoring from PNG files",
                "scoring, the judge alone", *(f"{name} training" for name in methods),
                *(f"arm {name}, a round of" for name in arms)):  # fmt: skip
        assert f"| {row}" in out, row
    assert "not measured" not in out and set(gpu.GOALS) <= measured.found.keys()
    assert all(value > 0 for value in measured.found.values())


def test_what_fails_or_has_no_time_is_a_row(tmp_path, capsys):
    late = bench(tmp_path, seconds=5)
    with late.section("long", 10) as enough:
        assert not enough
    with late.section("broken", 0) as enough:
        assert enough
        raise RuntimeError("no\nGPU")
    assert late.failed == ["broken"]
    assert capsys.readouterr().out.splitlines() == [
        "| long | skipped, out of time |  |  |", "| broken | failed: no GPU |  |  |",
    ]  # fmt: skip
