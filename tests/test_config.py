"""The config: defaults, conversions, and one clear line for every mistake."""

import copy
import difflib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny
from tools import config_reference
from vlg import plugins
from vlg.config import checks, guides, kinds, layout, plan, reference, sections, variants
from vlg.config.load import load
from vlg.config.read import read_one
from vlg.errors import UserError

ROOT = Path(__file__).parents[1]
# Of its own, so that tuning the shipped one changes no test.
BASE = """
study: test
prompts: {study: 160}
seeds: {selection: [0, 1], fresh: [2, 3]}
finetune:
  steps: [200, 500, 1000]
  variants: {normal: {guide_scale: 0}, embed: {guide_scale: 0.05}}
refine:
  models: [base]
  arms: {refine: {strength: 0.5, accept: best}, best_of_n: {strength: 1.0}}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with models, pictures and prompt files, right and wrong ones."""
    root = tmp_path_factory.mktemp("root")
    for name, content in {
        **tiny.hollow("sd/"),
        "guide/open_clip_config.json": '{"model_cfg": {}}',
        "guide/open_clip_model.safetensors": tiny.file_of("a"),
        **tiny.hollow_judge("judge/"),
        "copied/config.json": "{}",
        "copied/model.safetensors": tiny.file_of("a"),
        "both/config.json": "{}",
        "both/open_clip_config.json": '{"model_cfg": {}}',
        "both/open_clip_model.safetensors": tiny.file_of("of the other kind"),
        "nothing/README": "",
        "pictures/train/0.PNG": "",
        "pictures/train/0.txt": "a cat",
        "one.safetensors": tiny.one_file(),
        "one.ckpt": "",
        "wide.safetensors": tiny.file_of("lora_te2_to_q.lora_down.weight"),
        "lora.safetensors": tiny.file_of("lora_unet_to_q.lora_down.weight"),
        "narrow.safetensors": tiny.file_of("unet.conv_in.lora_A.weight", shape=(2, 5)),
        "one.sft": tiny.one_file(),
        **tiny.hollow("cut/"),
        "cut/unet/diffusion_pytorch_model.safetensors": tiny.file_of("a")[:-1],
        "lora/pytorch_lora_weights.safetensors": tiny.HOLLOW,
        **tiny.hollow("inpainting/", unet={"in_channels": 9}),
        "wordless/open_clip_config.json": '{"model_cfg": {"text_cfg": {"hf_tokenizer_name": "x"}}}',
        "wordless/model.safetensors": tiny.file_of("c"),
        "table.parquet": tiny.table(image=[b""], text=["a cat"]),
        **tiny.hollow_judge("cropped/", "d"),
        "cropped/preprocessor_config.json": '{"crop_size": 336}',
        "sd-Q4.gguf": b"GGUF" + bytes(99),
        "zero/0.png": "",
        "zero/0.txt": "\u200b\n",
        "columns/0.png": "",
        "columns/metadata.csv": "file_name;text\n0.png;a cat\n",
        "numbers.parquet": tiny.table(image=[b""], text=[3]),
        "good.tsv": "Prompt\tCategory\na cat\tAnimals\na dog\tAnimals\na car\tVehicles\n",
        "headless.tsv": "a cat\tAnimals\na dog\tAnimals\n",
        "gap.tsv": "Prompt\tCategory\na cat\tAnimals\n\tAnimals\n",
        "plain.txt": "a cat\na dog\na cat\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (root / "link").symlink_to("both")
    return root


def merge(below, above):
    """Two configs as Snakemake merges them."""
    if not isinstance(above, dict) or not isinstance(below, dict):
        return above
    return below | {key: merge(below.get(key), value) for key, value in above.items()}


def merged(overlay: str) -> dict:
    """BASE under an overlay."""
    return merge(yaml.safe_load(BASE), yaml.safe_load(overlay) or {})


GOOD_SHA256 = "7d58e1b9d32bfa47b59e10158421b30208d1de5a69d6e60c382d7028e14ef7da"
NAME = "lower-case letters, digits and `_`, beginning with a letter"
STUDY = "letters, digits and single `_`, `.`, `-`, beginning with a letter or digit"
GIVE_BASE = "give a diffusers folder or shapes, shapes-early, shapes-middle, shapes-flow"
OTHER_JUDGE = "a CLIP cannot judge what it guided, give another one"

INVALID = {
    # unknown keys
    "finetune: {stepz: [1]}": "finetune.stepz: unknown key; did you mean finetune.steps?",
    "guide_scale: 0.1": "guide_scale: unknown key; did you mean finetune.guide_scale?",
    "finetune: {variants: {embed: {steps: [1]}}}": (
        "finetune.variants.embed.steps: unknown key of method embed; "
        "did you mean finetune.steps or generate.steps?"
    ),
    "hard: {xyzzy: 1}": "hard.xyzzy: unknown key; keys known here are count, threshold",
    "refine: {arms: {refine: {strenght: 1}}}": (
        "refine.arms.refine.strenght: unknown key of arm refine; "
        "did you mean refine.arms.refine.strength?"
    ),
    "published: {finetuning: {}}": (
        "published.finetuning: unknown key; did you mean published.finetune?"
    ),
    '"a\\nb": 1': (
        f"'a\\nb': unknown key; keys known here are {', '.join(sections.Config.model_fields)}"
    ),
    "seeds: {no: 1}": (
        "seeds: a key must be text, got false; "
        "put it in quotes (YAML reads bare no, off, yes, on as true or false)"
    ),
    "resources: {stages: {finetun: {runtime: 5}}}": (
        "resources.stages: unknown value, as the name of an entry, got 'finetun'; choose one of "
        + ", ".join(checks.rules())
    ),
    # further judges
    "judges: {mine: {kind: callable, source: nobody.judge.score}}": (
        "judges.mine.source: 'nobody.judge.score' is no function of a file ROOT/nobody/judge.py; "
        "write module.function, the module in the folder in which Snakemake runs"
    ),
    "judges: {other: {source: nothing}}": (
        "judges.other.source: 'nothing' has no config.json with *.safetensors; "
        "give a folder of this kind, or hub:owner/name"
    ),
    "{models: {guide: guide}, judges: {other: {kind: open_clip, source: guide}}}": (
        f"judges.other.source: is the same model as models.guide: 'guide'; {OTHER_JUDGE}"
    ),
    "{models: {guide: 'hub:a/b'}, judges: {other: {kind: open_clip, source: 'hub:A/b@main'}}}": (
        f"judges.other.source: is the same model as models.guide: 'hub:A/b@main'; {OTHER_JUDGE}"
    ),
    "judges: {other: {source: 'hub:nothing'}}": (
        "judges.other.source: no repository of the Hub: 'hub:nothing'; "
        "write hub:owner/name[@revision]"
    ),
    "judges: {other: {kind: questions, source: 'hub:a/b', questions: none.csv}}": (
        "judges.other: ROOT/none.csv: No such file or directory; give a file of questions"
    ),
    "judges: {other: {kind: detector, source: 'hub:a/b', metadata: none.jsonl}}": (
        "judges.other: metadata: no file 'none.jsonl'; give GenEval's evaluation_metadata.jsonl"
    ),
    "judges: {other: {kind: magic, source: x}}": (
        "judges.other.kind: unknown value, got 'magic'; there are "
        + ", ".join(plugins.names(plugins.KINDS))
    ),
    "judges: {other: {kind: MPS, source: x}}": (
        "judges.other.kind: 'MPS' is none: its weights are published only as a pickled module, "
        "which runs code when it is read; use pickscore, hps or image_reward"
    ),
    "judges: {other: {kind: verifier, source: x}}": (
        "judges.other.source: 'x': the verifier is of the shapes world; write source: shapes"
    ),
    # controls
    "{guides: {o: {kind: verifier}}, finetune: {variants: {embed: {guide: o}}}}": (
        "finetune.variants.embed.guide: o has no gradient, which embed follows; "
        "use one of ddpo, dpo, nft, raft"
    ),
    "{guides: {o: {kind: verifier}}, refine: {arms: {noise_opt: {guide: o}}}}": (
        "refine.arms.noise_opt.guide: o has no gradient, which noise_opt follows; "
        "use one of best_of_n, noise_search, particles, refine"
    ),
    """{guides: {o: {kind: verifier}}, refine: {arms: {best_of_n: {guide: o}}},
        prompts: {source: prompts.txt}}""": (
        "refine.arms.best_of_n.guide: o knows the prompts of the shapes world alone; "
        "use another guide"
    ),
    """{guides: {o: {kind: verifier}}, finetune: {variants: {raft: {guide: o}}},
        dataset: {source: pictures}}""": (
        "finetune.variants.raft.guide: verifier: knows the shapes world's captions alone; use guide"
    ),
    "{guides: {o: {kind: verifier}}, models: {guide: o}}": (
        "models.guide: is a control, the oracle guide; name it as guide of an arm or a variant"
    ),
    "guides: {o: {kind: verifier}, both: {members: {o: 1, guide: 1}}}": (
        "guides.both.members: o is a control; leave it out"
    ),
    "guides: {w: {kind: shuffled, source: x}}": (
        "guides.w.source: is not of kind shuffled; leave it out"
    ),
    """{guides: {w: {kind: shuffled}},
        finetune: {variants: {embed: {guide: w, target: mix}}}}""": (
        "finetune.variants.embed.guide: w shuffles texts, and target is another; set target: text"
    ),
    "{finetune: {variants: {raft: {guide: nobody}}}, guides: {somebody: {source: shapes}}}": (
        "finetune.variants.raft.guide: no such entry of guides: 'nobody'; did you mean somebody?"
    ),
    "positive_controls: [nothing]": (
        "positive_controls[0]: no such variant or arm: 'nothing'; "
        "there are normal, embed, refine, best_of_n"
    ),
    # wrong types
    "study: true": "study: expected text, got true; put it in quotes",
    "study: null": "study: expected text, got nothing (null); the default is …",
    "study: 2026-01-31": ("study: expected text, got datetime.date(2026, 1, 31); put it in quotes"),
    "finetune: {steps: 200}": ("finetune.steps: expected a list, got 200; the default is …"),
    "finetune: {steps: [200, many]}": (
        "finetune.steps[1]: expected a whole number, got 'many'; the default is …"
    ),
    "finetune: {steps: [200.5]}": (
        "finetune.steps[0]: expected a whole number, got 200.5; the default is …"
    ),
    "finetune: {batch_size: true}": (
        "finetune.batch_size: expected a whole number, got true; the default is …"
    ),
    "finetune: {learning_rate: fast}": (
        "finetune.learning_rate: expected a number, got 'fast'; the default is …"
    ),
    "finetune: {variants: [normal]}": (
        "finetune.variants: expected keys and values, got ['normal']; see docs/configuration.md"
    ),
    "finetune: 3": ("finetune: expected keys and values, got 3; see docs/configuration.md"),
    "models: {rebuild: sometimes}": (
        "models.rebuild: expected true or false, got 'sometimes'; the default is …"
    ),
    "prompts: {pool: some}": (
        "prompts.pool: expected a whole number or null, got 'some'; see docs/configuration.md"
    ),
    "prompts: {category: Animals}": (
        "prompts.category: expected a list or null, got 'Animals'; see docs/configuration.md"
    ),
    'models: {base: "hub:stable-diffusion"}': (
        "models.base: no repository of the Hub: 'hub:stable-diffusion'; "
        "write hub:owner/name[@revision]"
    ),
    'dataset: {source: "https://huggingface.co/datasets/a/b"}': (
        "dataset.source: no repository of the Hub: 'https://huggingface.co/datasets/a/b'; "
        "write hub:owner/name[@revision]"
    ),
    'prompts: {source: "hub:a/b"}': (
        "prompts.pool: prompts of the Hub are not counted before they are there; "
        "write how many to take, 1632 for all of PartiPrompts"
    ),
    'models: {guide: "hub:a/clip", judge: "hub:A/CLIP@main"}': (
        f"models.judge: is the same model as models.guide: 'hub:A/CLIP@main'; {OTHER_JUDGE}"
    ),
    "models: {base: gone.ckpt}": "models.base: no file 'gone.ckpt'; check the path",
    "models: {base: one.ckpt}": (
        "models.base: ROOT/one.ckpt: a pickled checkpoint, which could run code when it is read; "
        "convert it: python tools/convert.py ROOT/one.ckpt ROOT/one.safetensors"
    ),
    "finetune: {variants: {normal: {frozen: int8}}}": (
        "finetune.variants.normal.frozen: int8 is for the weights beside a LoRA, and all are "
        "trained; set lora_rank, or leave it out"
    ),
    "models: {base: lora.safetensors}": (
        "models.base: ROOT/lora.safetensors: this is a LoRA, which holds changes to a base and not "
        "the base; give its base model, or the folder of a base into which it was merged"
    ),
    "models: {base: lora}": (
        f"models.base: lora has no model_index.json: this is a LoRA; {GIVE_BASE}"
    ),
    "models: {base: inpainting}": (
        "models.base: inpainting: unet/config.json: in_channels is 9 and the VAE's latents have 4 "
        "channels (a model of inpainting or editing?); give a base that draws from text alone"
    ),
    "models: {guide: wordless}": (
        "models.guide: wordless: open_clip_config.json: names the Hugging Face tokenizer 'x', "
        "whose files are not there; save it into the folder (transformers: AutoTokenizer, "
        "save_pretrained)"
    ),
    "judges: {other: {kind: open_clip, source: wordless}}": (
        "judges.other.source: wordless: open_clip_config.json: names the Hugging Face tokenizer "
        "'x', whose files are not there; save it into the folder (transformers: AutoTokenizer, "
        "save_pretrained)"
    ),
    "judges: {other: {source: copied}}": (
        "judges.other.source: copied: has no tokenizer (tokenizer.json); save the model's own into "
        "the folder"
    ),
    "models: {base: gone.safetensors}": ("models.base: no file 'gone.safetensors'; check the path"),
    "prompts: {source: plain.txt, sha256: abc}": (
        "prompts.sha256: not allowed, got 'abc'; use 64 digits 0-9, a-f"
    ),
    "prompts: {source: good.tsv, study: 2, sha256: " + "a" * 64 + "}": (
        "prompts.sha256: ROOT/good.tsv has another checksum, "
        f"{GOOD_SHA256}; "
        "give the file that was meant, or this checksum"
    ),
    "models: {base: {folder: x}}": (
        "models.base: expected text or null, got {'folder': 'x'}; the default is …"
    ),
    # values out of range
    "finetune: {steps: [-200, 500]}": (
        "finetune.steps[0]: must be at least 1, got -200; the default is …"
    ),
    "finetune: {steps: []}": ("finetune.steps: must not be empty; the default is …"),
    "finetune: {learning_rate: 0}": (
        "finetune.learning_rate: must be above 0, got 0.0; the default is …"
    ),
    "finetune: {variants: {embed: {guide_scale: -1}}}": (
        "finetune.variants.embed.guide_scale: must be at least 0, got -1.0; the default is …"
    ),
    "finetune: {ema_decay: 1}": ("finetune.ema_decay: must be below 1, got 1.0; the default is …"),
    "finetune: {weight_decay: .nan}": (
        "finetune.weight_decay: must be a finite number of ordinary size; the default is …"
    ),
    "finetune: {max_grad_norm: .inf}": (
        "finetune.max_grad_norm: must be a finite number of ordinary size; the default is …"
    ),
    "generate: {shard_size: 0}": (
        "generate.shard_size: must be at least 1, got 0; the default is …"
    ),
    "generate: {steps: 1001}": "generate.steps: must be at most 1000, got 1001; the default is …",
    "refine: {rounds: -1}": "refine.rounds: must be at least 0, got -1; the default is …",
    "{generate: {steps: 4}, refine: {arms: {refine: {strength: 0.2}}}}": (
        "refine.arms.refine.strength: is 0.2 of generate.steps: 4, which is no step; "
        "raise it to 0.25 or more"
    ),
    "refine: {arms: {refine: {strength: 1.5}}}": (
        "refine.arms.refine.strength: must be at most 1, got 1.5; the default is …"
    ),
    "statistics: {confidence: 95}": (
        "statistics.confidence: must be below 1, got 95.0; the default is …"
    ),
    "seeds: {train: -1}": "seeds.train: must be at least 0, got -1; the default is …",
    "seeds: {fresh: []}": "seeds.fresh: must not be empty; the default is …",
    "device: gpu": "device: unknown value, got 'gpu'; choose one of auto, cpu, cuda",
    "gpu: {tf32: true}": (
        "gpu.tf32: unknown key; keys known here are channels_last, compile, vae_slicing, offload"
    ),
    "generate: {precision: half}": (
        "generate.precision: unknown value, got 'half'; choose one of fp32, tf32, bf16, fp16"
    ),
    "score: {precision: 16}": "score.precision: expected text, got 16; put it in quotes",
    "device: cud": "device: unknown value, got 'cud'; choose one of auto, cpu, cuda",
    "finetune: {target: picture}": (
        "finetune.target: unknown value, got 'picture'; choose one of text, image, mix"
    ),
    "generate: {scheduler: dpm}": (
        "generate.scheduler: unknown value, got 'dpm'; choose one of ddim, dpm++"
    ),
    "refine: {arms: {refine: {accept: never}}}": (
        "refine.arms.refine.accept: unknown value, got 'never'; choose one of best, always"
    ),
    "hard: {threshold: 101}": "hard.threshold: must be at most 100, got 101.0; the default is …",
    "published: {finetune: {base: good}}": (
        "published.finetune.base: expected a number, got 'good'; see docs/configuration.md"
    ),
    # names, which become parts of paths
    "study: ../elsewhere": f"study: not allowed, got '../elsewhere'; use {STUDY}",
    "study: /tmp/x": f"study: not allowed, got '/tmp/x'; use {STUDY}",
    "study: études": f"study: not allowed for 'é' (U+00E9), got 'études'; use {STUDY}",
    "study: e\u0301t": f"study: not allowed for '\u0301' (U+0301), got 'e\u0301t'; use {STUDY}",
    "study: a..b": f"study: not allowed, got 'a..b'; use {STUDY}",
    "study: ''": f"study: not allowed, got ''; use {STUDY}",
    'study: "two\\nlines"': (
        "study: has a line break or control character: 'two\\nlines'; remove it"
    ),
    f"study: {'x' * 81}": (
        f"study: too long, got '{'x' * 27}...{'x' * 28}'; use at most 80 characters"
    ),
    "finetune: {variants: {Embed: {}}}": (
        f"finetune.variants: not allowed, as the name of an entry, got 'Embed'; use {NAME}"
    ),
    "finetune: {variants: {../up: {}}}": (
        f"finetune.variants: not allowed, as the name of an entry, got '../up'; use {NAME}"
    ),
    'finetune: {variants: {"embed\\n": {}}}': (
        f"finetune.variants: not allowed, as the name of an entry, got 'embed\\n'; use {NAME}"
    ),
    "finetune: {variants: {embed-2: {}}}": (
        f"finetune.variants: not allowed, as the name of an entry, got 'embed-2'; use {NAME}"
    ),
    "refine: {arms: {best of n: {}}}": (
        f"refine.arms: not allowed, as the name of an entry, got 'best of n'; use {NAME}"
    ),
    "finetune: {variants: {base: {}}}": (
        "finetune.variants.base: is the name of a given model; choose another"
    ),
    "judges: {guide: {source: resources/shapes/judge}}": (
        "judges.guide: is the name of a given model; choose another"
    ),
    "published: {finetune: {embed: 23}}": (
        "published.finetune: not allowed, as the name of an entry, got 'embed'; "
        "use `base` or `<variant>-<step>`"
    ),
    # values that must agree
    "finetune: {steps: [500, 200]}": (
        "finetune.steps: must rise, got [500, 200]; write them in ascending order"
    ),
    "finetune: {steps: [200, 200]}": (
        "finetune.steps: must rise, got [200, 200]; write them in ascending order"
    ),
    "finetune: {window: [600, 0]}": (
        "finetune.window: must be [low, high] with low below high, got [600, 0]; write [0, 600]"
    ),
    "finetune: {variants: {embed: {window: [5, 5]}}}": (
        "finetune.variants.embed.window: must be [low, high] with low below high, got [5, 5]; "
        "widen it, or set guide_scale to 0"
    ),
    "finetune: {window: [0, 1000]}": (
        "finetune.window[1]: must be at most 999, got 1000; the default is …"
    ),
    "finetune: {window: [0]}": ("finetune.window: must have 2 entries, got [0]; the default is …"),
    "finetune: {variants: {normal: null, embed: null}}": (
        "finetune.variants: must not be empty; name at least one"
    ),
    "models: {base: null}": (
        "models.base: is null, and there is nothing to compare; name a base, or sets of pictures "
        "in `pictures`"
    ),
    "models: {base: null, compare: {x: shapes}}": (
        "models.compare: stands beside a base, and there is none; name one of them as the base"
    ),
    "models: {guide: null}": "models.guide: is null, and there is a base; the default is …",
    "models: {base: shapes-flow}": (
        "models.family: is sd, and shapes-flow is of the family sd3; set sd3"
    ),
    "models: {family: sd3}": "models.family: is sd3, and shapes is of the family sd; set sd",
    "models: {compare: {x: shapes-flow}}": (
        "models.compare.x.family: is sd, and shapes-flow is of the family sd3; set sd3"
    ),
    "models: {compare: {guide: shapes}}": (
        "models.compare.guide: is the name of something else; choose another"
    ),
    """{guides: {o: {kind: verifier}}, refine: {arms: {best_of_n: {guide: o}}},
        models: {compare: {guide_o: shapes}}}""": (
        "models.compare.guide_o: is the name of something else; choose another"
    ),
    """{finetune: {variants: {embed: null, mine: {method: dpo, doses: [9]}}},
        models: {compare: {mine_b9_0: shapes}}}""": (
        "models.compare.mine_b9_0: is the name of something else; choose another"
    ),
    "models: {compare: {x: one.sft}}": (
        "models.compare.x.source: one.sft is a safetensors file; name it .safetensors"
    ),
    "models: {compare: {x: cut}}": (
        "models.compare.x.source: ROOT/cut/unet/diffusion_pytorch_model.safetensors: not a whole "
        "safetensors file (cut short); get it again"
    ),
    "models: {compare: {x: gone}}": (
        "models.compare.x.source: no folder 'gone'; give a diffusers folder or a file"
    ),
    "models: {compare: {x: {lora: gone.safetensors}}}": (
        "models.compare.x.lora: ROOT/gone.safetensors: no such file; check the path"
    ),
    "models: {compare: {x: {lora: wide.safetensors}}}": (
        "models.compare.x.lora: ROOT/wide.safetensors: a LoRA of another family "
        "(lora_te2_to_q.lora_down.weight); give one that was made for this base"
    ),
    "models: {compare: {x: {lora: narrow.safetensors}}}": (
        "models.compare.x.lora: ROOT/narrow.safetensors: made for another base: unet.conv_in takes "
        "5 channels, and that layer of this base 4; give a LoRA that was made for it"
    ),
    "models: {compare: {x: {source: shapes, lora: lora.safetensors}}}": (
        "models.compare.x.source: stands beside lora, or neither does; give one of them"
    ),
    "models: {compare: {x: {lora: lora.safetensors, scale: [1, 2]}}}": (
        "models.compare.x.scale: has 2 numbers for 1 LoRAs; give one for each"
    ),
    "reference: x": "reference: there is a base, which the others are held against; remove it",
    "pictures: {x: {}}": "pictures.x.source: missing; give it",
    "pictures: {x: {source: gone}}": "pictures.x.source: no folder 'gone'; check the path",
    "pictures: {x: {source: sd, pattern: '{seed}.png'}}": (
        "pictures.x.pattern: '{seed}.png' says no prompt; write {id} or {prompt} in it"
    ),
    "pictures: {render: {source: sd}}": (
        "pictures.render: is the name of something else; choose another"
    ),
    "{models: {base: null}, pictures: {x: {source: sd}}, reference: y}": (
        "reference: no such entry of pictures: 'y'; there are x"
    ),
    "refine: {models: [embed-300]}": (
        "refine.models[0]: no such model in this study: 'embed-300'; did you mean embed-500?"
    ),
    "refine: {models: [base, base]}": (
        "refine.models: has an entry twice, got ['base', 'base']; name each once"
    ),
    "refine: {arms: {refine: null, best_of_n: null}}": (
        "refine.arms: must not be empty; name at least one"
    ),
    "seeds: {selection: [0, 0]}": (
        "seeds.selection: has an entry twice, got [0, 0]; name each once"
    ),
    "seeds: {fresh: [1, 2]}": (
        "seeds.fresh: must differ from seeds.selection, both have 1; choose other fresh seeds"
    ),
    "prompts: {study: 160, pool: 100}": (
        "prompts.pool: must be at least prompts.study (160), got 100; raise it, or null for all"
    ),
    "pretrain: {base: {early: 0.4}}": (
        "pretrain.base.early: must be below pretrain.base.middle (0.3), got 0.4; lower it"
    ),
    "dataset: {size: null}": "dataset.size: the shapes world has no end; the default is …",
    "finetune: {accumulate: 17}": "finetune.accumulate: 17 parts of a batch of 16; use at most 16",
    "finetune: {variants: {embed: {accumulate: 9, batch_size: 8}}}": (
        "finetune.variants.embed.accumulate: 9 parts of a batch of 8; use at most 8"
    ),
    "finetune: {processes: 4, nodes: 5}": (
        "finetune.batch_size: 16 pictures for 20 processes; use at least as many"
    ),
    "finetune: {sweeps: {lr: {learning_rate: 0.1}}}": (
        "finetune.sweeps.lr.learning_rate: expected a list, got 0.1; see docs/configuration.md"
    ),
    "finetune: {sweeps: {lr: {learning_rates: [0.1]}}}": (
        "finetune.sweeps.lr.learning_rates: unknown key; "
        "did you mean finetune.sweeps.lr.learning_rate?"
    ),
    "finetune: {sweeps: {lr: {learning_rate: [0.1, 2]}}}": (
        "finetune.sweeps.lr.learning_rate[1]: must be at most 1, got 2.0; the default is …"
    ),
    "finetune: {sweeps: {lr: {}}}": ("finetune.sweeps.lr: must not be empty; name at least one"),
    "finetune: {sweeps: {a: {window: [[9, 5]]}}}": (
        "finetune.sweeps.a.window: must be [low, high] with low below high, got [9, 5]; "
        "write [5, 9]"
    ),
    """{finetune: {sweeps: {a: {lora_rank: [4]}},
        variants: {a_rank4: {lora_rank: 4, batch_size: 8}}}}""": (
        "finetune.sweeps.a: gives a second variant the name a_rank4; rename the sweep"
    ),
    "finetune: {sweeps: {a: {window: [[1, 2]], guide_scale: [1]}, a_gs1_0: {window: [[1, 2]]}}}": (
        "finetune.sweeps.a_gs1_0: gives a second variant the name a_gs1_0_w1_2; rename the sweep"
    ),
    "finetune: {variants: {normal: {doses: [1]}}}": (
        "finetune.variants.normal.doses: normal has no dose of its own; name a key, "
        "as {learning_rate: [...]}"
    ),
    "finetune: {variants: {a: {doses: {guide_scale: [1], lora_rank: [4]}}}}": (
        "finetune.variants.a.doses: expected a list, or one key with a list, "
        "got {'guide_scale': [1], 'lora_rank': [4]}; use a sweep for several keys"
    ),
    "finetune: {variants: {a: {guide_scale: 1, doses: [2]}}}": (
        "finetune.variants.a.guide_scale: stands beside doses of it; write it among them"
    ),
    "finetune: {variants: {a: {doses: [1, -1]}}}": (
        "finetune.variants.a.doses.guide_scale[1]: must be at least 0, got -1.0; the default is …"
    ),
    "refine: {arms: {a: {kind: clip_guidance, doses: {scales: [1]}}}}": (
        "refine.arms.a.doses.scales: unknown key of clip_guidance; "
        "did you mean refine.arms.a.doses.scale?"
    ),
    "refine: {arms: {a: {doses: {strength: [0.5]}}, a_strength_0_5: {strength: 0.4}}}": (
        "refine.arms.a_strength_0_5: gives a second arm the name a_strength_0_5; rename the ladder"
    ),
    "{finetune: {sweeps: {a: {crop: [0.5]}}}}": (
        "finetune.sweeps.a.crop: needs pixels, and variants train from the cache; set cached: false"
    ),
    "{finetune: {sweeps: {a: {lora_rank: [4]}}}, development: {count: 0}}": (
        "development.count: is 0, and sweeps are ranked by development prompts; "
        "set it to 40 or more"
    ),
    "finetune: {crop: 0.8}": (
        "finetune.crop: needs pixels, and variants train from the cache; set cached: false"
    ),
    "finetune: {variants: {embed: {jitter: 0.1}}}": (
        "finetune.variants.embed.jitter: needs pixels, and variants train from the cache; "
        "set cached: false"
    ),
    "finetune: {variants: {embed: {decoder: nothing}}}": (
        "finetune.variants.embed.decoder: 'nothing' is no AutoencoderTiny; give a folder of one"
    ),
    "finetune: {decoder: judge}": (
        "finetune.decoder: 'judge' is no AutoencoderTiny; give a folder of one"
    ),
    "dataset: {resolution: 30}": (
        "dataset.resolution: 30 is not a multiple of 8; see docs/configuration.md"
    ),
    # models, pictures and prompts that are not there or not what they should be
    "models: {base: shape}": "models.base: no folder 'shape'; did you mean shapes?",
    "models: {base: elsewhere/sd}": (f"models.base: no folder 'elsewhere/sd'; {GIVE_BASE}"),
    "models: {base: nothing}": (f"models.base: nothing has no model_index.json; {GIVE_BASE}"),
    "models: {guide: judge}": (
        "models.guide: judge has no open_clip_config.json; give an open_clip folder or shapes"
    ),
    "models: {judge: guide}": (
        "models.judge: guide has no config.json; give a Hugging Face CLIP folder or shapes"
    ),
    "models: {guide: both, judge: ./both}": (
        f"models.judge: is the same model as models.guide: './both'; {OTHER_JUDGE}"
    ),
    "models: {guide: both, judge: link}": (
        f"models.judge: is the same model as models.guide: 'link'; {OTHER_JUDGE}"
    ),
    "models: {guide: guide, judge: copied}": (
        "models.judge: has the weights of models.guide: ROOT/guide/open_clip_model.safetensors and "
        f"ROOT/copied/model.safetensors are identical; {OTHER_JUDGE}"
    ),
    f"models: {{base: {'x' * 5000}}}": (
        f"models.base: no folder '{'x' * 27}...{'x' * 28}'; {GIVE_BASE}"
    ),
    'models: {base: "a\\0b"}': (
        "models.base: has a line break or control character: 'a\\x00b'; remove it"
    ),
    "dataset: {background: red}": (
        "dataset.background: not allowed, got 'red'; use `white`, `black` or `#rrggbb`"
    ),
    'development: {prompts: ["a caf\xe9", "a cafe\u0301"]}': (
        "development.prompts: has an entry twice, got ['a caf\xe9', 'a cafe\u0301']; name each once"
    ),
    "dataset: {source: coco}": (
        "dataset.source: no folder 'coco'; give a folder of captioned pictures or shapes"
    ),
    "dataset: {source: nothing}": (
        "dataset.source: nothing holds no picture (.avif, .bmp, .gif, .jfif, .jpeg, .jpg, "
        ".parquet, .png, .tif, .tiff, .webp); give a folder of captioned pictures or shapes"
    ),
    "models: {guide: one.safetensors}": (
        "models.guide: one.safetensors is a file; give an open_clip folder or shapes"
    ),
    "models: {base: sd-Q4.gguf}": (
        "models.base: ROOT/sd-Q4.gguf: a GGUF file, whose weights are quantised; "
        "get the safetensors it was made of"
    ),
    "models: {judge: cropped}": (
        "models.judge: cropped: preprocessor_config.json: crop_size is 336 and the vision model "
        "takes 224 pixels; save the model's own image processor into the folder"
    ),
    "judges: {other: {source: cropped}}": (
        "judges.other.source: cropped: preprocessor_config.json: crop_size is 336 and the vision "
        "model takes 224 pixels; save the model's own image processor into the folder"
    ),
    'development: {prompts: ["a cat", "\u200b"]}': (
        "development.prompts[1]: shows nothing; see docs/configuration.md"
    ),
    "dataset: {source: zero}": (
        "FILE ROOT/zero/0.txt: has no caption; write one or remove it with its picture"
    ),
    "dataset: {source: columns}": (
        "FILE ROOT/columns/metadata.csv: lacks the column file_name, there are file_name;text; "
        "separate cells by commas, name the pictures' column file_name, and the captions' in "
        "dataset.captions"
    ),
    "dataset: {source: numbers.parquet}": (
        "FILE ROOT/numbers.parquet: column text holds int64, no text or lists of it; "
        "name the columns in dataset.picture and dataset.captions"
    ),
    "prompts: {source: missing.tsv}": (
        "prompts.source: no file 'missing.tsv'; give a .tsv, .csv or .txt file or shapes"
    ),
    "prompts: {source: sd}": (
        "prompts.source: no file 'sd'; give a .tsv, .csv or .txt file, or one of shapes, "
        "dpg_bench, drawbench, genai_bench, geneval, geneval2, hpsv2, parti, t2i_compbench"
    ),
    "prompts: {source: good.tsv, study: 4}": (
        "prompts.study: asks for 4 prompts, the source has 3 that fit; lower it to 3 or less"
    ),
    "prompts: {source: good.tsv, study: 3, category: [Animals]}": (
        "prompts.study: asks for 3 prompts, the source has 2 that fit; lower it to 2 or less"
    ),
    "prompts: {source: good.tsv, study: 1, category: [Animal]}": (
        "prompts.category: no prompt has 'Animal'; did you mean Animals?"
    ),
    "prompts: {source: good.tsv, study: 1, challenge: [Basic]}": (
        "prompts.challenge: no prompt has 'Basic'; none has a Challenge"
    ),
    "prompts: {source: headless.tsv}": (
        "FILE ROOT/headless.tsv: has no column Prompt, its header is 'a cat, Animals'; "
        "name the columns in the first line"
    ),
    "prompts: {source: gap.tsv}": (
        "FILE ROOT/gap.tsv: line 3: the prompt is empty; write one or delete the line"
    ),
    "prompts: {source: plain.txt}": (
        "FILE ROOT/plain.txt: lines 1 and 3 have the same prompt ('a cat'); delete one"
    ),
}


@pytest.mark.parametrize("overlay", INVALID)
def test_a_mistake_is_told_in_one_line(overlay, root):
    expected = INVALID[overlay].replace("ROOT", str(root))
    expected = expected.removeprefix("FILE ") if expected[:4] == "FILE" else f"config: {expected}"
    with pytest.raises(UserError) as error:
        load(merged(overlay), root)
    stem, shows_default, default = str(error.value).partition("the default is ")
    if shows_default and default:
        assert stem + "the default is …" == expected
    else:
        assert str(error.value) == expected


@pytest.mark.parametrize(("given", "name"), [("2024", "2024"), ("'2024'", "2024"), ("0", "0")])
def test_a_whole_number_is_a_name_of_a_study(given, name, root):
    """As `--config study=2024` hands it on."""
    assert load(merged(f"study: {given}"), root)["study"] == name


@pytest.mark.parametrize("value", [None, [], "text"])
def test_a_config_that_is_no_mapping(value):
    with pytest.raises(UserError, match="^config: expected keys and values"):
        load(value, ROOT)


@pytest.mark.parametrize(
    "overlay",
    [
        "models: {base: sd, guide: guide, judge: judge}",
        "models: {base: shapes-early, guide: both}",
        "models: {base: shapes-flow, family: sd3, compare: {x: {source: shapes, family: sd}}}",
        "models: {compare: {x: {source: shapes-flow, family: sd3}}}",
        "dataset: {source: pictures, size: null}",
        "prompts: {source: good.tsv, study: 2, pool: 3}",
        f"prompts: {{source: good.tsv, study: 2, sha256: {GOOD_SHA256}}}",
        "models: {base: one.safetensors}",
        "models: {base: 'hub:a/sd@v1', guide: 'hub:a/guide', judge: 'hub:a/judge'}",
        "models: {guide: 'hub:a/clip', judge: judge}",
        "dataset: {source: 'hub:a/coco', size: null, captions: [caption_0, caption_1]}",
        "dataset: {source: table.parquet}",
        "prompts: {source: 'hub:a/parti', pool: 1632}",
        "refine: {models: [], rounds: 0}",
        "models: {compare: {a: sd, b: one.safetensors, c: {lora: lora.safetensors}, d: 'hub:a/b'}}",
        "{models: {compare: {a: shapes}}, refine: {models: [a]}}",
        "{models: {base: null}, pictures: {x: {source: sd}, y: {source: sd}}, reference: y}",
        "{finetune: {variants: {normal: null, embed: null}}, pictures: {x: {source: sd}}}",
        "refine: {models: [base, embed-1000]}",
    ],
)
def test_valid(overlay, root):
    load(merged(overlay), root)


def test_a_large_folder_is_not_searched_whole(tmp_path, monkeypatch):
    for i in range(1500):
        (tmp_path / f"{i}.txt").touch()
    seen = 0
    rglob = Path.rglob

    def counted(self, pattern):
        nonlocal seen
        for seen, path in enumerate(rglob(self, pattern), 1):  # noqa: B007
            yield path

    monkeypatch.setattr(Path, "rglob", counted)
    load(merged(f"dataset: {{source: {tmp_path}}}"), ROOT)
    assert seen == 1000


def test_a_loaded_config_loads_as_it_is_and_input_is_kept():
    given = merged("""{finetune: {variants: {embed: null, mine: {method: embed, window: [1, 2]}},
        sweeps: {s: {guide_scale: ["5e-2"]}}}, refine: {arms: {mine: {strength: ".5"}}}}""")
    before = copy.deepcopy(given)
    result = load(given, ROOT)
    assert given == before
    assert load(result, ROOT) == result
    assert json.loads(json.dumps(result)) == result, "lists and text keys, as JSON has them"


def test_without_a_base_nothing_is_drawn_and_the_config_loads_as_it_is(root):
    overlay = "{models: {base: null}, pictures: {x: {source: sd}, y: {source: sd}}, reference: y}"
    result = load(merged(overlay), root)
    assert load(result, root) == result
    assert plan.models(result) == [] and plan.refined(result) == []
    assert plan.rows(result) == ["y", "x"] and plan.references(result) == ["render"]


def groups():
    """Every class of keys: the sections, and those of each method, arm and kind of judge."""
    found = [sections.Config, sections.Training]
    for room in (plugins.METHODS, plugins.ARMS, plugins.KINDS):
        found += [kinds.settings_of(room, name) for name in plugins.names(room)]
    for group in found:
        yield group
        for field in group.model_fields.values():
            if field.default_factory:
                found.append(field.default_factory)


def test_every_key_is_described_and_every_default_is_one():
    for group in groups():
        assert group.__doc__, group
        for name, field in group.model_fields.items():
            if field.default_factory:  # a section
                continue
            assert field.description and field.description.endswith((".", "?")), (group, name)
            if not field.is_required() and name not in ("variants", "sweeps", "arms"):
                read_one(group, name, field.get_default(), (name,))


def test_defaults_are_filled_in():
    result = load({}, ROOT)
    described = sections.Finetune.model_fields
    for name in ("steps", "batch_size", "learning_rate", "min_snr_gamma", "variants"):
        assert result["finetune"][name] == described[name].default, name
    assert result["published"] == {"finetune": {}, "refinement": {}, "hard_prompts": {}}
    arms = load({"refine": {"arms": {"mine": {"accept": "always"}}}}, ROOT)["refine"]["arms"]
    strength = kinds.settings_of(plugins.ARMS, "refine").model_fields["strength"].default
    shared = dict.fromkeys(("rounds", "models", "guide"))
    assert arms == {"mine": {"kind": "refine", **shared, "strength": strength, "accept": "always"}}


def test_defaults_are_not_shared_between_loads():
    load({}, ROOT)["finetune"]["steps"].append(10**9)
    assert 10**9 not in load({}, ROOT)["finetune"]["steps"]


def test_the_default_in_a_message_is_the_key_s():
    default = sections.Training.model_fields["batch_size"].default
    for overlay in ("finetune: {batch_size: 0}", "finetune: {variants: {embed: {batch_size: 0}}}"):
        with pytest.raises(UserError, match=f"; the default is {default}$"):
            load(merged(overlay), ROOT)


def test_an_empty_section_has_its_defaults():
    assert load(yaml.safe_load("generate:\nhard:"), ROOT) == load({}, ROOT)


def test_numbers_as_yaml_and_the_command_line_give_them():
    """PyYAML reads 1e-4 as text, and Snakemake reads all values in --config braces as text."""
    for text in ("{finetune: {learning_rate: 1e-4}}", "{finetune: {learning_rate: 0.0001}}"):
        result = load(yaml.safe_load(text), ROOT)
        assert result["finetune"]["learning_rate"] == 0.0001
    text = """{finetune: {steps: [1e2, 300], min_snr_gamma: 5, window: [10, 20]},
               models: {rebuild: true}, prompts: {pool: null}, generate: {guidance_scale: 5},
               refine: {arms: {refine: null, mine: {strength: .5}}}, seeds: {train: 7.0}}"""
    from_file = load(yaml.safe_load(text), ROOT)
    from_command_line = load(yaml.load(text, yaml.BaseLoader), ROOT)
    assert json.dumps(from_file) == json.dumps(from_command_line)
    assert json.dumps(from_file["finetune"]["steps"]) == "[100, 300]"
    assert from_file["models"]["rebuild"] is True and from_file["prompts"]["pool"] is None
    assert json.dumps(from_file["seeds"]["train"]) == "7"
    assert list(from_file["refine"]["arms"]) == ["mine"]


def test_the_same_value_written_otherwise_is_the_same_setting():
    """5 and 5.0 must not make a step rerun."""
    one = load(yaml.safe_load("{generate: {guidance_scale: 5}, hard: {count: 50}}"), ROOT)
    two = load(yaml.safe_load("{generate: {guidance_scale: 5.0}, hard: {count: 5e1}}"), ROOT)
    assert json.dumps(one) == json.dumps(two)


def test_published_figures_by_round():
    result = load(yaml.safe_load("published: {refinement: {0: 23.6, 3: 24.0}}"), ROOT)
    assert result["published"]["refinement"] == {"0": 23.6, "3": 24.0}


def test_home_folder(monkeypatch, root):
    monkeypatch.setenv("HOME", str(root))
    result = load(merged("models: {base: ~/sd}"), ROOT)
    assert result["models"]["base"] == str(root / "sd")


def handed_on(result):
    """{variant: what its step gets}."""
    return {name: variant.handed_on(9) for name, variant in variants.entries(result).items()}


def test_variants_and_models():
    result = load(
        merged("finetune: {steps: [10, 20], ema_decay: 0.5, variants: {long: {batch_size: 4}}}"),
        ROOT,
    )
    found = {name: each.settings for name, each in variants.entries(result).items()}
    assert list(found) == ["normal", "embed", "long"]
    assert found["embed"].guide_scale == 0.05 and found["embed"].batch_size != 4
    assert found["long"].batch_size == 4 and found["long"].ema_decay == 0.5
    assert plan.models(result) == [
        "base",
        *("normal-10", "normal-20", "embed-10", "embed-20", "long-10", "long-20"),
    ]


@pytest.mark.parametrize(
    ("tuning", "expected"),
    [
        ("variants: {x: {}}", "normal"),
        ("variants: {x: {guide_scale: 0}}", "normal"),
        ("variants: {x: {guide_scale: '0.1'}}", "embed"),
        ("{guide_scale: 0.1, variants: {x: {}}}", "embed"),
        ("{guide_scale: 0.1, variants: {x: {guide_scale: 0, target: mix}}}", "normal"),
        ("variants: {x: {method: embed}}", "embed"),
        ("{guide_scale: 0.1, variants: {x: {method: normal}}}", "normal"),
    ],
)
def test_the_method_of_a_variant(tuning, expected):
    result = load(merged(f"finetune: {tuning if tuning[0] == '{' else f'{{{tuning}}}'}"), ROOT)
    variant = variants.entries(result)["x"]
    assert variant.method == expected
    assert type(variant.settings) is kinds.settings_of(plugins.METHODS, expected)
    assert ("guide" in variant.needs) == (expected == "embed")


def test_a_variant_named_like_a_method_is_trained_by_it():
    named = {"finetune": {"variants": {"embed": {}, "normal": {}}}}
    assert {n: v.method for n, v in variants.entries(load(named, ROOT)).items()} == {
        "embed": "embed",
        "normal": "normal",
    }
    default = kinds.settings_of(plugins.METHODS, "embed").model_fields["guide_scale"].default
    assert variants.entries(load(named, ROOT))["embed"].settings.guide_scale == default
    # as every config said it before variants had methods
    off = {"finetune": {"guide_scale": 0, "variants": {"embed": {}}}}
    assert variants.entries(load(off, ROOT))["embed"].method == "normal"


def test_kinds_and_rounds_of_arms():
    overlay = """refine: {rounds: 4, arms: {mine: {accept: always, rounds: 2}, best_of_n: {},
                                            other: {kind: best_of_n}}}"""
    result = load(merged(overlay), ROOT)
    arms = {name: (arm.kind, arm.rounds) for name, arm in plan.arms(result).items()}
    assert arms == {
        "refine": ("refine", 4),
        "best_of_n": ("best_of_n", 4),
        "mine": ("refine", 2),
        "other": ("best_of_n", 4),
    }
    assert plan.arms(load(merged("refine: {rounds: 0}"), ROOT)) == {}


def test_an_arm_that_draws_once_has_a_round_and_models_of_its_own():
    overlay = """refine: {rounds: 4, arms: {mine: {kind: clip_guidance, scale: 2}, refine: {},
        best_of_n: {}, both: {kind: combined, models: [embed-500]}, more: {kind: cfg}}}"""
    config = load(merged(overlay), ROOT)
    assert {name: arm.rounds for name, arm in plan.arms(config).items()} == {
        "refine": 4, "best_of_n": 4, "mine": 1, "both": 1, "more": 1,
    }  # fmt: skip
    assert plan.refined(config) == [
        *(("base", name) for name in plan.arms(config) if name != "both"),
        ("embed-500", "both"),
    ]
    several = load(merged(overlay + "\nseeds: {train: [0, 1]}"), ROOT)
    assert plan.refined(several)[-2:] == [("embed-500", "both"), ("embed-500-s1", "both")]
    assert plan.refined(load(merged("refine: {rounds: 0}"), ROOT)) == []
    for wrong, said in (
        ("{both: {kind: combined}}", "refine.arms.both: an arm combined draws with a fine-tuned"),
        ("{more: {kind: cfg, rounds: 2}}", "refine.arms.more.rounds"),
        ("{more: {kind: cfg, models: [embed-7]}}", "refine.arms.more.models[0]: no such model"),
        ("{mine: {kind: clip_guidance, window: [0.5, 0.5]}}", "refine.arms.mine.window: must rise"),
    ):
        with pytest.raises(UserError) as error:
            load(merged(f"refine: {{arms: {wrong}}}"), ROOT)
        assert said in str(error.value)


def test_what_changes_nothing_is_no_setting():
    """So a new key of that kind, or one that a variant cannot use, reruns nothing."""
    before = handed_on(load(merged(""), ROOT))
    neutral = {name for group in groups() for name in group.neutral()}
    assert {"lora_rank", "weighting", "cached", "evaluate_every", "flip"} <= neutral
    assert not any(name in values for values in before.values() for name in neutral)
    overlay = """finetune: {save_every: 3, save_minutes: 1, variants: {
        embed: {lora_rank: 4, watch_guide: true}, normal: {weighting: uniform, watch_guide: true}}}
        """
    changed = handed_on(load(merged(overlay), ROOT))
    assert changed["embed"] == before["embed"] | {"lora_rank": 4}
    assert changed["normal"] == before["normal"] | {"watch_guide": True}


def test_what_is_not_handed_on_stays_what_it_is():
    """A step that was finished with such a default would not run again for another one."""
    shared = {
        name: sections.Shared.model_fields[name].default for name in sections.Shared.neutral()
    }
    assert shared == {
        **{"accumulate": 1, "cached": True, "crop": 1.0, "evaluate_every": 100, "jitter": 0.0},
        **{"gradient_checkpointing": False, "lora_rank": 0, "precision": "fp32"},
        **{"watch_guide": False, "stop_patience": 3, "frozen": "fp32"},
    }
    others = sections.Training.neutral() - sections.Shared.neutral()
    others = {name: sections.Training.model_fields[name].default for name in others}
    assert others == {"flip": False, "resolution": None}
    of_data = {n: sections.Dataset.model_fields[n].default for n in sections.Dataset.neutral()}
    assert of_data == {}
    encoding = {
        n: sections.EncodeStep.model_fields[n].default for n in sections.EncodeStep.neutral()
    }
    usual = {"dtype": "float32", "flip": False, "precision": "fp32", "resolution": None}
    assert encoding == usual


def test_what_is_handed_on_is_what_a_step_would_take_without_it():
    """A script that is started by hand has the defaults of the config."""
    for variant in variants.entries(load({}, ROOT)).values():
        values = variant.handed_on(variant.settings.step)
        method = kinds.settings_of(plugins.METHODS, values.pop("method"))
        assert method.parse(values, "finetune") == variant.settings
        assert method.parse({"step": values["step"]}, "finetune") == variant.settings


def test_a_folder_is_an_input_and_no_setting(root):
    for name, content in {"config.json": '"AutoencoderTiny"', "a.safetensors": ""}.items():
        (root / "tiny").mkdir(exist_ok=True)
        (root / "tiny" / name).write_text(content)
    result = load(merged("finetune: {decoder: tiny}"), root)
    embed = variants.entries(result)["embed"]
    assert embed.folders == {"decoder": "tiny"} and "decoder" not in embed.handed_on(9)
    assert variants.entries(result)["normal"].folders == {}


def test_how_pictures_are_read_belongs_to_variants_that_read_them():
    overlay = """{encode: {flip: true}, dataset: {resolution: 64},
                  finetune: {variants: {bent: {cached: false, crop: 0.8}}}}"""
    result = load(merged(overlay), ROOT)
    values = handed_on(result)
    assert "flip" not in values["normal"] and "resolution" not in values["normal"]
    assert {"cached": False, "crop": 0.8, "flip": True, "resolution": 64}.items() <= (
        values["bent"].items()
    )
    needs = {name: variant.needs for name, variant in variants.entries(result).items()}
    assert needs["normal"] == {"latents"} and needs["bent"] == {"pixels"}


def swept(grid, **settings):
    sweeps = {"s": yaml.safe_load(grid)} if isinstance(grid, str) else grid
    result = load(merged(json.dumps({"finetune": {"sweeps": sweeps, **settings}})), ROOT)
    named = set(result["finetune"]["variants"])
    return {k: v for k, v in handed_on(result).items() if k not in named}, result


def test_a_grid_becomes_variants_whose_names_stay():
    few, result = swept("{guide_scale: [0.05], window: [[0, 300], [0, 600]]}")
    assert list(few) == ["s_gs0_05_w0_300", "s_gs0_05_w0_600"]
    embed = handed_on(result)["embed"]
    assert few["s_gs0_05_w0_300"] == embed | {"window": [0, 300]}
    assert plan.models(result)[-1].startswith("embed-")  # none of them meets a reported prompt
    more, _ = swept("{window: [[0, 600], [100, 500], [0, 300]], guide_scale: [0.5, 5e-2]}")
    assert len(more) == 6 and few.items() <= more.items()


def test_a_member_of_a_sweep_becomes_a_variant_as_it_is():
    before, _ = swept("{guide_scale: [0.05, 0.1]}")
    overlay = """finetune: {sweeps: {s: {guide_scale: [0.05, 0.1]}},
                            variants: {s_gs0_1: {guide_scale: 0.1}}}"""
    result = load(merged(overlay), ROOT)
    assert handed_on(result)["s_gs0_1"] == before["s_gs0_1"]
    assert any(model.startswith("s_gs0_1-") for model in plan.models(result))


NAMES_OF_SWEEPS = {
    "{guide_scale: [0], window: [[0, 9]]}": "s_gs0_0_w0_9",
    "{target: [mix], weighting: [uniform], guide_scale: [1]}": "s_gs1_0_uniform_mix",
    "{learning_rate: [1e-7], batch_size: [4], target: [mix]}": "s_mix_lr1e_07_bs4",
    "{warmup_steps: [3], weight_decay: [0], max_grad_norm: [2]}": "s_warmup3_wd0_0_norm2_0",
    "{ema_decay: [0.5], caption_dropout: [0.1]}": "s_ema0_5_drop0_1",
    "{min_snr_gamma: [null], lora_rank: [4], precision: [bf16]}": "s_snrnone_rank4_bf16",
    "{cached: [false], crop: [0.5], jitter: [0.1]}": "s_cached_false_crop0_5_jitter0_1",
    "{accumulate: [2]}": "s_accumulate_2",
}


@pytest.mark.parametrize("grid", NAMES_OF_SWEEPS)
def test_names_of_sweeps_stay(grid):
    """A finished sweep is known by them."""
    (name,) = swept(grid)[0]
    assert name == NAMES_OF_SWEEPS[grid] and re.fullmatch(layout.NAME, name)


def test_a_sweep_says_its_method_or_has_its_name():
    said, result = swept("{method: embed, target: [text, mix]}")
    assert {values["method"] for values in said.values()} == {"embed"}
    assert set(said) == {"s_text", "s_mix"} and load(result, ROOT) == result
    named, _ = swept({"embed": {"target": ["text", "mix"]}})
    assert {values["method"] for values in named.values()} == {"embed"}
    assert set(named) == {"embed_text", "embed_mix"}


def laddered(overlay):
    result = load(merged(overlay), ROOT)
    assert load(result, ROOT) == result
    return result


def test_doses_of_a_variant_become_a_ladder_with_one_name():
    """Its rungs are variants of the study, called as members of a sweep are."""
    doses = "{method: embed, lora_rank: 4, doses: {guide_scale: [0.05, 2]}}"
    result = laddered(f"finetune: {{variants: {{mine: {doses}}}}}")
    values = handed_on(result)
    assert [n for n in values if n.startswith("mine")] == ["mine_gs0_05", "mine_gs2_0"]
    assert values["mine_gs2_0"] == values["embed"] | {"guide_scale": 2.0, "lora_rank": 4}
    assert f"mine_gs2_0-{result['finetune']['steps'][-1]}" in plan.models(result)
    (ladder,) = plan.ladders(result).values()
    assert (ladder["dose"], ladder["published"]) == ("guide_scale", 0.05)
    assert [(r["dose"], r["name"]) for r in ladder["rungs"]] == [
        (0.05, "mine_gs0_05"),
        (2.0, "mine_gs2_0"),
    ]
    more = laddered(f"finetune: {{variants: {{mine: {doses.replace('[', '[7, ')}}}}}")
    assert values.items() <= handed_on(more).items()


def test_a_list_of_doses_is_of_the_methods_or_kinds_own_key():
    result = laddered("""{finetune: {variants: {dpo: {doses: [500, 2500]}, normal: {}}},
                          refine: {arms: {mine: {kind: clip_guidance, doses: [0.1, 2]}}}}""")
    assert {"dpo_b500_0", "dpo_b2500_0"} <= set(variants.entries(result))
    arms = plan.arms(result)
    assert arms["mine_scale_0_1"].settings.scale == 0.1 and "mine" not in arms
    assert {n: each["published"] for n, each in plan.ladders(result).items()} == {
        "dpo": 2500.0,
        "mine": 2.0,
    }


def test_an_overlay_makes_a_ladder_of_an_entry_that_has_the_key():
    """`null` takes away the single value that it lies over."""
    result = laddered("""{finetune: {variants: {embed: {guide_scale: null, doses: [0.5, 5]}}},
        refine: {arms: {cfg: {guidance_scale: null, doses: [3]}}}}""")
    assert variants.entries(result)["embed_gs5_0"].settings.guide_scale == 5
    assert plan.arms(result)["cfg_guidance_scale_3_0"].settings.guidance_scale == 3


def test_a_ladder_of_rounds_is_one_arm():
    result = laddered("refine: {arms: {best_of_n: {doses: [1, 3, 7]}}}")
    assert plan.arms(result)["best_of_n"].rounds == 7
    rungs = plan.ladders(result)["best_of_n"]["rungs"]
    assert [(each["dose"], each["name"], each["round"]) for each in rungs] == [
        (n, "best_of_n", n) for n in (1, 3, 7)
    ]


def test_a_variant_follows_a_guide_of_its_own_and_no_other_changes():
    overlay = """{guides: {o: {kind: verifier}, w: {kind: shuffled}, strong: {source: shapes}},
        finetune: {variants: {raft: {}, dpo: {}, a: {method: raft, guide: o},
            b: {method: dpo, guide: w}, c: {method: embed, guide: strong}}}}"""
    result = laddered(overlay)
    found = variants.entries(result)
    seen = {name: (found[name].guide, found[name].control) for name in found}
    assert seen["a"] == ("guide", "oracle") and seen["raft"] == ("guide", "")
    assert seen["b"] == ("guide_w", "shuffled") and seen["c"] == ("guide_strong", "")
    values = handed_on(result)
    assert values["a"] == values["raft"] | {"reward": "verifier"}
    assert values["c"] == values["embed"] and values["b"] == values["dpo"]
    assert found["b"].pairs[0] != found["dpo"].pairs[0]  # another guide ranks them
    plain = load(merged("finetune: {variants: {raft: {}, dpo: {}}}"), ROOT)
    assert variants.entries(plain)["dpo"].pairs == found["dpo"].pairs
    twins = {each["name"]: each["twin"] for each in plan.controls(result)}
    assert twins == {"a": "raft", "b": "dpo"}


def test_an_oracle_by_its_reward_is_one_beside_another_guide_too():
    """So that it is no other oracle's twin."""
    result = laddered("""{guides: {other: {source: shapes}}, finetune: {variants: {
        a: {method: dpo, reward: verifier}, b: {method: dpo, reward: verifier, guide: other},
        c: {method: dpo}}}}""")
    found = {each["name"]: (each["kind"], each["twin"]) for each in plan.controls(result)}
    assert found == {"a": ("oracle", "c"), "b": ("oracle", "c")}


def test_a_guide_looks_by_all_that_is_in_it():
    """What is shuffled may itself be made of several."""
    result = load(
        merged("""guides: {other: {kind: clip, source: 'hub:a/b'},
        both: {members: {guide: 1, other: 1}}, wrong: {kind: shuffled, members: {both: 1}}}"""),
        ROOT,
    )
    assert guides.kinds(result, "both") == ["clip"]
    assert guides.kinds(result, "wrong") == ["clip", "shuffled"] and guides.kinds(result) == []


def test_without_a_base_nothing_needs_one(root):
    """A config that has one, too, becomes an evaluation of pictures by a key."""
    result = load(
        merged("""{models: {base: null}, pictures: {x: {source: sd, pattern: '{id}.png'}},
        guides: {o: {kind: verifier}}, refine: {arms: {best_of_n: {guide: o}}},
        positive_controls: [embed]}"""),
        root,
    )
    assert not plan.controls(result) and not variants.entries(result)


def test_guide_settings_do_not_touch_normal_finetuning():
    before = handed_on(load(merged(""), ROOT))
    overlay = "finetune: {window: [0, 500], target: mix, variants: {embed: {guide_scale: 0.1}}}"
    after = handed_on(load(merged(overlay), ROOT))
    assert after["normal"] == before["normal"]
    assert after["embed"] == before["embed"] | {
        "guide_scale": 0.1,
        "target": "mix",
        "window": [0, 500],
    }


def test_truth_is_that_of_the_prompts():
    """One's own base may draw the shapes world's prompts."""
    assert plan.has_truth(load({}, ROOT))
    assert plan.has_truth(load(merged("models: {base: 'hub:a/sd'}"), ROOT))
    given = merged("prompts: {source: 'hub:a/parti', pool: 200}")
    assert not plan.has_truth(load(given, ROOT))


def test_shipped_config_is_short_and_loads():
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    assert load(yaml.safe_load(text), ROOT)["study"] == "shapes"
    assert len(text.splitlines()) < 60


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_overlays_load(path):
    overlay = path.read_text(encoding="utf-8")
    shipped = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    config = merge(shipped, yaml.safe_load(overlay))
    if path.name == "methods-small.yaml":  # which lies over another
        under = yaml.safe_load((ROOT / "config/methods.yaml").read_text(encoding="utf-8"))
        config = merge(merge(shipped, under), yaml.safe_load(overlay))
    if path.name == "evaluate.yaml":  # which says what is left out, and not what is compared
        config = merge(config, {"models": {"compare": {"early": "shapes-early"}}})
    load(config, ROOT)


@pytest.mark.parametrize("path", config_reference.files(), ids=lambda p: p.name)
def test_reference_is_current(path):
    now, then = config_reference.files()[path], path.read_text(encoding="utf-8")
    difference = difflib.unified_diff(then.split("\n"), now.split("\n"))
    assert not list(difference), "run `python tools/config_reference.py`"


SHIPPED = [ROOT / "config.yaml", *sorted((ROOT / "config").glob("*.yaml"))]


@pytest.mark.parametrize("path", [*SHIPPED, ROOT / "tests/reduced.yaml"], ids=lambda p: p.name)
def test_an_editor_finds_nothing_wrong_with_shipped_configs(path):
    validator = jsonschema.Draft202012Validator(reference.schema())
    validator.validate(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "overlay",
    [
        "finetune: {variants: {mine: {method: embed, window: [0, 9], lora_rank: 4}, embed: null}}",
        "finetune: {sweeps: {s: {method: embed, target: [text, mix]}, t: {window: [[0, 9]]}}}",
        "refine: {arms: {mine: {strength: 0.7, rounds: 2}, best_of_n: {strength: 1.0}, x: null}}",
        "{finetune: {variants: {a: {doses: [1]}}}, refine: {arms: {b: {doses: {scale: [1]}}}}}",
        "judges: {mine: {kind: clip_iqa, source: x, pair: [A., B.]}}",
        "{prompts: {pool: null}, seeds: {train: [0, 1]}, published: {finetune: {base: 2}}}",
    ],
)
def test_an_editor_knows_what_a_config_may_say(overlay):
    jsonschema.Draft202012Validator(reference.schema()).validate(yaml.safe_load(overlay))


@pytest.mark.parametrize(
    "overlay",
    [
        "finetunes: {}",
        "finetune: {variants: {mine: {seed: 4}}}",
        "finetune: {variants: {mine: {method: none}}}",
        "finetune: {variants: {Mine: {}}}",
        "refine: {arms: {mine: {strength: 2}}}",
        "judges: {mine: {pairs: [A., B.]}}",
        "generate: {steps: 0}",
    ],
)
def test_an_editor_marks_a_mistake(overlay):
    validator = jsonschema.Draft202012Validator(reference.schema())
    assert list(validator.iter_errors(yaml.safe_load(overlay)))


def test_loading_is_light():
    """The Snakefile, and so each remote job, loads the config; it needs no heavy library."""
    code = (
        "import sys, yaml; from vlg.config.load import load; from vlg.workflow import codehash; "
        "load(yaml.safe_load(open('config/shapes-full.yaml')), '.'); "
        "print(sorted({'torch', 'numpy', 'pandas', 'PIL', 'diffusers'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts")}
    out = subprocess.check_output(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, text=True
    )
    assert out.strip() == "[]"


# Keys and values that reach deep into the schema, mixed with anything YAML can hold.
NAMES = sorted({str(key) for path in reference.paths() for key in path})
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.binary(max_size=3)
    | st.sampled_from(["shapes", "base", "1e-4", "null", "../x", "/", "\ud800", "9" * 50])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*NAMES, "mine"]) | SCALARS, inner, max_size=4)
    ),
    max_leaves=12,
)


def loads_or_is_refused(value):
    try:
        result = load(value, ROOT)
    except UserError as error:
        assert str(error).isprintable()  # so it is one line, too
    else:
        assert load(result, ROOT) == result


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(list(sections.Config.model_fields)) | SCALARS, VALUES))
def test_anything_is_loaded_or_refused(value):
    loads_or_is_refused(value)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(reference.paths()), VALUES)
def test_any_value_of_a_key_is_loaded_or_refused(key, value):
    for name in reversed(key):
        value = {name: value}
    loads_or_is_refused(value)
