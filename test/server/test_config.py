"""Settings from a file, the environment and flags, their precedence, and errors for invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from mmduet.cli.main import app
from mmduet.errors import OptionError
from mmduet.server.config import ServerConfig
from mmduet.server.config_loading import load_config
from mmduet.server.environment import warn_about_client_key
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
        ("trusted_proxies = ['10.0.0.1']", "no key"),
        ("trusted_proxies = ['proxy']", "trusted_proxies.*'proxy'"),
        ("root_path = 'mmduet'", "root_path: it must be a path such as /mmduet, got 'mmduet'"),
        ("root_path = '/a b'", "root_path"),
        ("tls_key = 'key.pem'", "tls_certificate is not"),
        ("tls_certificate = 'none.pem'", "tls_certificate none.pem cannot be read"),
        ("pull_roots = ['/nope']", "setting pull_roots: '/nope' is not a directory; create or mount it first"),
        ("pull_roots = ['pyproject.toml']", "'pyproject.toml' is not a directory"),
        ("pull_hosts = ['https://h.example']", "pull_hosts: it must be a host name without scheme and port"),
        ("pull_hosts = ['h.example:80']", "pull_hosts"),
        ("pull_hosts = ['x*']", "pull_hosts"),
        ("pull_webcams = ['camera']", "pull_webcams: it must be webcam, webcam:NUMBER or webcam:DEVICE, got 'camera'"),
        ("dtype = 'float8'", "dtype"),
        ("quantized = 'int4'", "quantized"),
        ("quantized_tower = 'nf4'", "quantized_tower"),
        ("threads = 0", "threads"),
        ("frames_per_second_per_key = 0", "frames_per_second_per_key"),
        ("tokens_per_second_per_key = inf", "tokens_per_second_per_key"),
        ("adapters = ['cooking']", "NAME=DIR"),
    ],
)
def test_invalid_settings_are_named_in_the_error(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(OptionError, match=words):
        load_config(file)


SET_ELSEWHERE = {"config", "help"}
SETTING_OF_FLAG = {"named_adapter": "adapters"}
EXAMPLES = {
    "model": "m",
    "adapter": "a",
    "adapters": "x=dir/x,y=dir/y",
    "device": "cpu",
    "dtype": "bfloat16",
    "attention": "loop",
    "kv_dtype": "fp8",
    "quantized": "nf4",
    "quantized_tower": "int8",
    "allow_pickle": "true",
    "threads": "3",
    "host": "localhost",
    "port": "99",
    "root_path": "/mmduet",
    "max_sessions": "5",
    "max_sessions_per_key": "3",
    "max_sources_per_key": "5",
    "frames_per_second_per_key": "6",
    "bytes_per_second_per_key": "99",
    "frames_per_second_per_client_secret": "6",
    "max_sessions_per_client_secret": "3",
    "page": "true",
    "public": "true",
    "tokens_per_second_per_key": "3",
    "key_burst_seconds": "5",
    "max_utilization": "0.8",
    "kv_memory_mb": "6",
    "tracing": "true",
    "journal": "j",
    "log_level": "error",
    "log_json": "true",
}


def serve_flags() -> set[str]:
    """Return the names of the flags of ``mmduet serve``."""
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    return {parameter.name for parameter in command.params} - SET_ELSEWHERE


def test_whatever_a_flag_sets_can_be_set_in_the_file_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {SETTING_OF_FLAG.get(flag, flag) for flag in serve_flags()}
    assert settings <= set(ServerConfig.model_fields)
    assert settings == EXAMPLES.keys() | {"tls_certificate", "tls_key"}  # whose files have to exist: test_tls.py
    file = tmp_path / "a.toml"
    plain = {name: text for name, text in EXAMPLES.items() if name != "adapters"}
    lines = [
        f"{name} = {text if text in ('true', '3', '5', '6', '99') else repr(text)}" for name, text in plain.items()
    ]
    file.write_text("\n".join(lines) + "\n[adapters]\nx = 'dir/x'\ny = 'dir/y'\n")
    from_file = load_config(file)
    for name, text in EXAMPLES.items():
        monkeypatch.setenv(f"MMDUET_{name.upper()}", text)
    from_environment = load_config()
    assert from_file.model_dump() == from_environment.model_dump()
    assert from_file.adapters == {"x": Path("dir/x"), "y": Path("dir/y")}
    assert all(
        getattr(from_file, name) != getattr(ServerConfig.model_fields[name], "default", None) for name in EXAMPLES
    )


def test_adapters_in_the_environment_may_be_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMDUET_ADAPTERS", '{"x": "a,b"}')
    assert load_config().adapters == {"x": Path("a,b")}
    monkeypatch.setenv("MMDUET_ADAPTERS", '{"x": ')
    with pytest.raises(OptionError, match="setting adapters"):
        load_config()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MMDUET_KEYSS", "MMDUET_KEYS"),
        ("MMDUET_MAX_SESSION", "MMDUET_MAX_SESSIONS"),
        ("mmduet_prot", "MMDUET_PORT"),
        ("MMDUET_NAMED_ADAPTER", "MMDUET_ADAPTER"),
    ],
)
def test_unknown_variables_are_reported_with_what_is_meant(
    name: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(OptionError, match=rf"unknown environment variable {name}, did you mean {meant}\?"):
        load_config()


def test_unknown_variable_without_a_similar_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMDUET_SERVICE_HOST", "10.0.0.1")  # Kubernetes sets it for a service of that name
    with pytest.raises(OptionError, match="unknown environment variable MMDUET_SERVICE_HOST; unset it"):
        load_config()


def test_variables_of_other_commands_are_accepted_and_empty_ones_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MMDUET_KEY", "MMDUET_DEBUG", "MMDUET_JUDGE_KEY", "MMDUET_CONFIG"):
        monkeypatch.setenv(name, "1")
    for name in ("MMDUET_JOURNAL", "MMDUET_PORT", "MMDUET_KEYS"):
        monkeypatch.setenv(name, "")
    config = load_config()
    assert (config.journal, config.port, config.keys) == (None, 8765, ())


def test_a_client_key_in_the_servers_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MMDUET_KEY", "k")
    with pytest.raises(OptionError, match=r"set MMDUET_KEYS \(MMDUET_KEY is for clients\)"):
        load_config(host="0.0.0.0")
    warn_about_client_key(load_config(keys="k").keys)
    assert not caplog.records
    warn_about_client_key(load_config().keys)
    assert "MMDUET_KEYS" in caplog.text


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
