"""The Hugging Face Hub: models, captioned pictures and prompts, downloaded once and checked.

A source is written `hub:owner/name` or `hub:owner/name@revision` (a branch, tag or commit). The
revision is resolved to a commit once and written down beside the download with the checksum of
every file, so a branch that moves on changes nothing until the config names another revision.

Files lie in the Hub's own cache (HF_HOME) as its client lays them out, and studies link to them. A
file that was cut off goes on where it stopped, also in another run, and a file gets its name in the
cache only when its checksum is the Hub's: SHA-256 for large files, git's blob hash for the others.
The client's own `snapshot_download` (huggingface_hub 2.4) does neither: it begins such a file anew,
and takes one whose bytes are not the Hub's as long as their number is. Where the Hub cannot be
reached, what the cache has is taken.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlg.errors import UserError
from vlg.files import link, read_json, sha256, write_checksum, write_json, write_text

log = logging.getLogger("vlg")

PREFIX = "hub:"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
REVISION = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}"
PATTERN = re.compile(rf"hub:(?P<id>{NAME}/{NAME})(@(?P<revision>{REVISION}))?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
TIMEOUT = 30  # seconds without an answer
MB = 1e6

Listing = dict[str, dict[str, Any]]  # {name: {"bytes": size, "hash": SHA-256 or git blob hash}}


@dataclass(frozen=True)
class Source:
    """A repository of the Hub; revision None is its main branch."""

    id: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.id}{f'@{self.revision}' if self.revision else ''}"


def parse(text: str) -> Source | None:
    """The source that `hub:owner/name[@revision]` names; None when the text is not of that form."""
    found = PATTERN.fullmatch(text)
    if not found or ".." in text or "--" in found["id"]:
        return None
    return Source(found["id"], found["revision"])


def same(one: str, other: str) -> bool:
    """Whether two sources are one repository, at whatever revisions."""
    a, b = parse(one), parse(other)
    return bool(a and b and a.id.lower() == b.id.lower())


class Repository:
    """One repository at one commit: what it holds, and its files on demand.

    kind: "model" or "dataset". key: the config key to name in errors. notes: a JSON file that
    remembers the commit and its listing for this source, written at the first visit.
    """

    def __init__(self, source: Source, kind: str, key: str, notes: Path) -> None:
        self.source, self.kind, self.key = source, kind, key
        known = read_json(notes) if notes.is_file() else {}
        if known.get("source") != str(source):
            self.commit, self.files = self._visit()
            known = {"source": str(source), "commit": self.commit, "files": self.files}
            write_json(notes, known)
            write_checksum(notes)
        self.commit: str = known["commit"]
        self.files: Listing = known["files"]

    @property
    def cache(self) -> Path:
        """The repository's folder in the Hub's cache."""
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        name = repo_folder_name(repo_id=self.source.id, repo_type=self.kind)
        return Path(constants.HF_HUB_CACHE) / name

    def _visit(self) -> tuple[str, Listing]:
        """(commit, listing) as the Hub tells them or, where it cannot be reached, the cache."""
        from huggingface_hub import HfApi, constants, errors

        with self._explained():
            try:
                if constants.is_offline_mode():
                    raise ConnectionError("HF_HUB_OFFLINE is set")
                info = HfApi(endpoint=constants.ENDPOINT).repo_info(
                    self.source.id,
                    revision=self.source.revision,
                    repo_type=self.kind,
                    timeout=TIMEOUT,
                    files_metadata=True,
                )
            except errors.HfHubHTTPError:
                raise
            except _unreachable() as error:
                if found := self._cached():
                    log.warning("%s: the Hub cannot be reached, the cache is used", self.source)
                    return found
                raise error
        # As the client does, so that it and we find the revision in the cache without a network.
        if self.source.revision != info.sha:
            write_text(self.cache / "refs" / (self.source.revision or "main"), info.sha)
        return info.sha, {
            each.rfilename: {
                "bytes": each.size,
                "hash": each.lfs.sha256 if each.lfs else each.blob_id,
            }
            for each in info.siblings
        }

    def _cached(self) -> tuple[str, Listing] | None:
        """What the cache has of the revision. Its blobs are named by their checksums."""
        commit = self.source.revision or "main"
        reference = self.cache / "refs" / commit
        if not COMMIT.fullmatch(commit) and reference.is_file():
            commit = reference.read_text().strip()
        snapshot = self.cache / "snapshots" / commit
        files = {
            path.relative_to(snapshot).as_posix(): {
                "bytes": path.stat().st_size,
                "hash": os.path.basename(os.readlink(path)),
            }
            for path in sorted(snapshot.rglob("*"))
            if path.is_symlink() and path.is_file()
        }
        return (commit, files) if files else None

    def get(self, names: Iterable[str], folder: Path) -> None:
        """Put files of the repository into `folder`, downloading what the cache lacks."""
        names = list(names)
        missing = [name for name in names if not self._blob(name).is_file()]
        self._check_space(missing)
        for name in names:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            link(self.file(name), target)

    def file(self, name: str) -> Path:
        """A file in the cache, downloaded if it is not there, with the checksum it should have."""
        blob = self._blob(name)
        if blob.is_file() and not self._intact(blob, name):
            log.warning("%s: damaged in the cache, downloaded again", blob)
            blob.unlink()
        if not blob.is_file():
            with self._explained(name):
                self._download(name, blob)
        pointer = self.cache / "snapshots" / self.commit / name
        if not pointer.exists():
            pointer.parent.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):  # where there are no symbolic links, only others miss it
                pointer.symlink_to(os.path.relpath(blob, pointer.parent))
        return blob

    def _blob(self, name: str) -> Path:
        return self.cache / "blobs" / self.files[name]["hash"]

    def _partial(self, name: str) -> Path:
        return self._blob(name).with_name(f"{self.files[name]['hash']}.part")

    def _have(self, name: str) -> int:
        """Bytes of a file that were downloaded before the connection was lost."""
        return self._partial(name).stat().st_size if self._partial(name).is_file() else 0

    def _intact(self, path: Path, name: str) -> bool:
        facts = self.files[name]
        if path.stat().st_size != facts["bytes"]:
            return False
        return digest(path, facts["hash"]) == facts["hash"]

    def _download(self, name: str, blob: Path) -> None:
        """Download a file beside its place in the cache, check it, and put it there."""
        from huggingface_hub import constants, hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import WeakFileLock, build_hf_headers

        if constants.is_offline_mode():
            raise ConnectionError("HF_HUB_OFFLINE is set")
        url = hf_hub_url(self.source.id, name, repo_type=self.kind, revision=self.commit)
        facts = self.files[name]
        partial = self._partial(name)
        locks = Path(constants.HF_HUB_CACHE) / ".locks" / self.cache.name
        for folder in (blob.parent, locks):
            folder.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(locks / f"{blob.name}.part.lock"):
            if not blob.is_file():
                with open(partial, "ab") as file:
                    if file.tell() > facts["bytes"]:
                        file.truncate(0)
                    log.info("%s: %s (%.1f MB)", self.source, name, facts["bytes"] / MB)
                    http_get(
                        url,
                        file,
                        resume_size=file.tell(),
                        headers=build_hf_headers(),
                        expected_size=facts["bytes"],
                        displayed_filename=name,
                    )
                if not self._intact(partial, name):
                    partial.unlink()
                    raise UserError(
                        f"{self.key}: {self.source}: the checksum of {name} is not the Hub's, the "
                        "download was thrown away; rerun to download it again"
                    )
                os.replace(partial, blob)

    def _check_space(self, names: list[str]) -> None:
        """UserError when the disk of the cache has no room for these files."""
        needed = sum(self.files[name]["bytes"] - self._have(name) for name in names)
        folder = next(path for path in [self.cache, *self.cache.parents] if path.is_dir())
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise self._no_space(f"{needed / MB:,.0f} MB are needed, {free / MB:,.0f} MB are free")

    def _no_space(self, why: str) -> UserError:
        return UserError(
            f"{self.key}: {self.source}: no space left in {self.cache.parent} ({why}); free some "
            "or set HF_HOME to another disk, and rerun: what is downloaded is kept"
        )

    @contextmanager
    def _explained(self, name: str = "") -> Any:
        """Errors of the Hub and of the way to it within the block, in one line each."""
        from huggingface_hub import constants, errors

        what = {"model": "model", "dataset": "data set"}[self.kind]
        begin = f"{self.key}: {self.source}"
        page = f"{constants.ENDPOINT}/{'datasets/' * (self.kind == 'dataset')}{self.source.id}"
        login = "log in with `hf auth login` or set HF_TOKEN"
        try:
            yield
        except errors.GatedRepoError:
            line = f"is gated; accept its terms at {page} and {login}"
            raise UserError(f"{begin} {line}") from None
        except errors.RevisionNotFoundError:
            line = f"no such revision of this {what}; give a branch, tag or commit that {page} has"
            raise UserError(f"{begin}: {line}") from None
        except errors.EntryNotFoundError as error:
            if not isinstance(error, errors.RemoteEntryNotFoundError):
                raise self._lost(name, error) from None
            line = f"{name} is gone from the Hub; name another revision"
            raise UserError(f"{begin}: {line}") from None
        except errors.HfHubHTTPError as error:
            status = error.response.status_code
            if status in (401, 403):
                line = f"the Hub refuses access ({status}), it may be private or misspelt; {login}"
            elif status == 404:
                line = f"the Hub has no such {what}; check its name at {page}"
            else:
                line = f"the Hub answers with status {status}; try again later"
            raise UserError(f"{begin}: {line}") from None
        except _unreachable() as error:
            raise self._lost(name, error) from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self._no_space(f"writing {name}") from None
            if "Consistency check failed" in str(error):  # ended early, without an error
                raise self._lost(name, error) from None
            raise

    def _lost(self, name: str, error: Exception) -> UserError:
        from huggingface_hub import constants

        if name and self._have(name):
            have = f"{self._have(name) / MB:,.1f} of {self.files[name]['bytes'] / MB:,.1f} MB"
            return UserError(
                f"{self.key}: {self.source}: the connection was lost in {name} ({have} are kept); "
                "rerun to go on from there"
            )
        why = str(error).partition("\n")[0] or type(error).__name__
        return UserError(
            f"{self.key}: {self.source}{f': {name}' if name else ''} is not in the cache "
            f"({constants.HF_HUB_CACHE}) and {constants.ENDPOINT} cannot be reached ({why}); "
            "connect to the network once, or give a local folder"
        )


def _unreachable() -> tuple[type[Exception], ...]:
    """What the client raises when there is no way to the Hub; catch HfHubHTTPError before."""
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

    return HTTPError, OfflineModeIsEnabled, ConnectionError


def digest(path: Path, like: str) -> str:
    """The SHA-256 of a file, or git's hash of it where `like` is one of these."""
    if len(like) == 64:
        return sha256(path)
    content = path.read_bytes()
    told = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return told.hexdigest()
