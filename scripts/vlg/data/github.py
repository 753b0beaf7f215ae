"""Files of a GitHub repository at one revision, downloaded once and known by their checksums.

They lie in HF_HOME/github, each named by its checksum, and studies link to them. No credential is
sent, and none is needed.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from vlg.data.hub import NAME, REVISION, Source, digest
from vlg.errors import UserError
from vlg.files import link

log = logging.getLogger("vlg")

URL = "https://raw.githubusercontent.com"
PATTERN = re.compile(rf"github:(?P<id>{NAME}/{NAME})@(?P<revision>{REVISION})", re.ASCII)


def parse(text: str) -> Source:
    """The repository and revision of `github:owner/name@revision`; ValueError for another text."""
    found = PATTERN.fullmatch(text)
    if not found or ".." in text:
        raise ValueError(f"{text}: not github:owner/name@revision")
    return Source(found["id"], found["revision"])


class Repository:
    """Files of one repository.

    files: {path: the SHA-256 of the file, or git's hash of it}. key: the config key to name in
    errors.
    """

    def __init__(self, source: Source, files: Mapping[str, str], key: str) -> None:
        self.source, self.files, self.key = source, files, key
        self.commit = source.revision

    def get(self, names: Iterable[str], folder: Path) -> None:
        """Put files into `folder`, downloading those that are not in the cache."""
        for name in names:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            link(self._file(name), target)

    @property
    def cache(self) -> Path:
        """Where downloaded files lie."""
        from huggingface_hub import constants

        return Path(constants.HF_HOME) / "github"

    def _file(self, name: str) -> Path:
        """A file in the cache, with the checksum it should have."""
        expected = self.files[name]
        path = self.cache / expected
        if path.is_file() and digest(path, expected) != expected:
            log.warning("%s: damaged in the cache, downloaded again", path)
            path.unlink()
        if not path.is_file():
            self._download(name, path, expected)
        return path

    def _lost(self, begin: str, name: str, error: Exception) -> UserError:
        why = str(error).partition("\n")[0] or type(error).__name__
        return UserError(
            f"{begin}: {name} is not in the cache ({self.cache}) and {URL} cannot be reached "
            f"({why}); connect to the network once, or give the prompts as a file"
        )

    def _download(self, name: str, path: Path, expected: str) -> None:
        from huggingface_hub import constants, errors
        from huggingface_hub.file_download import http_get

        begin = f"{self.key}: github.com/{self.source.id} at {self.source.revision}"
        lost = (errors.HTTPError, errors.OfflineModeIsEnabled, ConnectionError)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
        try:
            if constants.is_offline_mode():
                raise ConnectionError("HF_HUB_OFFLINE is set")
            log.info("%s: %s", begin, name)
            url = f"{URL}/{self.source.id}/{self.source.revision}/{quote(name)}"
            with open(partial, "wb") as file:
                http_get(url, file, displayed_filename=name)
            if (found := digest(partial, expected)) != expected:
                raise UserError(
                    f"{begin}: {name} has another checksum, {found}, and was thrown away; rerun to "
                    "download it again, or give the prompts as a file"
                )
            os.replace(partial, path)
        except errors.HfHubHTTPError as error:
            status = error.response.status_code
            what = f"there is no {name}" if status == 404 else f"GitHub answers with {status}"
            remedy = "name another revision" if status == 404 else "try again later"
            raise UserError(f"{begin}: {what}; {remedy}, or give the prompts as a file") from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(
                    f"{begin}: no space left in {self.cache} (writing {name}); free some or set "
                    "HF_HOME to another disk, and rerun"
                ) from None
            # What ends early has no error of its own.
            if not isinstance(error, lost) and "Consistency check failed" not in str(error):
                raise
            raise self._lost(begin, name, error) from None
        except lost as error:
            raise self._lost(begin, name, error) from None
        finally:
            with suppress(OSError):
                partial.unlink()
