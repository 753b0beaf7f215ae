"""A tiny vision-language model that answers questions about the shapes world, and its training.

A genuine Idefics3 of transformers: a vision transformer with patches of 4 pixels, four of which
become one token of a small Llama. It differs from guide and judge in architecture, loss, seed and
data.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from vlg.shapes import asked, captions, pretrain
from vlg.shapes.course import Course
from vlg.shapes.world import COLOURS, SHAPES, SIDE, SIZES, Scene, coverage, render

PATCH = 4
SHUFFLE = 2  # patches along a side that become one token
TOKENS = (SIDE // PATCH // SHUFFLE) ** 2
SCALE = 0.08  # of random weights; the usual 0.02 is made for widths of a thousand
NOTHING = 0.1  # what a patch without a thing weighs: four in five are such
SEEN_AT = 0.35  # share of a patch that a thing covers, from which on the patch shows it
BACKGROUNDS = list(asked.BACKGROUNDS)
# What the vision tower tells of each patch before it is asked anything: (name, values).
PATCHES = (("shape", len(SHAPES) + 1), ("colour", len(COLOURS) + 1), ("size", len(SIZES) + 1),
           ("background", len(BACKGROUNDS)), ("centre", 2))  # fmt: skip


@cache
def tokenizer() -> Any:
    """A token a word or mark; what no question has is all the same unknown one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = {
        "image_token": "<image>",
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
    }
    split = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    words = sorted({word for word, _ in split.pre_tokenize_str(asked.texts())})
    names = ["<pad>", "<unk>", "<s>", "</s>", *special.values()]
    vocabulary = {word: place for place, word in enumerate([*names, *words])}
    own = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    own.pre_tokenizer = split
    own.add_special_tokens(names)
    return PreTrainedTokenizerFast(
        tokenizer_object=own,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens=special,
        clean_up_tokenization_spaces=False,
    )


