"""Benchmarks by name: from stand-ins for GitHub and the Hub, in the forms they are published in."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants
from PIL import Image

from tests.hub_server import Hub
from tests.pipeline import ROOT
from tests.test_hub import point
from vlg.config.load import load
from vlg.data import benchmark, github, hub
from vlg.errors import UserError
from vlg.judge import questions

BENCH = {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a bench"}
CUPS = {
    "tag": "color_attr",
    "include": [{"class": "cup", "count": 1, "color": "red"}],
    "prompt": "a red cup",
}
PIG = {
    "prompt": "a pig",
    "atom_count": 3,
    "vqa_list": [["How many pigs are in the image?", "one"], ["Are there any pigs?", "Yes"]],
    "skills": ["object", "count"],
}
DPG = (
    "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,"
    "question_natural_language\n"
    'partiprompts7,"A long, long text.",,1,0,entity,whole,entity - whole (cat),Is there a cat?\n'
    'partiprompts7,"A long, long text.",,2,1,attribute,color,"color (cat, red)",Is the cat red?\n'
    "12,Another text.,,1,0,entity,whole,entity - whole (dog),Is there a dog?\n"
)
IMAGES = {
    "00000": {"id": "00000", "prompt": "A baker.", "models": {"DALLE_3": [5, 5, 5]}},
    "00001": {"id": "00001", "prompt": "Two bakers.", "models": {"DALLE_3": [5, 4, 5]}},
    "00002": {"id": "00002", "prompt": "No baker.", "models": {}},
}
SKILLS = {
    "scene": [0],
    "basic": [0],
    "counting": [1],
    "scene ": [1],
    "advanced": [1],
    "all": [0, 1],
}
# What is published, in little, and what becomes of it: prompt, Category, Challenge.
SAMPLES = {
    "parti": (
        ['Prompt\tCategory\tChallenge\tNote\nbond\tAbstract\tBasic\tn\n"x" y\tArts\tComplex\t\n'],
        [("bond", "Abstract", "Basic"), ('"x" y', "Arts", "Complex")],
    ),
    "drawbench": (
        ['Prompts,Category\r\nA red car.,Colors\r\n"One, two.",Gary Marcus et al. \r\n'],
        [("A red car.", "Colors", ""), ("One, two.", "Gary Marcus et al.", "")],
    ),
    "geneval": (
        [f"{json.dumps(BENCH)}\n{json.dumps(CUPS)}\n"],
        [("a bench", "single_object", ""), ("a red cup", "color_attr", "")],
    ),
    "geneval2": ([json.dumps(PIG)], [("a pig", "3 atoms", "count, object")]),
    "t2i_compbench": (
        [f"a {n} one\r\na {n} two" for n in range(8)],
        [
            (f"a {n} {word}", category, "")
            for n, category in enumerate(
                ("color", "shape", "texture", "spatial", "3d_spatial", "non_spatial")
                + ("numeracy", "complex")
            )
            for word in ("one", "two")
        ],
    ),
    "dpg_bench": (
        [DPG],
        [("A long, long text.", "partiprompts", ""), ("Another text.", "other", "")],
    ),
    "hpsv2": (
        [json.dumps([f"{style} 1", "the same"]) for style in "acps"],
        [
            ("a 1", "anime", ""),
            ("the same", "anime", ""),
            ("c 1", "concept-art", ""),
            ("p 1", "paintings", ""),
            ("s 1", "photo", ""),
        ],
    ),
    "genai_bench": (
        [json.dumps(IMAGES), json.dumps(SKILLS)],
        [
            ("A baker.", "basic", "scene"),
            ("Two bakers.", "advanced", "counting, scene"),
            ("No baker.", "other", ""),
        ],
    ),
}
NUMBERS = {"parti": 1632, "drawbench": 200, "geneval": 553, "geneval2": 800, "t2i_compbench": 2400}
NUMBERS |= {"dpg_bench": 1065, "hpsv2": 3200, "genai_bench": 1600}


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home/hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_not_for_others")
    with Hub() as server:
        point(monkeypatch, server.url)
        monkeypatch.setattr(github, "URL", f"{server.url}/raw")
        yield server


def published(server, name, folder, texts, revision=None):
    """Publish texts as the files of a benchmark at its pin; what knows them by their checksums."""
    found = benchmark.parse(name)
    for path, text in zip(found.files, texts, strict=True):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(text.encode())
    if source := hub.parse(found.source):
        server.add("dataset", source.id, folder, source.revision)
        return found
    source = github.parse(found.source)
    server.add("github", source.id, folder, source.revision)
    digests = {
        path: hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in found.files
    }
    return replace(found, files=digests)


def fetched(found, out):
    """The files of a benchmark, downloaded as scripts/fetch_benchmark.py does."""
    out.mkdir(parents=True, exist_ok=True)
    notes = out.with_suffix(".commit.json")
    found.repository("prompts.source", notes).get(found.files, out)
    return out


def test_every_benchmark_is_tried_and_told_of():
    """Its number and its commit stand in the docs."""
    assert set(benchmark.names()) == set(SAMPLES) == set(NUMBERS)
    told = (ROOT / "docs/prompts.md").read_text("utf-8")
    for name, number in NUMBERS.items():
        found = benchmark.parse(name)
        assert found.number(None) == number
        line = next(each for each in told.splitlines() if each.startswith(f"| `{name}` |"))
        place, commit = found.source.split("@")
        assert f"{number:,}" in line and place.partition(":")[2] in line and commit[:7] in line


@pytest.mark.parametrize("name", SAMPLES)
def test_prompts_are_read_as_they_are_published(server, tmp_path, name):
    texts, expected = SAMPLES[name]
    found = published(server, name, tmp_path / "there", texts)
    rows = found.read(fetched(found, tmp_path / "out"))
    told = [(row["Prompt"], row["Category"], row["Challenge"]) for row in rows]
    assert told == [tuple(map(str.strip, each)) for each in expected]
    assert [row["id"] for row in rows] == [f"p{n:04d}" for n in range(len(rows))]
    server.asked.clear()
    fetched(found, tmp_path / "again")
    assert not [path for how, path, _ in server.asked if how == "GET" and "/api/" not in path]


@pytest.mark.parametrize("name", ["geneval", "geneval2", "dpg_bench"])
def test_judges_read_what_benchmarks_bring(server, tmp_path, name):
    found = published(server, name, tmp_path / "there", SAMPLES[name][0])
    out = fetched(found, tmp_path / "out")
    asked = questions.read(out / found.first)
    for row in found.read(out):
        assert asked[questions.key(row["Prompt"])]


STRANGE = ["", "\udcff", "[1, 2]", '{"prompt": 3, "tag": 1}', "a\n\n\nb,c,d\n"]
SURPLUS = {
    "drawbench": "Prompts,Category\nA red car, and a dog,Colors\n",
    "parti": "Prompt\tCategory\tChallenge\tNote\nA car\tand\ta\tdog\tthere\n",
}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        # Any text is a prompt of T2I-CompBench's.
        *((n, t) for n in SAMPLES for t in STRANGE[: 2 if n == "t2i_compbench" else None]),
        *SURPLUS.items(),
    ],
)
def test_what_is_not_as_published_is_one_line(tmp_path, name, text):
    found = benchmark.parse(name)
    for path in found.files:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError) as error:
        found.read(tmp_path)
    line = str(error.value)
    assert "\n" not in line and "; " in line and line.startswith(found.source)


def test_a_wrong_file_of_github_is_thrown_away(server, tmp_path):
    found = published(server, "geneval", tmp_path / "there", SAMPLES["geneval"][0])
    server.altered = {found.first}
    with pytest.raises(UserError, match="prompts.source: github.com/djghosh13/geneval at af4902"):
        fetched(found, tmp_path / "out")
    home = Path(constants.HF_HOME)
    assert not [path for path in home.rglob("*") if path.is_file()]
    server.altered = set()
    cached = home / "github" / found.files[found.first]
    assert (fetched(found, tmp_path / "out") / found.first).samefile(cached)
    cached.write_bytes(b"damaged")
    out = fetched(found, tmp_path / "out")
    assert found.read(out)[0]["Prompt"] == "a bench"


def test_git_knows_a_file_by_its_own_hash(server, tmp_path):
    """As DPG-Bench's pin does."""
    found = published(server, "dpg_bench", tmp_path / "there", [DPG])
    content = DPG.encode()
    told = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    fetched(replace(found, files={found.first: told}), tmp_path / "out")
    with pytest.raises(UserError, match="another checksum"):
        fetched(replace(found, files={found.first: told[::-1]}), tmp_path / "out")


