"""Sets of pictures from elsewhere: which prompt each is of, and how they enter a study."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vlg.data import pictures, sets
from vlg.errors import UserError

TEXTS = ["a red circle", "a blue square", "caf\u00e9, at night"]
PROMPTS = [
    {"id": f"p{place:04d}", "Prompt": text, "set": "study", "key": f"k{place}"}
    for place, text in enumerate(TEXTS)
]


def picture(path, size=(8, 6), colour="red"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def listed(folder, *rows, name="metadata.jsonl"):
    for row in rows:
        picture(folder / row["file_name"])
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def known(found, **how):
    return [(each.prompt["id"], each.seed) for each in sets.matched(found, PROMPTS, **how)]


# --- which prompt and seed ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{id}_{seed}.png", "p0001_7.png"),
        ("{id}_{seed}.png", "1_7.png"),
        ("{id}/{seed}.*", "00001/7.jpg"),
        ("*-{seed}-{prompt}.webp", "model-7-a blue square.webp"),
        ("out (1)/{id}+{seed}.png", "out (1)/p0001+7.png"),
    ],
)
def test_names_say_prompt_and_seed(tmp_path, pattern, name):
    picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    assert known(sets.entries(tmp_path, pattern)) == [("p0001", 7)]


@given(st.text("ab_-.+() {}"[:9], min_size=1, max_size=8), st.integers(0, 99))
def test_a_pattern_reads_back_what_was_written_by_it(name, seed):
    found = sets.expression("x {id}_{seed}.png").fullmatch(f"x {name}_{seed}.png")
    assert found and found["id"] == name and found["seed"] == str(seed)


def test_lists_say_prompt_and_seed(tmp_path):
    rows = [
        {"file_name": "a.png", "prompt": TEXTS[0], "seed": 3},
        {"file_name": "b.png", "text": "cafe\u0301, at night ", "seed": "4"},
        {"file_name": "c/d.png", "prompt_id": 1, "seed": 5},
    ]
    there = [("p0000", 3), ("p0002", 4), ("p0001", 5)]
    assert known(sets.entries(listed(tmp_path / "json", *rows))) == there
    csv = tmp_path / "csv"
    listed(csv, *rows, name="other.jsonl")
    (csv / "metadata.csv").write_text(
        "file_name,seed,prompt,id\na.png,3,a red circle,\n"
        'b.png,4,"caf\u00e9, at night",\nc/d.png,5,,1\n',
        "utf-8",
    )
    assert known(sets.entries(csv)) == there
    deep = tmp_path / "deep"
    listed(deep / "shard-0", rows[0])
    listed(deep / "shard-1", rows[2])
    assert known(sets.entries(deep)) == [("p0000", 3), ("p0001", 5)]


def test_without_seeds_pictures_of_a_prompt_are_counted(tmp_path):
    names = [("a.png", 0), ("b.png", 1), ("c.png", 0)]
    rows = [{"file_name": name, "prompt": TEXTS[place]} for name, place in names]
    assert known(sets.entries(listed(tmp_path, *rows))) == [
        ("p0000", 0),
        ("p0001", 0),
        ("p0000", 1),
    ]


def test_ids_may_be_of_another_column(tmp_path):
    picture(tmp_path / "k2_0.png")
    assert known(sets.entries(tmp_path, "{id}_{seed}.png"), column="key") == [("p0002", 0)]


ROW = {"file_name": "a.png", "prompt": TEXTS[0], "seed": 0}


@pytest.mark.parametrize(
    ("rows", "how", "said"),
    [
        ([ROW, {**ROW, "file_name": "b.png"}], {}, "row 2: a second picture of p0000 with seed 0"),
        ([{**ROW, "prompt": "a cat"}], {}, "row 1: prompt 'a cat' is none of the study's 3"),
        (
            [{"file_name": "a.png", "id": "p0009", "seed": 0}],
            {},
            "id 'p0009' is none of the study's",
        ),
        ([{**ROW, "id": "p0001"}], {}, "row 1: id p0001 is 'a blue square', and it says"),
        ([{"file_name": "a.png", "seed": 0}], {}, "row 1 has neither prompt nor id"),
        ([{**ROW, "seed": -1}], {}, "the seed must be a whole number"),
        ([{**ROW, "seed": 0.5}], {}, "the seed must be a whole number"),
        ([ROW, {"file_name": "b.png", "prompt": TEXTS[0]}], {}, "row 2 has no seed and"),
        ([{"file_name": "a.png", "id": "x"}], {"column": "gone"}, "no column 'gone'; there are"),
        ([{**ROW, "prompt": "a cat"}], {"others": "skip"}, "1 of 1 pictures are of no such"),
    ],
    ids=range(10),
)
def test_what_a_list_says_wrong_is_one_line(tmp_path, rows, how, said):
    with pytest.raises(UserError, match=".") as raised:
        sets.matched(sets.entries(listed(tmp_path, *rows)), PROMPTS, **how)
    assert said in str(raised.value) and "; " in str(raised.value) and "\n" not in str(raised.value)


def test_what_a_folder_has_wrong_is_one_line(tmp_path):
    def refused(said, pattern=None, folder=tmp_path):
        with pytest.raises(UserError) as raised:
            sets.entries(folder, pattern)
        assert said in str(raised.value) and "; " in str(raised.value)

    refused("has no metadata.jsonl or metadata.csv")
    picture(tmp_path / "x.png")
    refused("no picture is named like '{id}_{seed}.png', of its 1 pictures the first is x.png",
            "{id}_{seed}.png")  # fmt: skip
    refused("no such folder", folder=tmp_path / "gone")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "y.png", "prompt": "a"}\n')
    refused("y.png is no file below")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "../x.png", "prompt": "a"}\n')
    refused("../x.png is no file below")
    (tmp_path / "metadata.jsonl").write_text("{\n")
    refused("line 1 is no JSON")
    (tmp_path / "metadata.jsonl").write_bytes(b"\xff\xfe{\0")
    refused("not UTF-8 text")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "x.png", "id": 1, "id": 2}\n')
    refused("two keys are named id")
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "y" * 300, "id": 1}))
    refused("is no file below")
    (tmp_path / "metadata.jsonl").unlink()
    (tmp_path / "metadata.csv").write_text("file_name,id,id\nx.png,1,2\n")
    refused("two columns are named id")
    (tmp_path / "metadata.csv").write_text("version https://git-lfs.github.com/spec/v1\noid a\n")
    refused("git lfs pull")
    (tmp_path / "metadata.csv").write_text('file_name, prompt\nx.png, "a, b"\n')
    assert [each.prompt for each in sets.entries(tmp_path)] == ["a, b"]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [("{seed}.png", "says no prompt"), ("{id}{x}", "{x} is unknown"), ("{id}{id}", "occurs twice")],
)
def test_a_pattern_that_says_too_little_is_refused(pattern, said):
    with pytest.raises(UserError, match=said.replace("{", r"\{")):
        sets.expression(pattern)


def test_pictures_of_other_prompts_can_be_left_out(tmp_path):
    rows = [ROW, {**ROW, "file_name": "b.png", "prompt": "a cat"}]
    assert known(sets.entries(listed(tmp_path, *rows)), others="skip") == [("p0000", 0)]


@settings(max_examples=50)
@given(
    st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 2**40)), min_size=1, max_size=12),
    st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True),
)
def test_seeds_of_others_become_the_studys(pairs, selection):
    """Each (prompt, seed) is another one, fresh seeds stay free, and order is kept."""
    fresh = [n for n in range(20) if n not in selection][:2]
    own = [sets.Given(None, {"id": name}, seed) for name, seed in sorted(pairs)]
    seeds = sets.numbered(own, selection, fresh)
    names = [(each.prompt["id"], seed) for each, seed in zip(own, seeds, strict=True)]
    assert len(set(names)) == len(own) and not {*seeds} & {*fresh}
    if {each.seed for each in own} <= {*selection}:
        assert seeds == [each.seed for each in own]
    else:
        first = {name: min(s for n, s in pairs if n == name) for name, _ in pairs}
        assert all(seed == selection[0] for each, seed in zip(own, seeds, strict=True)
                   if each.seed == first[each.prompt["id"]])  # fmt: skip


# --- before a study -------------------------------------------------------------------------------

CAT = {"file_name": "b.png", "prompt": "a cat", "seed": 0}


@pytest.mark.parametrize(
    ("rows", "how", "said"),
    [
        ([ROW, {**ROW, "file_name": "b.png", "prompt": f" {TEXTS[0]}"}], {},
         "row 2: a second picture of 'a red circle' with seed 0, the first is a.png"),
        ([{"file_name": "a.png", "id": 1, "seed": 0}, {"file_name": "b.png", "id": "p0001",
          "seed": 0}], {}, "row 2: a second picture of p0001 with seed 0"),
        ([ROW, CAT], {"prompts": PROMPTS}, "row 2: prompt 'a cat' is none of the study's 3"),
        ([ROW, {**ROW, "file_name": "b.png"}], {"prompts": PROMPTS, "others": "skip"},
         "row 2: a second picture of p0000"),
        ([{**ROW, "prompt": ""}], {"others": "skip"}, "row 1 has neither prompt nor id"),
        ([{"file_name": "a.png", "id": "x"}], {"prompts": PROMPTS, "column": "gone"},
         "no column 'gone'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_list_is_told_before_any_job(tmp_path, rows, how, said):
    with pytest.raises(UserError, match=".") as raised:
        sets.check(listed(tmp_path, *rows), **how)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_what_may_be_left_out_is_not_told(tmp_path, caplog):
    """Which pictures are, the job says in its log."""
    folder = listed(tmp_path, ROW, CAT, {**CAT, "file_name": "c.png"})
    (folder / "b.png").write_bytes(b"no picture")
    sets.check(folder, others="skip")
    sets.check(folder, others="skip", prompts=PROMPTS)
    picture(folder / "p0000_1.png")
    sets.check(folder, "{id}_{seed}.png")
    assert not caplog.records


@pytest.mark.parametrize("content", [b"", b"no picture", b"version https://git-lfs.github.com/"])
def test_a_file_that_is_no_picture_is_told_before_any_job(tmp_path, content):
    folder = listed(tmp_path, ROW)
    (folder / "a.png").write_bytes(content)
    with pytest.raises(UserError, match="a.png: a picture that is .*; remove or mend it"):
        sets.check(folder)


# --- into a study ---------------------------------------------------------------------------------


def taken(tmp_path, **files):
    """The rows and pixels of a set of one prompt's pictures that were saved so."""
    source = tmp_path / "source"
    source.mkdir()
    for name, save in files.items():
        save(source / f"0_{name}")
    found = sets.matched(sets.entries(source, "{id}_{seed}.*"), PROMPTS)
    out = tmp_path / "out"
    out.mkdir()
    sets.take(found, sets.Settings(name="mine", selection=[0, 1, 2, 3, 4]), out, 2)
    rows = {row["own_seed"]: row for row in pictures.read_metadata(out)}
    return {seed: (row, pictures.load_checked(out, row)) for seed, row in rows.items()}


