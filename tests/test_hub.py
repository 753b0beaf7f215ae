"""Downloads from a stand-in for the Hub by the real client: once and whole; each fault a line."""

import errno
import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants, file_download

from tests import tiny
from tests.hub_server import Hub
from vlg.data import downloads, hub
from vlg.errors import UserError
from vlg.files import read_json

ID = "someone/tiny-sd"
UNET = "unet/diffusion_pytorch_model.safetensors"
WANTED = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    UNET,
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
}
OTHERS = {
    "README.md",
    ".gitattributes",
    "v1-5-pruned.safetensors",
    "v1-5-pruned.ckpt",
    "feature_extractor/preprocessor_config.json",
    "safety_checker/config.json",
    "safety_checker/model.safetensors",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/pytorch_model.bin",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
}


@pytest.fixture
def repository(tmp_path):
    """A folder with the names of stable-diffusion-v1-5; only its JSON means something."""
    folder, said = tmp_path / "repository", tiny.hollow()
    for name in sorted(WANTED | OTHERS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        content = name.encode() * (50_000 if name == UNET else 10)
        content = b'{"a": 0}' if name == "tokenizer/vocab.json" else content
        (folder / name).write_bytes(said[name] if name in tiny.SAID else content)
    return folder


def point(monkeypatch, url):
    """Send the client to another endpoint, as HF_ENDPOINT does when it starts."""
    place = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", place)


@pytest.fixture
def server(monkeypatch, tmp_path, repository):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Hub() as server:
        server.add("model", ID, repository)
        point(monkeypatch, server.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
        monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
        yield server


@pytest.fixture
def out(tmp_path):
    return tmp_path / "downloads" / "base"


def fetch(out, text=f"hub:{ID}"):
    """Download the base to `out` as scripts/fetch.py does; returns the commit."""
    source = hub.parse(text)
    repository = hub.Repository(source, "model", "models.base", out.with_suffix(".commit.json"))
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    downloads.model(repository, "base", out)
    return repository.commit


def refused(out, *parts, text=f"hub:{ID}"):
    with pytest.raises(UserError) as error:
        fetch(out, text)
    line = str(error.value)
    assert "\n" not in line and "; " in line and line.startswith("models.base: hub:")
    assert all(part in line for part in parts), line
    return line


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hub:a/b", ("a/b", None)),
        ("hub:openai/clip-vit-large-patch14", ("openai/clip-vit-large-patch14", None)),
        ("hub:a/b.c@refs/pr/1", ("a/b.c", "refs/pr/1")),
        (f"hub:a/b@{'0' * 40}", ("a/b", "0" * 40)),
        *((bad, None) for bad in ("a/b", "hub:b", "hub:a/b/c", "hub:a/b@", "hub:../b")),
        *((bad, None) for bad in ("hub:a/b@../c", "hub:/a/b", "hub: a/b", "hub:a/b\n", "HUB:a/b")),
    ],
)
def test_how_a_source_is_written(text, expected):
    found = hub.parse(text)
    assert (found and (found.id, found.revision)) == expected
    assert found is None or str(found) == text


def test_only_what_loads_a_model_is_downloaded_and_only_once(server, repository, out):
    commit = fetch(out)
    assert names(out) == WANTED
    assert all((out / name).read_bytes() == (repository / name).read_bytes() for name in WANTED)
    assert not any(path.is_symlink() for path in out.rglob("*"))
    assert {name for name, _ in server.downloads()} == WANTED
    assert fetch(out) == commit and server.asked == []


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("unet/config.json", b'{"in_channels": 9}', "unet/config.json: in_channels is 9 and"),
        ("model_index.json", b"[", "model_index.json: not valid JSON"),
        ("model_index.json", b'{"_class_name": "Other"}', " is a Other; families there are: flux"),
    ],
)
def test_what_cannot_serve_is_told_before_its_weights_come(
    server, repository, out, name, content, told
):
    (repository / name).write_bytes(content)
    server.add("model", ID, repository)
    refused(out, told)
    assert not any(name.endswith(".safetensors") for name, _ in server.downloads())


def test_a_lora_on_the_hub_is_told_by_its_name(server, repository, out):
    (repository / "model_index.json").unlink()
    (repository / "pytorch_lora_weights.safetensors").touch()
    server.add("model", ID, repository)
    refused(out, "has no model_index.json: this is a LoRA; give a whole model folder")


def test_a_second_study_takes_the_files_of_the_first(server, out, tmp_path):
    fetch(out)
    server.downloads()
    fetch(tmp_path / "other" / "base")
    assert server.downloads() == []
    assert (tmp_path / "other" / "base" / UNET).samefile(out / UNET)


def test_the_clients_of_others_find_the_files(server, out):
    from huggingface_hub import try_to_load_from_cache

    fetch(out)
    for name in WANTED:
        assert try_to_load_from_cache(ID, name, cache_dir=constants.HF_HUB_CACHE)


