"""A run on one screen: a line a stage, what it found, the time left, one line a failure."""

import importlib.util
import io
import logging
from pathlib import Path

import pytest

from tests.pipeline import ROOT, Checkout
from vlg.workflow import screen


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def shown(monkeypatch, tmp_path):
    """A function that shows events and returns what was written; `terminal` for a real one."""
    monkeypatch.chdir(tmp_path)

    def shown(*events, terminal=False):
        stream = Terminal() if terminal else io.StringIO()
        monkeypatch.setattr(screen.Screen, "stream", stream)
        one = screen.Screen()
        for event, values in events:
            level = logging.ERROR if event.endswith("error") else logging.INFO
            words = {"msg": "", "levelno": level, **values}
            if event != "words":
                words["event"] = event
            one.show(logging.makeLogRecord(words))
        one.close()
        return stream.getvalue()

    return shown


def job(number, rule, text="", **wildcards):
    """The events of a job that starts and ends, and has this log."""
    log = f"{rule}-{number}.log"
    with open(log, "w") as file:
        file.write(text)
    info = {"jobid": number, "rule_name": rule, "log": [log], "wildcards": wildcards}
    return ("job_info", info), ("job_finished", {"job_id": number})


def failure(number, rule, text):
    start, _ = job(number, rule, text)
    return start, ("job_error", {**start[1], "msg": None})


STATS = ("run_info", {"stats": {"score": 2, "prompts": 1, "all": 1, "total": 4}})


def test_a_stage_is_a_line_when_its_last_job_has_ended(shown):
    first = job(1, "score", "2026-01-01 10:00:00,000 found: ClipScore base 64.2\n", model="base")
    second = job(2, "score", "2026-01-01 10:00:00,000 found: ClipScore normal-5 67.0\n")
    text = shown(STATS, *job(3, "prompts"), *first)
    assert "4 jobs" in text and "prompts" in text and "score" not in text
    text = shown(STATS, *job(3, "prompts"), *first, *second)
    assert "ClipScore base 64.2; normal-5 67.0\n" in text
    assert "\r" not in text and "\033" not in text


def test_a_target_is_no_stage(shown):
    info = {"jobid": 1, "rule_name": "all", "log": [], "wildcards": None}
    assert "all" not in shown(STATS, ("job_info", info), ("job_finished", {"job_id": 1}))


def test_a_mistake_is_its_line_and_the_log(shown):
    text = (
        "2026-01-01 10:00:00,000 reading\n2026-01-01 10:00:00,000 error: a.png: broken; mend it\n"
    )
    command = 'RuleException:\nCalledProcessError in file "a.smk", line 31:\nCommand \'set -euo'
    events = (("error", {"msg": command}), *failure(1, "dataset", text))
    again = ("error", {"msg": "WorkflowError: at least one job did not complete"})
    said = shown(STATS, *events, *events, again, ("words", {"msg": "Exiting", "levelno": 40}))
    assert said.count("error: a.png: broken; mend it\n") == 1
    assert "dataset-1.log" in said and "reading" not in said
    assert all(word not in said for word in ("WorkflowError", "Exiting", "CalledProcess", "set -e"))


def test_a_defect_shows_the_end_of_its_log(shown):
    said = shown(STATS, *failure(1, "dataset", "Traceback\n  line 1\nValueError: x\n"))
    assert "ValueError: x" in said


def test_an_error_before_any_job_is_shown(shown):
    assert "no rule" in shown(("error", {"msg": "MissingRuleException: no rule"}))