def processor() -> Any:
    """Idefics3Processor for 32 x 32 pictures; the question follows the picture as it is."""
    from transformers import Idefics3ImageProcessor, Idefics3Processor

    pictures = Idefics3ImageProcessor(
        size={"longest_edge": SIDE},
        max_image_size={"longest_edge": SIDE},
        do_image_splitting=False,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return Idefics3Processor(pictures, tokenizer(), image_seq_len=TOKENS)


def model() -> Any:
    """Idefics3ForConditionalGeneration, 1.3 M parameters."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    tokens = tokenizer()
    return Idefics3ForConditionalGeneration(
        Idefics3Config(
            text_config={
                "model_type": "llama",
                "hidden_size": 128,
                "intermediate_size": 384,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
                "vocab_size": len(tokens),
                "max_position_embeddings": 512,
                "initializer_range": SCALE,
                "pad_token_id": tokens.pad_token_id,
                "bos_token_id": tokens.bos_token_id,
                "eos_token_id": tokens.eos_token_id,
            },
            vision_config={
                "hidden_size": 96,
                "intermediate_size": 384,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "image_size": SIDE,
                "patch_size": PATCH,
                "initializer_range": SCALE,
            },
            image_token_id=tokens.image_token_id,
            scale_factor=SHUFFLE,
            initializer_range=SCALE,
            pad_token_id=tokens.pad_token_id,
        )
    )


def scenes(rng: random.Random, number: int) -> list[Scene]:
    return [captions.shown(rng, pretrain.EVERYTHING) for _ in range(number)]


def drawn(shown: list[Scene]) -> torch.Tensor:
    """Pictures of scenes in -1..1, as a model would draw them."""
    return pretrain.as_drawn(pretrain.tensor([render(scene) for scene in shown]))


def patches(scene: Scene) -> np.ndarray:
    """What each patch shows, (patches, len(PATCHES)): 0 where it shows no thing."""
    side = SIDE // PATCH
    told = np.zeros((side, side, len(PATCHES)), np.int64)
    told[..., 3] = BACKGROUNDS.index(scene.background)
    for thing in scene.things:
        covered = coverage(thing.shape, thing.x, thing.y, SIZES[thing.size])
        shown = covered.reshape(side, PATCH, side, PATCH).mean((1, 3)) >= SEEN_AT
        told[shown, 0] = 1 + SHAPES.index(thing.shape)
        told[shown, 1] = 1 + list(COLOURS).index(thing.colour)
        told[shown, 2] = 1 + list(SIZES).index(thing.size)
        told[int(thing.y) // PATCH, int(thing.x) // PATCH, 4] = 1
    return told.reshape(-1, len(PATCHES))


def train(recipe: dict[str, Any], course: Course | None = None) -> Any:
    """The model. What shows it pictures is first trained alone, for recipe["look"] steps; then the
    whole learns to word recipe["captions"] captions of each picture and to answer
    recipe["questions"] questions about it. A yes or no teaches it little, so captions are what it
    learns to look by, and at each word of a statement it is asked whether all so far is true, by a
    head that is thrown away.
    """
    torch.manual_seed(recipe["seed"])
    rng = random.Random(recipe["seed"])
    own, words, begin = model().train(), tokenizer(), len(beginning())
    so_far = torch.nn.Linear(own.config.text_config.hidden_size, 1)
    course = course or Course()
    course.follow(rng)
    look(own, {**recipe, "steps": recipe["look"]}, rng, course)

    def loss(step: int) -> torch.Tensor:
        shown = scenes(rng, recipe["batch"])
        asks = [asked.ask(scene, rng) for scene in shown for _ in range(recipe["questions"])]
        told = [captions.caption(scene, rng) for scene in shown for _ in range(recipe["captions"])]
        features = see(own, drawn(shown))
        ids, states, ends = read(own, features, [each.question for each in asks])
        wanted = torch.tensor(words.convert_tokens_to_ids([each.answer for each in asks]))
        answers = F.cross_entropy(own.lm_head(states[torch.arange(len(asks)), ends]), wanted)
        known, true = truths(asks, ids.shape[1] - begin)
        found = so_far(states[:, begin:])[known].squeeze(-1)
        truth = F.binary_cross_entropy_with_logits(found, true[known])
        ids, states, _ = read(own, features, told)
        said = own.lm_head(states[:, begin - 1 : -1]).flatten(0, 1)
        wording = F.cross_entropy(said, ids[:, begin:].flatten(), ignore_index=words.pad_token_id)
        return answers + truth + wording

    pretrain.fit([*own.parameters(), *so_far.parameters()], recipe, loss, "vqa", course=course)
    return own.eval()


def truths(asks: list[asked.Asked], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each token of statements and facts, [n, length]: whether there is something to know, and
    1 where all up to it can be true, else 0."""
    places = tokenizer()([each.question for each in asks], return_offsets_mapping=True)
    known = torch.zeros(len(asks), length, dtype=torch.bool)
    true = torch.ones(len(asks), length)
    for row, (each, spans) in enumerate(zip(asks, places["offset_mapping"], strict=True)):
        known[row, : len(spans)] = each.answer in (asked.YES, asked.NO)
        if each.false_from is not None:
            false = [end > each.false_from for _, end in spans]
            true[row, : len(spans)][torch.tensor(false)] = 0
    return known, true


def look(own: Any, recipe: dict[str, Any], rng: random.Random, course: Course) -> None:
    """Train what makes tokens of a picture, by heads that are thrown away: of each of its patches a
    token tells what it shows."""
    patches_of = SHUFFLE * SHUFFLE
    sizes = [size for _ in range(patches_of) for _, size in PATCHES]
    weights = [torch.ones(size) for size in sizes]
    for weight, (name, _) in zip(weights, patches_of * PATCHES, strict=True):
        weight[0] = 1 if name == "background" else NOTHING
    heads = torch.nn.Linear(own.config.text_config.hidden_size, sum(sizes))
    parts = [own.model.vision_model, own.model.connector, heads]

    def loss(step: int) -> torch.Tensor:
        shown = scenes(rng, 3 * recipe["batch"])
        told = torch.from_numpy(np.stack([tokens(scene) for scene in shown])).flatten(0, 1)
        seen = heads(see(own, drawn(shown)).flatten(0, 1)).split(sizes, dim=1)
        wrong = [
            F.cross_entropy(part, told[:, i], weight=weight)
            for i, (part, weight) in enumerate(zip(seen, weights, strict=True))
        ]
        return sum(wrong) / patches_of

    parameters = [parameter for part in parts for parameter in part.parameters()]
    pretrain.fit(parameters, recipe, loss, "vqa looks", course=course)


def tokens(scene: Scene) -> np.ndarray:
    """What the patches of each token show, (TOKENS, patches of a token * len(PATCHES))."""
    side = SIDE // PATCH // SHUFFLE
    told = patches(scene).reshape(side, SHUFFLE, side, SHUFFLE, len(PATCHES))
    return told.swapaxes(1, 2).reshape(TOKENS, -1)


@cache
def beginning() -> list[int]:
    """The tokens of a picture, behind which the question follows."""
    blank = np.zeros((SIDE, SIDE, 3), np.uint8)
    given = processor()(text=["<image>"], images=[[blank]], return_tensors="pt")
    return given["input_ids"][0].tolist()


def see(own: Any, pictures: torch.Tensor) -> torch.Tensor:
    """The features of pictures [n, 3, 32, 32] in -1..1: [n, TOKENS, width]."""
    seen = own.model.get_image_features(pixel_values=pictures[:, None]).pooler_output
    return torch.stack(list(seen))


def read(
    own: Any, features: torch.Tensor, texts: list[str]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Texts [k n], k about each of n pictures in turn: their tokens [k n, length] behind those of
    the picture, the states [k n, length, width] they are read in, and the place of each one's last.
    """
    inner, words = own.model, tokenizer()
    told = [beginning() + each for each in words(texts, add_special_tokens=False).input_ids]
    ends = torch.tensor([len(each) - 1 for each in told])
    padded = words.pad({"input_ids": told}, padding_side="right", return_tensors="pt")
    ids, mask = padded["input_ids"], padded["attention_mask"]
    repeated = features.repeat_interleave(len(texts) // len(features), dim=0)
    embedded = inner.inputs_merger(ids, inner.get_input_embeddings()(ids), repeated)
    seen = inner.text_model(inputs_embeds=embedded, attention_mask=mask, use_cache=False)
    return ids, seen.last_hidden_state, ends
