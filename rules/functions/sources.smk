# Functions that say what a study is made from (models, data, prompts), and what of it is downloaded.


from vlg.data import benchmark
from vlg.models.folders import MARK


def hub_sources():
    """{what: source} of all that the study takes from the Hub."""
    sources = {kind: CONFIG["models"][kind] for kind in ("base", "guide", "judge")}
    if "guide" in GUIDES:
        del sources["guide"]
    sources |= {what: CONFIG[what]["source"] for what in ("dataset", "prompts")}
    sources |= {f"guide_{name}": own["source"] for name, own in CONFIG["guides"].items()}
    sources |= {f"judge_{name}": judge["source"] for name, judge in CONFIG["judges"].items()}
    sources |= {f"compare_{name}": own.source or own.base for name, own in COMPARED.items()}
    return {what: source for what, source in sources.items() if source and hub.parse(source)}


def used_sources():
    """The downloads that this study reads: the data set's captions may be all that it does of it."""
    shown = any(guides_inside(guide) for guide in used_guides() if guide in CONTROL_GUIDES)
    data = CHECKPOINTS or SWEPT or shown
    return [
        *(what for what in hub_sources() if what != "dataset" or data),
        *(["benchmark"] if BENCHMARK else []),
    ]


# The benchmark that the prompts are of, if they are of one.
BENCHMARK = benchmark.parse(CONFIG["prompts"]["source"])


def benchmark_code():
    """What of its code its prompts depend on."""
    return [(plugins.BENCHMARKS, BENCHMARK.name)] if BENCHMARK else []


# Files of the benchmark by which judges of this study know what a picture must show, and what people
# say of its pictures.
ASKED = sorted(
    {found[1] for judge in plan.judges(CONFIG).values() if (found := plan.asked(CONFIG, judge))}
    | {*filter(None, [plan.rated(CONFIG)])}
)


def as_source(path, file=""):
    """The option --source for a path; of a download it is the folder, or a file in it."""
    if not path:
        return []
    folder = os.path.dirname(path)
    if not path.endswith(LAYOUT.download(os.path.basename(folder))):
        return ["--source", path]
    return ["--source", os.path.join(folder, file) if file else folder]


def source_of(what):
    """The file of the prompts or of the data set, or its download; none of the shapes world."""
    if what in hub_sources():
        return LAYOUT.download(what)
    if what == "prompts" and BENCHMARK:
        return LAYOUT.benchmark()
    source = CONFIG[what]["source"]
    return [] if source == plan.SHAPES else given(source)


def model_source(wildcards):
    """The file by which Snakemake knows a model."""
    source, kind = CONFIG["models"][wildcards.kind], wildcards.kind
    if kind in hub_sources():
        return LAYOUT.download(kind)
    if source.endswith(".safetensors"):
        return given(source)
    if source not in plan.EMBEDDED[kind]:
        return given(f"{source}/{MARK[kind]}")
    return shapes_source(kind, source)


def shapes_source(kind, source):
    """The file by which Snakemake knows one of the shapes models."""
    if CONFIG["models"]["rebuild"]:
        part = kind + source.removeprefix(plan.SHAPES)
        return LAYOUT.pretrained(f"base/{part}" if f"base/{part}" in BASES else part)
    return given(os.path.relpath(ROOT / "resources/shapes/manifest.json"))


def is_shipped(wildcards):
    """Whether a model comes with the pipeline."""
    source, kind = CONFIG["models"][wildcards.kind], wildcards.kind
    return source in plan.EMBEDDED[kind] and not CONFIG["models"]["rebuild"]


def fetch_settings(wildcards):
    """What to download and, of a data set, how much of it."""
    what = wildcards.what
    values = {"what": what, "source": hub_sources()[what]}
    if what == "base":
        values |= plan.family(CONFIG)
    if what.startswith("compare_"):
        own = COMPARED[what.removeprefix("compare_")].family
        values["family"] = own or CONFIG["models"]["family"]
    if what == "dataset":
        values |= plan.dataset(CONFIG)
        del values["background"]  # which changes nothing of the download
    if what == "prompts":
        values["sha256"] = CONFIG["prompts"]["sha256"]
    if what.startswith("guide_"):
        values["form"] = judge_kind.find(CONFIG["guides"][what.removeprefix("guide_")]["kind"]).form
    if what.startswith("judge_"):
        values["form"] = judge_kind.find(JUDGES[what.removeprefix("judge_")].kind).form
    return settings(values)


def prompt_settings():
    """Which prompts. The checksum of a download is checked when it is fetched."""
    values = dict(CONFIG["prompts"])
    if values["sha256"] is None or BENCHMARK or "prompts" in hub_sources():
        del values["sha256"]
    return settings(values)


def model_settings(wildcards):
    """Which model, and which part of the shapes models it is."""
    source, kind = CONFIG["models"][wildcards.kind], wildcards.kind
    embedded = source in plan.EMBEDDED[kind]
    part = kind + source.removeprefix(plan.SHAPES) if embedded else source
    family = plan.family(CONFIG) if kind == "base" else {}
    return settings({"kind": kind, "source": part, **family})
