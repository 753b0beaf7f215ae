# Functions that say what a study is made from (models, data, prompts), and what of it is downloaded.


def download(what):
    """The file by which Snakemake knows a download."""
    return f"{OUT}/downloads/{what}/manifest.json"


def hub_sources():
    """{what: source} of all that the study takes from the Hub."""
    sources = {kind: CONFIG["models"][kind] for kind in ("base", "guide", "judge")}
    sources |= {what: CONFIG[what]["source"] for what in ("dataset", "prompts")}
    sources |= {f"judge_{name}": judge["source"] for name, judge in CONFIG["judges"].items()}
    return {what: source for what, source in sources.items() if hub.parse(source)}


def as_source(path, file=""):
    """The option --source for a path; of a download it is the folder, or a file in it."""
    if not path:
        return []
    folder = os.path.dirname(path)
    if path != download(os.path.basename(folder)):
        return ["--source", path]
    return ["--source", os.path.join(folder, file) if file else folder]


def fetch_settings(wildcards):
    """What to download and, of a data set, how much of it."""
    what = wildcards.what
    values = {"what": what, "source": hub_sources()[what]}
    if what == "dataset":
        values |= dataset_settings()
    if what == "prompts":
        values["sha256"] = CONFIG["prompts"]["sha256"]
    if what.startswith("judge_"):
        values["kind"] = CONFIG["judges"][what.removeprefix("judge_")]["kind"]
    return settings(values)


def prompt_source():
    """The prompt file, or its download, if it is not the shapes world that makes the prompts."""
    if "prompts" in hub_sources():
        return download("prompts")
    source = CONFIG["prompts"]["source"]
    return [] if source == "shapes" else source


def prompt_settings():
    """Which prompts. The checksum of a download is checked when it is fetched."""
    values = dict(CONFIG["prompts"])
    if values["sha256"] is None or "prompts" in hub_sources():
        del values["sha256"]
    return settings(values)


def dataset_source():
    """The captioned pictures, or their download, if they are not drawn."""
    if "dataset" in hub_sources():
        return download("dataset")
    source = CONFIG["dataset"]["source"]
    return [] if source == "shapes" else source


def dataset_settings():
    """Which pictures are drawn, or gathered from what has captions."""
    chosen = CONFIG["dataset"]
    drawn = chosen["source"] == "shapes"
    names = ["source", "size", *(["seed"] if drawn else GATHERING)]
    return {name: chosen[name] for name in names}


def encode_settings():
    """How pictures are encoded, where it is not in the simplest way."""
    chosen = {**CONFIG["encode"], "resolution": CONFIG["dataset"]["resolution"]}
    simplest = {"resolution": None, "flip": False, "dtype": "float32"}
    return settings({k: chosen[k] for k, v in simplest.items() if chosen[k] != v})


def model_source(wildcards):
    """The file by which Snakemake knows a model."""
    source, kind = CONFIG["models"][wildcards.kind], wildcards.kind
    if kind in hub_sources():
        return download(kind)
    if source.endswith(".safetensors"):
        return source
    if source not in EMBEDDED:
        marks = {"base": "model_index.json", "guide": "open_clip_config.json"}
        return f"{source}/{marks.get(kind, 'config.json')}"
    if CONFIG["models"]["rebuild"]:
        part = kind + source.removeprefix("shapes")
        return f"{OUT}/pretrained/{'base/' if kind == 'base' else ''}{part}/manifest.json"
    return os.path.relpath(ROOT / "resources/shapes/manifest.json")


def guide_to_differ_from(wildcards):
    """The guide, for a judge that can be compared with it only after a download.

    Two local folders are compared before the study starts (vlg.config.checks).
    """
    fetched = {"guide", "judge"} & set(hub_sources())
    return f"{OUT}/models/guide/manifest.json" if wildcards.kind == "judge" and fetched else []


def model_settings(wildcards):
    """Which model, and which part of the shapes models it is."""
    source, kind = CONFIG["models"][wildcards.kind], wildcards.kind
    part = kind + source.removeprefix("shapes") if source in EMBEDDED else source
    return settings({"kind": kind, "source": part})


def is_shipped(wildcards):
    """Whether a model comes with the pipeline."""
    return CONFIG["models"][wildcards.kind] in EMBEDDED and not CONFIG["models"]["rebuild"]
