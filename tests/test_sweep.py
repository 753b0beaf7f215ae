"""Sweeps are ranked by development prompts alone, the best first, with what each cost."""

import csv
import json

import numpy as np
import pytest

from vlg.analysis import study as studies
from vlg.analysis.tables import sweep
from vlg.data import prompts
from vlg.errors import UserError
from vlg.judge.columns import COLUMNS, NUMBERS

SETTINGS = studies.Settings.parse({"draws": 500, "confidence": 0.95, "seed": 0}, "settings")
GAINS = {"s_gs0_1-5": 0.0, "s_gs0_2-5": 3.0, "normal-5": 1.0}
SUMMARY = {"train_seconds": 7.25, "peak_memory_gb": 1.5, "last_step": {"pictures_per_second": 20}}


def write(folder, truth=True, missing=0):
    """Development prompts, score files and summaries of the models: what the table reads."""
    rows = [
        dict.fromkeys(prompts.COLUMNS, "")
        | {"Prompt": f"prompt {i}", "id": f"d{i:04d}", "set": "development"}
        for i in range(20)
    ]
    prompts.write(folder / "development.tsv", rows)
    rng = np.random.default_rng(0)
    level = rng.normal(50, 5, 20)
    files, summaries = [], []
    for model, gain in GAINS.items():
        files.append(folder / f"{model}.csv")
        with open(files[-1], "w", newline="") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            for row, base in list(zip(rows, level, strict=True))[missing if gain else 0 :]:
                for seed in (0, 1):
                    values = dict.fromkeys(COLUMNS, "x") | {"model": model, "arm": ""}
                    values |= dict.fromkeys(NUMBERS, "") | {"round": 0, "seed": seed}
                    values |= {"id": row["id"], "set": "development"}
                    values |= {"sha256": f"{model}{seed}{row['id']}", "guide": 30}
                    values |= {"clipscore": base + gain + rng.normal(0, 0.5)}
                    values |= {"fidelity": 0.5, "strict": 0} if truth else {}
                    table.writerow(values)
        summary = folder / "training" / model / "summary.json"
        summary.parent.mkdir(parents=True, exist_ok=True)
        summary.write_text(json.dumps(SUMMARY))
        summaries.append(summary)
    return {"prompts": [folder / "development.tsv"], "scores": files, "training": summaries}


def rank(files):
    return sweep.build(studies.read(SETTINGS, **files))


def test_the_best_comes_first_and_the_others_are_compared_with_it(tmp_path):
    table = rank(write(tmp_path))
    frame = table.frame
    assert list(frame["model"]) == ["s_gs0_2-5", "normal-5", "s_gs0_1-5"]
    assert list(frame["variant"]) == ["s_gs0_2", "normal", "s_gs0_1"] and set(frame["step"]) == {5}
    assert frame["delta"].tolist() == pytest.approx([0, -2, -3], abs=0.3)
    assert np.isnan(frame["p"][0]) and (frame["p_corrected"][1:] < 0.05).all()
    inside = (frame["delta_low"] < frame["delta"]) & (frame["delta"] < frame["delta_high"])
    assert inside[1:].all()
    assert set(frame["train_seconds"]) == {7.25} and set(frame["memory_gb"]) == {1.5}
    assert (frame["prompts"] == 20).all() and (frame["seeds"] == 2).all()
    contract = "model prompts seeds clipscore clipscore_low clipscore_high delta delta_low "
    contract += "delta_high fidelity published"
    assert set(contract.split()) <= set(frame)
    text = table.texts("sweep")["md"].replace("\\", "")
    assert "none of them reported" in text and "Fidelity" in text and "s_gs0_2-5" in text


def test_without_ground_truth_its_columns_are_empty(tmp_path):
    table = rank(write(tmp_path, truth=False))
    assert table.frame["fidelity"].isna().all()
    assert "Fidelity, %" not in [column.title for column in table.shown]


def test_models_drawn_on_other_prompts_are_not_ranked(tmp_path):
    with pytest.raises(UserError, match="scores of normal-5: 2 of 40 pictures are missing"):
        rank(write(tmp_path, missing=1))
    files = write(tmp_path)
    del files["training"][-1]
    with pytest.raises(UserError, match="no summary of normal-5"):
        rank(files)