def test_a_branch_that_moves_changes_nothing_until_the_config_does(server, repository, out):
    first = fetch(out)
    (repository / UNET).write_bytes(b"newer" * 1000)
    second = server.add("model", ID, repository)
    assert fetch(out) == first != second
    assert read_json(out.with_suffix(".commit.json"))["commit"] == first
    assert fetch(out, f"hub:{ID}@main") == second
    assert (out / UNET).read_bytes() == b"newer" * 1000
    assert fetch(out, f"hub:{ID}@{first}") == first


@pytest.mark.parametrize("how", ["offline", "no network"])
def test_the_cache_is_enough_without_a_network(server, out, tmp_path, monkeypatch, how):
    commit = fetch(out)
    if how == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        point(monkeypatch, "http://127.0.0.1:9")
    other = tmp_path / "other" / "base"
    assert fetch(other) == fetch(other, f"hub:{ID}@{commit}") == commit
    assert names(other) == WANTED
    shutil.rmtree(tmp_path / "cache")
    refused(out, "is not in the cache", "connect to the network once")
    refused(tmp_path / "third" / "base", "is not in the cache", "connect to the network once")


def test_a_cut_download_goes_on_where_it_stopped(server, repository, out):
    server.cut[UNET] = 1_000_000
    refused(out, f"lost in {UNET}", "1.0 of 2.0 MB are kept", "rerun to go on")
    server.downloads()
    server.cut.clear()
    fetch(out)
    assert (UNET, 1_000_000) in server.downloads()
    assert (out / UNET).read_bytes() == (repository / UNET).read_bytes()


def test_a_download_that_is_not_the_hubs_is_thrown_away(server, repository, out):
    for name in ("vae/config.json", UNET):  # git's hash, and SHA-256 of large files
        server.altered = {name}
        refused(out, f"checksum of {name}", "rerun to download it again")
        assert not list(Path(constants.HF_HUB_CACHE).rglob("*.part"))
    server.altered.clear()
    fetch(out)
    assert (out / UNET).read_bytes() == (repository / UNET).read_bytes()


def test_a_file_damaged_in_the_cache_is_downloaded_again(server, repository, out):
    fetch(out)
    server.downloads()
    data = bytearray((out / UNET).read_bytes())
    data[7] ^= 1
    (out / UNET).write_bytes(data)  # the same file as in the cache
    fetch(out)
    assert server.downloads() == [(UNET, 0)]
    assert (out / UNET).read_bytes() == (repository / UNET).read_bytes()


@pytest.mark.parametrize(
    ("status", "code", "parts"),
    [
        (403, "GatedRepo", ("is gated; accept its terms at ", f"/{ID} and log in", "HF_TOKEN")),
        (401, "GatedRepo", ("is gated", "HF_TOKEN")),
        (401, "RepoNotFound", ("refuses access (401)", "HF_TOKEN")),
        (403, "", ("refuses access (403)", "HF_TOKEN")),
        (404, "RepoNotFound", ("no such model; check its name at ", ID)),
        (500, "", ("status 500; try again later",)),
        (503, "", ("status 503; try again later",)),
    ],
)
def test_what_the_hub_refuses(server, out, status, code, parts):
    server.status[ID] = (status, code)
    refused(out, *parts)


def test_other_mistakes_of_a_source(server, repository, out):
    refused(out, "no such model", text="hub:someone/else")
    refused(out, "no such revision of this model; give", text=f"hub:{ID}@v9")
    (repository / "vae/diffusion_pytorch_model.safetensors").unlink()
    server.add("model", ID, repository, ref="pickled")
    refused(out, "has no *.safetensors in vae; convert", text=f"hub:{ID}@pickled")
    (repository / "model_index.json").unlink()
    server.add("model", ID, repository, ref="headless")
    refused(out, "has no model_index.json; give", text=f"hub:{ID}@headless")
    assert server.downloads() == []


def test_a_full_disk_is_told_before_and_while_downloading(server, repository, out, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1_000_000)
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda folder: usage)
    refused(out, "no space left", "2 MB are needed, 1 MB are free", "HF_HOME")
    assert not any(name.endswith(".safetensors") for name, _ in server.downloads())
    monkeypatch.undo()


def test_a_disk_that_fills_up_on_the_way(server, out, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name):
            return getattr(self.file, name)

    get = file_download.http_get
    monkeypatch.setattr(
        file_download, "http_get", lambda url, file, **options: get(url, Full(file), **options)
    )
    refused(out, "no space left", "what is downloaded is kept")


def test_half_precision_is_taken_where_there_is_no_other(server, repository, out):
    for name in ("unet/diffusion_pytorch_model", "text_encoder/model"):
        (repository / f"{name}.safetensors").unlink()
    server.add("model", ID, repository)
    fetch(out)
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in names(out)
    assert "unet/diffusion_pytorch_model.non_ema.safetensors" not in names(out)