@pytest.mark.parametrize("columns", [80, 200])
def test_a_terminal_has_one_line_that_changes_and_fits(shown, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    start, end = job(1, "score", "x found: " + "long " * 100 + "\n", model="base", stage="final")
    text = shown(STATS, start, *job(3, "prompts"), end, *job(2, "score"), terminal=True)
    rows = [part for line in text.split("\n") for part in line.split("\r\033[K")]
    assert max(map(len, rows)) == columns - 1
    assert any(row.startswith("1 of 4") and "score base final" in row for row in rows)
    assert text.endswith("\r\033[K")


def test_the_time_left_is_that_of_the_rules(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    now = 0.0
    monkeypatch.setattr(screen.time, "monotonic", lambda: now)
    one = screen.Screen()
    one._run_info({"stats": {"slow": 3, "fast": 10}})
    assert one.time_left() is None
    for number, (rule, seconds) in enumerate([("slow", 100), ("fast", 1)]):
        start, end = job(number, rule)
        one._job_info(start[1])
        now += seconds
        one._job_finished(end[1])
    assert one.time_left() == pytest.approx(2 * 100 + 9 * 1)
    now /= 2  # two jobs side by side
    assert one.time_left() == pytest.approx((2 * 100 + 9 * 1) / 2)


def test_snakemake_finds_it(tmp_path):
    tree = Checkout(tmp_path / "copy")
    path = str(tree.root / "scripts")
    words = ["--cores", "1", "--configfile", "tests/reduced.yaml"]
    run = ["python", "-m", "snakemake", "results/reduced/prompts.tsv", "--logger", "vlg", *words]
    done = tree.run(*run, PYTHONPATH=path)
    assert done.code == 0, done.output
    lines = done.output.splitlines()
    assert len(lines) < 6 and any("10 of 10 prompts" in line for line in lines), done.output
    log = next(line for line in lines if "the whole log: " in line).partition(": ")[2]
    assert "rule prompts" in Path(log).read_text()
    wrong = ["--config", "prompts={source: no such.tsv}"]
    refused = tree.run(*run, *wrong, PYTHONPATH=path)
    refused.refused("no such.tsv")
    folder = ["results/reduced/dataset/manifest.json" if "tsv" in word else word for word in run]
    (tree.root / "mine").mkdir()
    (tree.root / "mine/0.png").write_bytes(b"no picture")
    (tree.root / "mine/metadata.jsonl").write_text('{"file_name": "0.png", "text": "x"}\n')
    failed = tree.run(*folder, "--config", "dataset={source: mine, size: null}", PYTHONPATH=path)
    failed.refused("mine", "no usable picture")
    assert "CalledProcessError" not in failed.output, failed.output
    assert failed.output.count("no usable picture") == 1, failed.output
    assert len(refused.output.splitlines()) < 5
    told = tree.run(*run, "--forceall", "--verbose", PYTHONPATH=path)
    assert "rule prompts" in told.output and " cost: " in told.output


def test_a_workflow_takes_its_own_package(tmp_path):
    """Whatever PYTHONPATH says: Snakemake reads the plug-ins it finds there before the workflow."""
    tree = Checkout(tmp_path / "copy")
    other = str(Checkout(tmp_path / "other").root / "scripts")
    words = ["snakemake", "-n", "--configfile", "tests/reduced.yaml"]
    assert tree.run(*words, PYTHONPATH=other).code == 0
    tree.run(*words, "--logger", "vlg", PYTHONPATH=other).refused("PYTHONPATH", other)


def test_a_score_job_tells_of_study_pictures():
    """Not of hard prompts on fresh seeds, which stand in the same file."""
    source = ROOT / "scripts/score.py"
    score = importlib.util.module_from_spec(
        spec := importlib.util.spec_from_file_location("score", source)
    )
    spec.loader.exec_module(score)

    def row(model, where, value, arm="", number=0):
        return {"model": model, "set": where, "clipscore": value, "arm": arm, "round": number}

    assert score.found([row("embed-5", "study", 60), row("embed-5", "hard", 20)]) == (
        "ClipScore embed-5 60.0"
    )
    assert score.found([row("base", "hard", 20)]) == "ClipScore base hard 20.0"
    references = [row("render", "reference", 76), row("shuffled", "reference", 2)]
    assert score.found(references) == "ClipScore render 76.0, shuffled 2.0"
    rounds = [row("base", "study", 60 + n, "refine", n) for n in (1, 2)]
    assert score.found(rounds) == "ClipScore base refine 62.0"
