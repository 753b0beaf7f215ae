"""Questions of prompts: files of others, questions that are made, what answers become."""

import json

import numpy as np
import pytest
from scipy.stats import gmean

from tests import vlms
from vlg.errors import UserError
from vlg.judge import kind, questions
from vlg.judge.questions import Question, of_shapes, pruned, read
from vlg.shapes.captions import parse

GENEVAL2 = {
    "prompt": "two red circles", "atom_count": 3, "skills": ["count", "attribute", "object"],
    "vqa_list": [["How many circle are in the image?", "two"], ["Are the circle red?", "Yes"],
                 ["Are there circle in the image?", "Yes"]],
}  # fmt: skip
DSG = """item_id,text,keywords,proposition_id,dependency,category_broad,question_natural_language
vrd_57,"bench, near trees",bench,1,0,entity,Is there a bench?
vrd_57,"bench, near trees",trees,2,0,entity,Are there trees?
vrd_57,"bench, near trees","bench, trees, near",3,"1,2",relation,Is the bench near the trees?
"""


def test_dsgs_file_is_read(tmp_path):
    (tmp_path / "dsg.csv").write_text(DSG)
    found = read(tmp_path / "dsg.csv")["bench, near trees"]
    assert [each.number for each in found] == [1, 2, 3]
    assert found[2] == Question(3, "Is the bench near the trees?", "yes", (1, 2))


def test_dsgs_file_is_read_as_its_code_reads_it(tmp_path):
    """What its 1,060 items have, too: parents that are words, themselves or not there, and a prompt
    of two items."""
    head = DSG.splitlines()[0]
    (tmp_path / "dsg.csv").write_text(f"""{head}
a1,a cat,cat,1,1,entity,Is there a cat?
a1,a cat,red,2,"1, outside",attribute,Is the cat red?
a1,a cat,big,3,"1,3",attribute,Is the cat big?
b2,a dog,red,2,"1,2",attribute,Is the dog red?
b2,a dog,big,3,2,attribute,Is the dog big?
c3,a dog,dog,1,0,entity,Is there a dog?
""")
    found = read(tmp_path / "dsg.csv")
    assert [each.parents for each in found["a cat"]] == [(), (), ()]
    assert [(each.number, each.parents) for each in found["a dog"]] == [(2, (1,)), (3, (2,))]
    assert pruned(found["a dog"], [True, True]) == [False, True]


def test_a_table_of_ones_own_and_geneval_2s(tmp_path):
    (tmp_path / "own.tsv").write_text(
        'prompt\tquestion\tanswer\tparent\n"a cat\tIs there a cat?\t\t\n"a cat\tHow many?\tone\t1\n'
    )
    assert read(tmp_path / "own.tsv") == {
        '"a cat': [Question(1, "Is there a cat?"), Question(2, "How many?", "one", (1,))]
    }
    (tmp_path / "two.jsonl").write_text(json.dumps(GENEVAL2))
    found = read(tmp_path / "two.jsonl")["two red circles"]
    assert [each.answer for each in found] == ["two", "Yes", "Yes"]


