from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM


@pytest.fixture(scope="session")
def small_model(tmp_path_factory, tiny_tokenizer):
    """A folder with a random two-layer Llama and the tokenizer of the embedded backbone."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.1,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tiny_tokenizer.eos_token_id,
        pad_token_id=tiny_tokenizer.pad_token_id,
    )
    folder = tmp_path_factory.mktemp("small")
    LlamaForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


class PlayedTeacher(ThreadingHTTPServer):
    """A chat endpoint that answers with a function of the prompt, and keeps the prompts."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        super().__init__(("127.0.0.1", 0), _Chat)
        self.answer, self.prompts = answer, []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class _Chat(BaseHTTPRequestHandler):
    server: PlayedTeacher  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        self.server.prompts.append(prompt)
        message = {"content": self.server.answer(prompt)}
        content = json.dumps({"choices": [{"message": message}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def play_teacher() -> Callable[[Callable[[str], str]], AbstractContextManager[PlayedTeacher]]:
    """`with play_teacher(answer) as teacher`: its `url`, and `prompts` as they come in."""

    @contextmanager
    def play(answer: Callable[[str], str]) -> Iterator[PlayedTeacher]:
        with PlayedTeacher(answer) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            yield server
            server.shutdown()
            thread.join()

    return play
