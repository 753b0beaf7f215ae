"""Fixtures that several test modules may share."""

import os
from pathlib import Path

import pytest

from tests.pipeline import Checkout
from tools.browser import Browser, programs

# Files that take minutes. They come first, so that no worker is left alone with one at the end.
LONG = "pipeline slurm sd15 arms bad_input reruns ways additions training refusals evaluate storage"
LONG_FILES = {f"test_{name}.py": place for place, name in enumerate(LONG.split())}


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONG_FILES.get(item.path.name, len(LONG_FILES)))  # stable


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A copy of the checkout to run things in, at a path that shells must quote.

    With VLG_TEST_STUDY=FOLDER it is there and stays there: what a test run finished before is not
    made again, which saves minutes while tests or rules are being written.
    """
    kept = os.environ.get("VLG_TEST_STUDY")
    return Checkout(Path(kept or tmp_path_factory.mktemp("pipeline") / "it's a copy"))


@pytest.fixture(scope="session")
def study(checkout):
    """The same with the reduced study finished in results/reduced."""
    done = checkout.snakemake()
    assert done.code == 0, done.output
    return checkout


@pytest.fixture(scope="session")
def results(study):
    """The folder of the reduced study."""
    return study.root / "results/reduced"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium, where there is one."""
    if not all(programs()):
        pytest.skip("no chromium with chromedriver (Debian: chromium, chromium-driver)")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
