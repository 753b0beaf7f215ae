"""Texts that show nothing, and data of a program in a text's place."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlg.data import prompts
from vlg.data.wordless import is_blank, is_data
from vlg.errors import UserError

UNSEEN = ["", " ", "\u200b", "\ufeff\u2060", "\u00ad\t", "\u3164", "\u2800\ufe0f", "\u200d"]


@pytest.mark.parametrize("text", UNSEEN)
def test_what_shows_nothing_is_blank(text):
    assert is_blank(text) and not is_blank(f"{text}a") and not is_blank(f"{text}\U0001f600")


@given(st.lists(st.text(min_size=1), min_size=1))
def test_a_list_of_texts_is_data_however_it_is_written(texts):
    assert (
        is_data(json.dumps(texts))
        and is_data(f" {texts!r}\n")
        and is_data(json.dumps({"a": texts}))
    )


@pytest.mark.parametrize("text", ["[3]", "[]", "a [cat]", "[cat] on a mat", "{cat", "[1, 2]", "5"])
def test_brackets_alone_make_no_data(text):
    assert not is_data(text)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.txt", "a cat\n['a dog', 'a cow']\n", "line 2: the prompt is a list or an object"),
        ("p.csv", 'Prompt\n"{""a"": 1}"\n', "line 2: the prompt is a list or an object"),
        ("p.txt", '["a cat",\n "a dog"]\n', "is JSON; write one prompt a line"),
        ("p.txt", "Prompt\na cat\n", "line 1 looks like a header"),
        ("p.txt", "<!DOCTYPE html>\n<p>a cat\n", "is a web page; save it as plain text"),
        ("p.txt", "{\\rtf1 a cat}\n", "is RTF; save it as plain text"),
        ("p.txt", "a cat\n\u200b\u2060\n", "line 2: the prompt is empty, what it holds cannot be"),
        ("p.tsv", "version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_no_prompt_is_made_of_them(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        prompts.read(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
