"""Recipes: what they may say, and what their digest means."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fetalmlops.domain.errors import SettingsError
from fetalmlops.domain.imaging.pipelines import find_pipeline
from fetalmlops.training.recipe import decode_recipe, encode_recipe, find_recipe, packaged_recipes, recipe_digest

SMALL = b'name = "small"\nversion = "1.0.0"\n[input]\nrows = 64\ncolumns = 80\n'


@pytest.mark.parametrize("name", packaged_recipes())
def test_packaged_recipes_name_themselves_and_a_pipeline_and_survive_being_written(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name
    find_pipeline(recipe.pipeline)
    assert decode_recipe(encode_recipe(recipe)) == recipe


def test_the_digest_is_that_of_the_meaning() -> None:
    digest = recipe_digest(decode_recipe(SMALL))
    assert recipe_digest(decode_recipe(b"# a comment\n" + SMALL)) == digest
    assert recipe_digest(decode_recipe(SMALL + b'[search]\n"fitting.batch" = { choices = [8, 16] }\n')) == digest
    changed = [b"fit = 'stretch'\n", b"[fitting]\nbatch = 7\n", b"[augmentation]\nturn = 1.0\n"]
    assert len({digest, *(recipe_digest(decode_recipe(SMALL + each)) for each in changed)}) == 4


@pytest.mark.parametrize(
    "wrong",
    [
        b"name = ",
        b"\xff",
        SMALL.replace(b"small", b"Two Words"),
        SMALL + b"[fitting]\nepoch = 3\n",
        SMALL + b"[fitting]\nepochs = 0\n",
        SMALL + b"fit = 'another'\n",
        b"format = 2\n" + SMALL,
        SMALL + b'[search]\n"fitting.batch" = { low = 3.0 }\n',
        SMALL + b'[search]\n"fitting.batch" = { low = 0.0, high = 1.0 }\n',
    ],
)
def test_a_recipe_that_breaks_the_schema_is_refused(wrong: bytes) -> None:
    with pytest.raises(SettingsError, match="Expected a recipe"):
        decode_recipe(wrong)


def test_a_recipe_is_found_by_name_or_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(SMALL)
    assert find_recipe(str(tmp_path / "mine.toml")) == decode_recipe(SMALL)
    with pytest.raises(SettingsError, match="demonstration"):
        find_recipe("none-of-them")
    assert msgspec.structs.asdict(find_recipe("demonstration"))["release_status"] == "demonstration"
