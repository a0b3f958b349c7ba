"""Settings come from a file, the environment and flags, in that order, and wrong ones are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmduet.errors import OptionError
from mmduet.server.config import ServerConfig, load_config
from mmduet.server.settings_page import MEANINGS, page

ROOT = Path(__file__).resolve().parents[2]


def test_flags_outrank_the_environment_and_that_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.toml"
    file.write_text('port = 1\nmodel = "a"\nidle_timeout = 5.0\nkeys = ["k"]\n')
    monkeypatch.setenv("MMDUET_PORT", "2")
    monkeypatch.setenv("MMDUET_MODEL", "b")
    config = load_config(file, port=3, model=None)
    assert (config.port, config.model, config.idle_timeout) == (3, "b", 5.0)
    assert [key.get_secret_value() for key in config.keys] == ["k"]
    assert "k'" not in repr(config.keys)


def test_lists_in_the_environment_have_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMDUET_KEYS", "a, b,")
    monkeypatch.setenv("MMDUET_PULL_NETWORKS", "10.0.0.0/8")
    config = load_config(host="0.0.0.0")
    assert [key.get_secret_value() for key in config.keys] == ["a", "b"]
    assert config.guard.networks == ("10.0.0.0/8",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", "prot is no setting, perhaps port is meant"),
        ("port = 'x'", "port"),
        ("port = 70000", "port"),
        ("port = ", "no.*TOML|not TOML"),
        ("pull_networks = ['x']", "pull_networks"),
        ("log_level = 'loud'", "log_level"),
        ("host = '0.0.0.0'", "no key"),
    ],
)
def test_wrong_settings_are_named(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(OptionError, match=words):
        load_config(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="does not exist"):
        load_config(tmp_path / "none.toml")


def test_the_example_is_in_order() -> None:
    config = load_config(ROOT / "deploy" / "mmduet.toml")
    assert config.max_sessions == 64
    assert config.guard.hosts[0] == "videos.example.org"


def test_the_page_is_as_the_settings_are() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == page(), "run `make docs`"
    assert set(MEANINGS) <= set(ServerConfig.model_fields)
    for line in page().splitlines()[8:]:
        assert not line.endswith("|  |"), line
