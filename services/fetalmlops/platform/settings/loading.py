"""Reading the settings from files, mounted secrets and the environment."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fetalmlops.domain.errors import SettingsError
from fetalmlops.platform.settings.whole import SECRETS_DIR, Settings

__all__ = ["home_folder", "load_settings"]


def home_folder() -> Path:
    """Return the absolute path of the state folder: ``FETALMLOPS_HOME``, or ``.fetalmlops`` here."""
    return Path(os.environ.get("FETALMLOPS_HOME") or ".fetalmlops").expanduser().absolute()


def load_settings(home: Path | None = None) -> Settings:
    """Read the settings.

    Parameters
    ----------
    home
        State folder; default `home_folder`.

    Raises
    ------
    SettingsError
        If a file is not TOML, a mounted secret cannot be read, or a setting is unknown or out of range; names the
        setting, never its value.
    """
    folder = (home or home_folder()).absolute()
    values: dict[str, Any] = {}
    for name in ("run/embedded.toml", "fetalmlops.toml"):
        _merge(values, _read_toml(folder / name))
    unknown = sorted(set(values) - set(Settings.model_fields))
    if unknown:
        msg = f"Expected settings of {folder / 'fetalmlops.toml'} that exist, got {', '.join(unknown)}; remove or rename them"
        raise SettingsError(msg)
    try:
        return Settings(**values).model_copy(update={"home": folder})
    except (OSError, UnicodeDecodeError) as error:
        msg = f"Expected readable text files in {SECRETS_DIR}, got {type(error).__name__}; mend them or their rights"
        raise SettingsError(msg) from None
    except ValidationError as error:
        places = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_input=False)
        )
        msg = f"Expected valid settings, got {places}; see the settings in docs/operations.md"
        raise SettingsError(msg) from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"Expected {path} to be TOML, got an error: {error}; mend the file"
        raise SettingsError(msg) from None


def _merge(into: dict[str, Any], values: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value
