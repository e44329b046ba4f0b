from __future__ import annotations

import sys
from pathlib import Path

import attrs
import pytest
import tomlkit
from lightspeed_client.config import DEFAULT_TEXT, ClientConfig, known_keys, read, set_value
from lightspeed_protocol.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "lightspeed_client" / "lightspeed.toml.example"


def test_the_default_text_says_exactly_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text(DEFAULT_TEXT)
    assert read(tmp_path / "f.toml") == ClientConfig()
    assert tomlkit.parse(DEFAULT_TEXT).unwrap() == attrs.asdict(ClientConfig())


def test_the_example_file_is_the_default_text() -> None:
    assert EXAMPLE.read_text("utf-8") == DEFAULT_TEXT


def test_no_file_means_defaults_unless_it_was_named(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == ClientConfig()
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "none", must_exist=True)


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text(
        '[tunnel]\nfec = "xor:99"\nkeepalive_ms = true\nidle_timeout = 3\n'
        '[redirect]\nserver = "nowhere"\nlocal_port = 70000\n[nodes]\n'
    )
    with pytest.raises(ConfigError) as caught:
        read(path)
    text = str(caught.value)
    for part in (
        "xor:99", "want int, got True", "idle_timeout_s", "'nodes'", "port is missing", "70000",
    ):  # fmt: skip
        assert part in text
    assert len(caught.value.problems) >= 4


@pytest.mark.parametrize("text", ["= 1", "[tunnel", "\0"])
def test_broken_toml_is_a_config_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "f.toml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        read(path)


def test_setting_a_value_keeps_every_comment(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "f.toml"
    set_value(path, "tunnel.fec", "xor:4")
    set_value(path, "redirect.local_port", "27960")
    set_value(path, "node.address", "node.example.com")
    text = path.read_text()
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        line for line in DEFAULT_TEXT.splitlines() if line.startswith("#")
    ]
    config = read(path)
    assert (config.tunnel.fec, config.redirect.local_port) == ("xor:4", 27960)
    assert config.node.address == "node.example.com"
    if sys.platform != "win32":
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_missing_section_is_added(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text("# mine\n")
    set_value(path, "report.keep", "9")
    assert read(path).report.keep == 9
    assert path.read_text().startswith("# mine\n")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("tunnel.fex", "off", "unknown key"),
        ("tunnel.fec", "xor:1", "want off, auto, xor:K"),
        ("redirect.local_port", "70000", "65535"),
        ("redirect.local_port", "many", "whole number"),
        ("redirect.server", "nowhere", "port is missing"),
    ],
)
def test_a_bad_value_leaves_the_file_alone(tmp_path: Path, key: str, value: str, says: str) -> None:
    path = tmp_path / "f.toml"
    path.write_text(DEFAULT_TEXT)
    with pytest.raises(ValueError, match=says):
        set_value(path, key, value)
    assert path.read_text() == DEFAULT_TEXT


def test_every_key_can_be_set_to_its_default(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    for key, value in known_keys().items():
        set_value(path, key, str(value))
    assert read(path) == ClientConfig()
