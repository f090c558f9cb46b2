"""What an upload needs is checked against a hub before a run begins."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ip2p.errors import ConfigError
from ip2p.train.hub import push_editor, require_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """A hub on this machine, whose answer to who is asking has the status that it is given."""
    answers = {"status": 200}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"type": "user", "name": "ann", "orgs": [{"name": "lab"}]}).encode()
            self.send_response(answers["status"])
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield lambda status: answers.update(status=status)
    server.shutdown()
    server.server_close()


def test_whoever_may_write_is_let_through(hub: Callable[[int], None]) -> None:
    said: list[str] = []
    for name in ("editor", "ann/editor", "lab/editor"):
        require_hub(name, say=said.append)
    assert said == []


def test_another_owner_is_refused_with_the_right_name(hub: Callable[[int], None]) -> None:
    with pytest.raises(ConfigError, match=r"you are logged in as ann and lab, not as bob\. Give ann/editor"):
        require_hub("bob/editor", say=lambda _: None)


def test_a_token_that_is_refused_ends_the_run_and_a_hub_that_is_ill_does_not(hub: Callable[[int], None]) -> None:
    said: list[str] = []
    hub(401)
    with pytest.raises(ConfigError, match="refuses the token"):
        require_hub("ann/editor", say=said.append)
    hub(500)
    require_hub("ann/editor", say=said.append)
    assert len(said) == 1 and "uploaded at the end" in said[0]


def test_without_a_login_or_a_way_to_the_hub_one_may_train_and_without_a_name_not(
    hub: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no name on the hub"):
        require_hub("a b/c/d", say=lambda _: None)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    said: list[str] = []
    require_hub("ann/editor", say=said.append)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    require_hub("ann/editor", say=said.append)
    assert len(said) == 2 and "hf auth login" in said[0] and "HF_HUB_OFFLINE" in said[1]


def test_a_failed_upload_says_how_to_do_it_by_hand(hub: Callable[[int], None], tmp_path: Path) -> None:
    hub(500)
    told = push_editor(tmp_path, "ann/editor")
    assert told.startswith("not uploaded as ann/editor") and f"hf upload ann/editor {tmp_path}" in told
