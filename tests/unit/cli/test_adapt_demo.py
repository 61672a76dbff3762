"""Every level of ``adapt`` at a site whose scanner the bundle never saw; needs the train extra."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("mlflow", reason="training needs the train extra")

from fetalmlops.cli.adapt import Level, Wish, fit_site
from fetalmlops.cli.adapt_demo import Sizes, adapt_all, show, sound, train_old
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.phantoms.site import plan_site
from fetalmlops.platform.inference.bundles import DEMONSTRATION, PACKAGED, list_bundles, open_bundle
from fetalmlops.platform.learning.datasets import open_dataset
from fetalmlops.platform.learning.phantoms import write_dataset
from fetalmlops.platform.settings import Settings

pytestmark = [pytest.mark.torch, pytest.mark.timeout(1800)]

SIZES = Sizes(judge=720)


@pytest.mark.slow
def test_no_level_does_harm_and_one_is_shown_better_at_the_new_site(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Processors round otherwise, so that each trains another network from one seed: what a level gains differs, and a changed
    # network may be refused. What must hold on all of them is that what is made does no harm, and that something is made.
    old = train_old(tmp_path, SIZES, seed=2, workers=1)
    held = adapt_all(old, tmp_path, SIZES, seed=2, workers=1)
    with capsys.disabled():
        show(held)
    assert [each.level for each in held] == [Level.CALIBRATE, *Level]
    for each in held:
        assert not each.harmful, each.name
        assert each.benefit or (each.level is not Level.CALIBRATE and "no bundle is made" in each.refused), each.refused
    assert sound(held)


def test_a_head_that_is_not_shown_better_is_refused_and_no_bundle_is_made(tmp_path: Path) -> None:
    old = open_bundle(tmp_path, DEMONSTRATION)
    write_dataset(tmp_path / "known", plan_site("known", ["beta"], 80, seed=1), "known", workers=1)
    data = open_dataset(Settings(home=tmp_path), tmp_path / "known")
    with pytest.raises(ContractError, match=r"over 20 patients; no bundle is made") as caught:
        fit_site(tmp_path, old, data, None, Wish(level=Level.HEAD, name="never", risk=0.45))
    assert caught.value.reason == "no-better"
    assert list_bundles(tmp_path) == [*PACKAGED]
