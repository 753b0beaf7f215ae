"""The page of findings is made of tables alone."""

import csv
import json

import pytest

from tools import results
from vlg.errors import UserError

KEYS = ("statement", "verdict", "effect", "effect_low", "effect_high", "measure", "published")


def study(folder, claims, seeds=0):
    (folder / "tables").mkdir(parents=True)
    (folder / "provenance.json").write_text(json.dumps({"config": {"seeds": {"train": seeds}}}))
    with open(folder / "tables/claims.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([KEYS, *claims])
    return folder


def test_claims_stand_under_their_verdicts_with_what_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FAMILIES", tmp_path / "none")
    claims = [
        ("a gains", "supported", "1.25", "0.5", "2", "ClipScore", "0.1543"),
        ("b gains", "unresolved", "-0.015", "", "", "fidelity, %", ""),
        ("c gains", "unresolved", "", "", "", "", "0.2"),
    ]
    page = results.render([study(tmp_path / "mine", claims, [0, 1, 2])])
    said = [line for line in page.splitlines() if line.startswith(("**", "- "))]
    assert said == [
        "**Supported**",
        "- a gains: +1.25 [0.50, 2.00] ClipScore; published +0.15",
        "**Unresolved**",
        "- b gains: -0.01 fidelity, %",
    ]
    assert "3 trainings of each variant." in page


def test_a_study_without_claims_is_told(tmp_path):
    folder = study(tmp_path / "mine", [])
    (folder / "tables/claims.csv").unlink()
    with pytest.raises(UserError, match="claims.csv: not found; run that study first"):
        results.render([folder])
