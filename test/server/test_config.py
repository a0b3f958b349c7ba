"""Settings from a file, the environment and flags, their precedence, and errors for invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmduet.errors import OptionError
from mmduet.server.config import ServerConfig, load_config
from mmduet.server.settings_page import render_page

ROOT = Path(__file__).resolve().parents[2]


def test_flags_override_environment_and_environment_overrides_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.toml"
    file.write_text('port = 1\nmodel = "a"\nidle_timeout = 5.0\nkeys = ["k"]\n')
    monkeypatch.setenv("MMDUET_PORT", "2")
    monkeypatch.setenv("MMDUET_MODEL", "b")
    config = load_config(file, port=3, model=None)
    assert (config.port, config.model, config.idle_timeout) == (3, "b", 5.0)
    assert [key.get_secret_value() for key in config.keys] == ["k"]
    assert "k'" not in repr(config.keys)


def test_lists_in_the_environment_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMDUET_KEYS", "a, b,")
    monkeypatch.setenv("MMDUET_PULL_NETWORKS", "10.0.0.0/8")
    config = load_config(host="0.0.0.0")
    assert [key.get_secret_value() for key in config.keys] == ["a", "b"]
    assert config.url_policy.networks == ("10.0.0.0/8",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", "unknown setting prot, did you mean port?"),
        ("port = 'x'", "port"),
        ("port = 70000", "port"),
        ("port = ", "not valid TOML"),
        ("pull_networks = ['x']", "pull_networks"),
        ("log_level = 'loud'", "log_level"),
        ("host = '0.0.0.0'", "no key"),
    ],
)
def test_invalid_settings_are_named_in_the_error(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(OptionError, match=words):
        load_config(file)


def test_a_config_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("port = 4321\n", encoding="utf-8-sig")
    assert load_config(file).port == 4321
    file.write_bytes(b"port = '\xff'")
    with pytest.raises(OptionError, match=r"cannot be read .*save it as UTF-8 text"):
        load_config(file)


def test_missing_config_file_raises(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="does not exist"):
        load_config(tmp_path / "none.toml")


def test_example_config_is_valid() -> None:
    config = load_config(ROOT / "deploy" / "mmduet.toml")
    assert config.max_sessions == 64
    assert config.url_policy.hosts[0] == "videos.example.org"


def test_settings_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == render_page(), "run `make docs`"
    assert all(field.description for field in ServerConfig.model_fields.values())
