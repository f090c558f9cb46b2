"""What cannot be sent is told in one line before the first request, and nothing is booked."""

from pathlib import Path

import pytest
from llm_server import Server

from ip2p.cli import run
from ip2p.data_gen.config import TriplesConfig
from ip2p.data_gen.writers.api.writer import ApiWriter
from ip2p.errors import ConfigError, Ip2pError, WriterError


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1080", r"no request can be sent to .*socksio.*pip install 'httpx2\[socks\]'"),
        ("HTTP_PROXY", "gopher://127.0.0.1:1", "no request can be sent to .*proxy.*Check HTTP_PROXY"),
        ("HTTPS_PROXY", "http://[::1", "no request can be sent to .*Invalid port.*Check HTTP_PROXY"),
        ("SSL_CERT_FILE", "/none.pem", "no request can be sent to .*No such file.*SSL_CERT_FILE"),
        ("OPENAI_API_KEY", "sk-a\u2011b", "character 5 of OPENAI_API_KEY is none that a .* Copy it again"),
        ("OPENAI_API_KEY", "sk-\u00e9", "character 4 of OPENAI_API_KEY"),
        ("OPENAI_API_KEY", "sk-a\nb", "character 5 of OPENAI_API_KEY"),
        ("OPENAI_ORG_ID", "org\u2013x", "character 4 of OPENAI_ORG_ID"),
        ("OPENAI_PROJECT_ID", "proj\r", "character 5 of OPENAI_PROJECT_ID"),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_is_told_before_the_first_request(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    for model in ("", "named"):
        with pytest.raises(WriterError, match=message) as caught:
            ApiWriter(TriplesConfig(writer="openai", base_url=server.url, model=model), tmp_path, seed=0, say=print)
        assert "\n" not in str(caught.value) and "sk-" not in str(caught.value)
    assert not server.requests and list(tmp_path.iterdir()) == []


def test_space_around_a_key_is_not_part_of_it(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", " sk-CANARY-0123456789\r\n")
    asks = ApiWriter(TriplesConfig(writer="openai", base_url=server.url), tmp_path, seed=0, say=str)
    assert asks.key == "sk-CANARY-0123456789"


@pytest.mark.parametrize(
    "url", ["localhost:8000/v1", "http://", "htp://x/v1", "http://a b/v1", "http://[::1", "http://x:99999/v1"]
)
def test_what_is_no_address_is_told(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="is no address of a server. Set triples.base_url") as caught:
        ApiWriter(TriplesConfig(writer="openai", base_url=url, model="m"), tmp_path, seed=0, say=print)
    assert repr(url) in str(caught.value) and list(tmp_path.iterdir()) == []


def test_why_a_server_cannot_be_reached_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    with pytest.raises(Ip2pError, match="no server at .*Connection error.*(refused|attempts failed)"):
        ApiWriter(TriplesConfig(writer="openai", base_url="http://127.0.0.1:9/v1"), tmp_path, seed=0, say=print)


def test_the_command_line_says_it_in_one_line(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    file = tmp_path / "captions.txt"
    file.write_text("a barn\n")
    options = ["--writer", "openai", "--base-url", server.url, "--captions", str(file), "-o", str(tmp_path / "out")]
    assert run(["dataset", "triples", *options]) == 2
    assert "SOCKS" in capsys.readouterr().err and not list(tmp_path.rglob("asked.jsonl"))