def test_separators_within_a_line_are_part_of_it(tmp_path):
    (tmp_path / "q.csv").write_text('prompt,question\n"a\u2028cat",Is there?\n"a\ndog",Is it?\n')
    assert len(read(tmp_path / "q.csv")) == 2
    said = {"prompt": "a\u2028cat", "vqa_list": [["How many cats?", 1]]}
    (tmp_path / "q.jsonl").write_text(json.dumps(said, ensure_ascii=False) + "\n")
    ((question,),) = read(tmp_path / "q.jsonl").values()
    assert question.answer == "1"
    (tmp_path / "q.jsonl").write_text(json.dumps(said | {"prompt": 5}))
    with pytest.raises(UserError, match="line 1: neither of GenEval"):
        read(tmp_path / "q.jsonl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,text\n", "has no column question"),
        ("prompt,question,parent\na,b?,7\n", "has parent 7, which is no question"),
        ("prompt,question,number,parent\na,b?,1,2\na,c?,2,1\n", "each other's parents"),
        ("prompt,question,parent\na,b?,x\n", "line 2: number and parent are numbers"),
        ("prompt,question\na,\n", "line 2: the question is empty"),
        ("prompt,question\n", "has no questions"),
        ("prompt,question\na cat, asleep,b?\n", "line 2: more cells than the header has"),
    ],
)
def test_a_wrong_table_is_told_in_one_line(tmp_path, text, message):
    (tmp_path / "q.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read(tmp_path / "q.csv")


def test_questions_of_genevals_metadata(tmp_path):
    lines = [
        {"tag": "counting", "prompt": "three apples", "include": [{"class": "apple", "count": 3}],
         "exclude": [{"class": "apple", "count": 4}]},
        {"tag": "position", "prompt": "a dog left of a cup",
         "include": [{"class": "cup", "count": 1},
                     {"class": "dog", "count": 1, "position": ["left of", 0]}]},
        {"tag": "colors", "prompt": "an orange", "include":
         [{"class": "bench", "count": 1, "color": "red"}]},
    ]  # fmt: skip
    (tmp_path / "g.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = read(tmp_path / "g.jsonl")
    texts = {prompt: [each.text for each in own] for prompt, own in found.items()}
    assert texts["three apples"] == ["Are there apples?", "Are there exactly three apples?"]
    assert texts["an orange"] == ["Is there a bench?", "Is the bench red?"]
    assert found["a dog left of a cup"][2] == Question(
        3, "Is the dog left of the cup?", "yes", (1, 2)
    )


def test_questions_of_the_shapes_world():
    def asked(text):
        return [(each.text, each.parents) for each in of_shapes(parse(text))]

    assert asked("a large red circle above two blue squares on a white background") == [
        ("Is there a circle?", ()),
        ("Is the circle red?", (1,)),
        ("Is the circle large?", (1,)),
        ("Are there squares?", ()),
        ("Are there two squares?", (4,)),
        ("Are the squares blue?", (4,)),
        ("Is the circle above the squares?", (1, 4)),
        ("Is the background white?", ()),
    ]
    assert asked("a red circle left of a blue circle") == [
        ("Is there a red circle?", ()),
        ("Is there a blue circle?", ()),
        ("Is the red circle left of the blue circle?", (1, 2)),
    ]


def test_a_child_counts_only_where_its_own_parents_are_answered_right():
    """As DSG's `calc_vqa_score` looks at answers, not at what counts of them."""
    own = [Question(1, "a"), Question(2, "b", "yes", (1,)), Question(3, "c", "yes", (2,))]
    assert pruned(own, [True, True, False]) == [True, True, True]
    assert pruned(own, [False, True, True]) == [True, False, True]
    assert pruned(own, [False, False, True]) == [True, False, False]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A random model, a table of questions, and pictures with their prompts."""
    root = tmp_path_factory.mktemp("asked")
    vlms.save(root / "model", "qwen3_vl")
    (root / "two.jsonl").write_text(json.dumps(GENEVAL2))
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 255, (40, 40, 3), dtype=np.uint8) for _ in range(3)]
    return root, images, [GENEVAL2["prompt"]] * 3


def judge(root, **keys):
    entry = {"kind": "questions", "source": "model", "questions": "two.jsonl", **keys}
    return kind.load(entry, "cpu", root)


def test_soft_tifa_is_that_of_geneval_2(asked):
    """Its loop, one picture and one question at a time: AM, GM and TIFA."""
    from tests.test_vqa import generated

    root, images, prompts = asked
    own = judge(root, dependencies=False)
    tokens = own.reader.processor.tokenizer
    digits = {"two": "2"}
    soft, hard = [], []
    for image in images:
        for question, answer in GENEVAL2["vqa_list"]:
            words = [answer, answer.capitalize(), f" {answer}", f" {answer.capitalize()}"]
            words += [digits[answer], f" {digits[answer]}"] if answer in digits else []
            words += [] if answer in digits else ["yes", " yes"]
            ids = [tokens.encode(word, add_special_tokens=False) for word in words]
            ids = sorted({each[0] for each in ids if len(each) == 1})
            chances = generated(own.reader, image, f"{question} Answer in one word.")
            soft.append(float(chances[ids].sum()))
            hard.append(int(chances.argmax()) in ids)
    soft, hard = np.reshape(soft, (3, 3)), np.reshape(hard, (3, 3))
    expected = {"am": 100 * soft.mean(axis=1), "gm": 100 * gmean(soft, axis=1)}
    expected |= {"hard": 100 * hard.mean(axis=1), "strict": 100 * hard.all(axis=1)}
    for summary, numbers in expected.items():
        own.settings = own.settings.model_copy(update={"summary": summary})
        assert own(images, prompts) == pytest.approx(numbers.tolist(), abs=1e-3)


def test_a_prompt_without_a_question_and_a_table_that_is_an_input(asked):
    root, images, _ = asked
    own = judge(root)
    with pytest.raises(UserError, match="no question about the prompt 'a cat'"):
        own(images[:1], ["a cat"])
    settings = own.settings
    assert root / "two.jsonl" in kind.find("questions").files(settings, root)
    shapes = questions.Questions("shapes")
    assert len(shapes.of("a red circle")) == 2


def test_a_parent_answered_wrong_takes_its_children_along(asked, tmp_path):
    root, images, _ = asked
    text = "prompt,question,answer,parent\na,Is there?,three,\na,Is the red?,{},1\n"
    (root / "parents.csv").write_text(text.format("yes"))
    keys = {"questions": "parents.csv", "summary": "am"}
    alone, below = (
        judge(root, dependencies=yes, **keys)(images, ["a"] * 3) for yes in (False, True)
    )
    assert all(b < a for a, b in zip(alone, below, strict=True)), "no random model says three"