def test_every_kind_of_file_enters_as_all_programs_show_it(tmp_path):
    ramp = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    colours = np.stack([ramp, ramp[::-1], ramp[:, ::-1]], axis=-1)
    turned = Image.Exif()
    turned[0x0112] = 6  # turn by 90 degrees to see it upright

    def palette(path):
        Image.fromarray(colours).quantize(200).save(path)

    found = taken(
        tmp_path,
        **{
            "0.png": lambda path: Image.fromarray(colours).save(path),
            "1.png": lambda path: Image.fromarray(ramp.astype(np.uint16) * 257).save(path),
            "2.png": palette,
            "3.png": lambda path: Image.fromarray(colours).save(path, exif=turned),
            "4.webp": lambda path: Image.new("RGB", (20, 10), "blue").save(path, lossless=True),
        },
    )
    shown = {seed: pixels for seed, (_, pixels) in found.items()}
    assert (shown[0] == colours).all()
    assert (shown[1] == ramp[..., None]).all()
    assert np.abs(shown[2].astype(int) - colours).max() < 40
    assert (shown[3] == np.rot90(colours, -1)).all()
    assert shown[4].shape == (10, 20, 3)
    # What browsers show alike stays the file it is; what they do not becomes a plain PNG.
    source = tmp_path / "source"
    for seed, kept in {0: True, 1: False, 2: False, 3: False, 4: True}.items():
        row = found[seed][0]
        same = (tmp_path / "out" / row["file_name"]).read_bytes() == (
            source / row["original"]
        ).read_bytes()
        assert same == kept, seed
        with Image.open(tmp_path / "out" / row["file_name"]) as file:
            assert file.mode == "RGB" and file.getexif().get(0x0112, 1) == 1
        assert row["model"] == "mine" and row["set"] == "study" and row["prompt"] == TEXTS[0]


def test_a_broken_picture_is_one_line(tmp_path):
    with pytest.raises(UserError, match="0_0.png: a picture that is broken"):
        taken(tmp_path, **{"0.png": lambda path: path.write_bytes(b"no picture")})