def test_github_that_cannot_be_reached_is_one_line(server, tmp_path, monkeypatch):
    found = published(server, "geneval", tmp_path / "there", SAMPLES["geneval"][0])
    gone = replace(found, source="github:djghosh13/other@main")
    with pytest.raises(UserError, match="there is no prompts/evaluation_metadata.jsonl; name"):
        fetched(gone, tmp_path / "out")
    monkeypatch.setattr(github, "URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="cannot be reached .*; connect to the network once"):
        fetched(found, tmp_path / "out")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        fetched(found, tmp_path / "out")


def test_a_data_set_of_the_hub_without_the_file_is_one_line(server, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/README.md").touch()
    found = benchmark.parse("drawbench")
    server.add("dataset", "sayakpaul/drawbench", tmp_path / "there", found.source.split("@")[1])
    with pytest.raises(UserError, match="has no DrawBench Prompts - Sheet1.csv; name another"):
        fetched(found, tmp_path / "out")


# --- the config -----------------------------------------------------------------------------------


def prompts_of(**keys):
    return load({"prompts": keys}, ROOT)["prompts"]


def test_the_number_of_prompts_is_known_by_name():
    assert prompts_of(source="geneval")["pool"] == 553
    assert prompts_of(source="geneval", study=80, category=["counting"])["pool"] == 80
    assert prompts_of(source="geneval", pool=200)["pool"] == 200
    assert prompts_of(source="parti", challenge=["Basic"], pool=200)["pool"] == 200
    assert prompts_of(source="drawbench@main")["pool"] == 200


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"source": "genval"}, "prompts.source: no file 'genval'; did you mean geneval"),
        ({"source": "geneval_2"}, "did you mean geneval2 or geneval"),
        ({"source": "nothing"}, "or one of shapes, dpg_bench, drawbench, genai_bench, geneval"),
        (
            {"source": "geneval", "category": ["countin"]},
            "prompts.category[0]: geneval has no 'countin'; did you mean counting?",
        ),
        (
            {"source": "geneval", "category": ["counting"]},
            "prompts.study: asks for 160 prompts, geneval has 80 that fit; lower it to 80 or less",
        ),
        ({"source": "parti", "challenge": ["Basic"]}, "prompts.pool: how many prompts of parti"),
        ({"source": "geneval@main"}, "leave out the revision, or give prompts.sha256"),
        ({"source": "t2i_compbench@main"}, "leave out the revision"),
        (
            {"source": "geneval", "pool": 5000},
            "prompts.pool: asks for 5000 prompts, geneval has 553 that fit; lower it to 553",
        ),
        ({"source": "drawbench@a..b"}, "no file 'drawbench@a..b'; did you mean drawbench"),
        ({"source": "hpsv2", "sha256": "0" * 64}, "hpsv2 has 4 files; it must be null"),
    ],
)
def test_what_a_benchmark_does_not_have_is_one_line(keys, told):
    with pytest.raises(UserError) as error:
        prompts_of(**keys)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_judges_are_pointed_at_the_file_of_the_benchmark():
    judge = {"kind": "questions", "source": "hub:a/b", "questions": "prompts"}
    config = {"study": "mine", "prompts": {"source": "geneval"}, "judges": {"facts": judge}}
    found = load(config, ROOT)
    path = "results/mine/downloads/benchmark/prompts/evaluation_metadata.jsonl"
    assert found["judges"]["facts"]["questions"] == path
    assert load(found, ROOT) == found
    judge |= {"kind": "detector", "metadata": "prompts"}
    del judge["questions"]
    with pytest.raises(UserError, match=r"judges\.facts\.colours: is null, and geneval needs it;"):
        load(config, ROOT)
    config["prompts"] = {"source": "geneval2"}  # which a detector cannot read
    with pytest.raises(UserError, match="geneval2 does not say what it asks; .* geneval$"):
        load(config, ROOT)


