"""Data sets and prompts from a stand-in for the Hub: what is read of them, and what is refused."""

import csv
import json
import shutil
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from tests.hub_server import Hub
from tests.test_hub import point
from vlg.data import dataset, downloads, hub, prompts
from vlg.data.parquet import rows_of
from vlg.errors import UserError
from vlg.files import sha256

ID = "someone/things"
SAMPLE = Path(__file__).parent / "data/parti_sample.tsv"
PICTURES = {"source": "hub:some/one", "size": 3, "split": "train", "smallest": 4}


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "README.md").write_text("not wanted")
    return folder


@pytest.fixture
def server(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with Hub() as server:
        point(monkeypatch, server.url)
        yield server


@pytest.fixture
def fetch(server, repository, tmp_path):
    """Serve the repository as it is now and download from it to a new folder."""

    def fetch(function, settings):
        server.add("dataset", ID, repository)
        out = tmp_path / "downloads"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        notes = out.with_suffix(".json")
        notes.unlink(missing_ok=True)
        function(hub.Repository(hub.Source(ID), "dataset", "dataset.source", notes), settings, out)
        return out

    return fetch


def of(settings):
    return downloads.Settings.parse(settings, "fetch")


def save_pictures(folder, number):
    from PIL import Image

    rows = []
    for n in range(number):
        path = folder / f"pictures/{n:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (n, 0, 0)).save(path)
        if n % 4 == 0:
            path.write_bytes(path.read_bytes()[:40])
        rows.append({"file_name": f"pictures/{n:02d}.png", "text": f"caption {n}"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_of_an_image_folder_only_the_chosen_pictures_are_downloaded(
    server, repository, fetch, tmp_path
):
    save_pictures(repository, 20)
    out = fetch(downloads.pictures, of(PICTURES))
    got = {name for name, _ in server.downloads()} - {"metadata.jsonl"}
    assert 3 <= len(got) < 12 and "README.md" not in got
    (tmp_path / "dataset").mkdir()
    dataset.gather(out, tmp_path / "dataset", PICTURES["size"], smallest=4)
    (tmp_path / "whole").mkdir()
    dataset.gather(repository, tmp_path / "whole", PICTURES["size"], smallest=4)
    tables = [(tmp_path / name / "metadata.jsonl").read_text() for name in ("dataset", "whole")]
    assert tables[0] == tables[1] and tables[0].count("\n") == 3


def test_of_an_image_folder_with_splits_only_one_is_downloaded(server, repository, fetch, tmp_path):
    for split in ("train", "test"):
        (repository / split).mkdir()
        save_pictures(repository / split, 8)
    out = fetch(downloads.pictures, of({**PICTURES, "size": None}))
    assert len(server.downloads()) == 9
    assert all(name.startswith("train/") for name, _ in server.downloads())
    for name, source in {"dataset": out, "whole": repository}.items():
        (tmp_path / name).mkdir()
        dataset.gather(source, tmp_path / name, None, smallest=4)
    tables = [(tmp_path / name / "metadata.jsonl").read_text() for name in ("dataset", "whole")]
    assert tables[0] == tables[1] and tables[0].count('"train/pictures/') == 6


def test_pictures_beside_parquet_files_are_downloaded_with_them(
    server, repository, fetch, tmp_path
):
    (repository / "train").mkdir()
    save_pictures(repository / "train", 9)
    (repository / "train/metadata.jsonl").unlink()
    table = [{"image": f"pictures/{n:02d}.png", "text": f"caption {n}"} for n in range(9)]
    parquet.write_table(pyarrow.Table.from_pylist(table), repository / "train/0.parquet")
    out = fetch(downloads.pictures, of(PICTURES))
    names = [name for name, _ in server.downloads()]
    # 0 is broken; 4 might have been another caption of 3.
    assert names == ["train/0.parquet", *(f"train/pictures/{n:02d}.png" for n in range(5))]
    (tmp_path / "dataset").mkdir()
    dataset.gather(out, tmp_path / "dataset", PICTURES["size"], smallest=4)
    rows = (tmp_path / "dataset/metadata.jsonl").read_text().splitlines()
    assert [json.loads(row)["text"] for row in rows] == [[f"caption {n}"] for n in (1, 2, 3)]


def test_data_sets_in_other_forms_are_refused(repository, fetch):
    with pytest.raises(UserError, match="hub:someone/things has no parquet files of split train"):
        fetch(downloads.pictures, of(PICTURES))
    table = pyarrow.Table.from_pylist([{"image": {"bytes": b"x"}, "text": "x"}])
    parquet.write_table(table, repository / "test-0.parquet")
    with pytest.raises(UserError, match="of split train and no metadata.jsonl .*; check dataset.s"):
        fetch(downloads.pictures, of(PICTURES))
    with pytest.raises(UserError, match="hub:someone/things: no usable picture .1 broken."):
        fetch(downloads.pictures, of({**PICTURES, "split": "test"}))


def test_a_prompt_table_is_taken_as_it_is(server, repository, fetch):
    shutil.copy(SAMPLE, repository / "PartiPrompts.tsv")
    out = fetch(downloads.prompt_table, sha256(SAMPLE))
    assert (out / "prompts.tsv").read_bytes() == SAMPLE.read_bytes()
    assert [name for name, _ in server.downloads()] == ["PartiPrompts.tsv"]
    with pytest.raises(UserError, match="prompts.sha256: .*PartiPrompts.tsv has another checksum"):
        fetch(downloads.prompt_table, "0" * 64)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_prompt_tables_of_other_kinds_say_the_same(repository, fetch, kind):
    expected = prompts.read(SAMPLE)
    rows = [{name: row[name] for name in prompts.SOURCE_COLUMNS} for row in expected]
    if kind == "csv":
        with open(repository / "parti.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, prompts.SOURCE_COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    else:
        rows = [{name: text or None for name, text in row.items()} for row in rows]
        for n, part in enumerate((rows[:5], rows[5:])):
            parquet.write_table(pyarrow.Table.from_pylist(part), repository / f"train-{n}.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(rows), repository / "test-0.parquet")
    out = fetch(downloads.prompt_table, None)
    assert prompts.read(out / "prompts.tsv") == expected


def test_prompt_tables_of_no_use_are_refused(repository, fetch):
    with pytest.raises(UserError, match="has no .tsv, .csv or .parquet file; give a local"):
        fetch(downloads.prompt_table, None)
    (repository / "a.tsv").write_text("Text\nx\n")
    with pytest.raises(UserError, match="has no column Prompt"):
        fetch(downloads.prompt_table, None)
    (repository / "b.tsv").write_text("Prompt\nx\n")
    with pytest.raises(UserError, match="has several prompt files .a.tsv, b.tsv.; give"):
        fetch(downloads.prompt_table, None)


def test_the_stand_in_serves_data_sets_as_their_own_library_expects(
    server, repository, monkeypatch, tmp_path
):
    """`datasets` itself streams what we download, with the same pictures and captions."""
    from datasets import config, load_dataset
    from huggingface_hub import HfFileSystem

    from tests.overlays import CAPTIONS, save_coco

    save_coco(repository)
    (repository / "data/test-00000-of-00001.parquet").unlink()
    server.add("dataset", ID, repository)
    monkeypatch.setattr(config, "HF_ENDPOINT", server.url)
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    HfFileSystem.clear_instance_cache()
    rows = list(load_dataset(ID, split="train", streaming=True).take(3 * CAPTIONS).decode(False))
    HfFileSystem.clear_instance_cache()
    files = sorted((repository / "data").iterdir())
    ours = list(rows_of(files, None, None))[: 3 * CAPTIONS]
    theirs = [(row["image"]["bytes"], [row["caption"]]) for row in rows]
    assert theirs == [(data, texts) for _, data, texts in ours]