def test_a_study_takes_its_prompts_and_its_judges_questions_from_one_download(checkout, tmp_path):
    """Without a network, from the cache; another revision by its checksum."""
    text = SAMPLES["geneval"][0][0].encode()
    digest = hashlib.sha256(text).hexdigest()
    home = tmp_path / "home"
    (home / "github").mkdir(parents=True)
    (home / "github" / digest).write_bytes(text)
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures/a.png")
    row = {"file_name": "a.png", "prompt": "a bench", "seed": 0}
    (tmp_path / "pictures/metadata.jsonl").write_text(json.dumps(row) + "\n")
    config = {
        "study": "benchmark",
        "models": {"base": None},
        "prompts": {"source": "geneval@v1", "sha256": digest, "study": 2, "pool": 2},
        "pictures": {"ours": {"source": str(tmp_path / "pictures")}},
        "judges": {"facts": {"kind": "questions", "source": "hub:a/b", "questions": "prompts"}},
    }
    (tmp_path / "mine.yaml").write_text(json.dumps(config))
    words = ("--cores", 1, "--configfile", "config/evaluate.yaml", tmp_path / "mine.yaml", "--")
    run = ("snakemake", *words, "results/benchmark/prompts.tsv")
    done = checkout.run(*run, HF_HOME=str(home))
    assert done.code == 0, done.output
    made = (checkout.root / "results/benchmark/prompts.tsv").read_text().splitlines()
    assert made[1:] == [
        "a bench\tsingle_object\t\t\tp0000\t\tstudy",
        "a red cup\tcolor_attr\t\t\tp0001\t\tstudy",
    ]
    folder = checkout.root / "results/benchmark/downloads/benchmark"
    assert (folder / "prompts/evaluation_metadata.jsonl").read_bytes() == text
    planned = checkout.run("snakemake", "-n", *words, "results/benchmark/judges/facts/ours.csv")
    assert planned.code == 0 and "fetch_benchmark" not in planned.output, planned.output
    assert "downloads/benchmark/prompts/evaluation_metadata.jsonl" in planned.output
