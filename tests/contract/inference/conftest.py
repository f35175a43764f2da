"""Every backend of the inference port, and the tiny random model that the real ones serve."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

import servers
from contract.inference.backends import BACKENDS, ENCODERS, EVALUATORS, LABELS
from contract.inference.openai_stub import Behaviour, openai_stub
from contract.inference.predictor_process import PredictorProcess, revive, started
from contract.inference.tgi_server import TgiServer
from contract.inference.tgi_thread import tgi_thread
from xinstruct.inference.kserve_v2 import KServeInference
from xinstruct.inference.local import LocalInference
from xinstruct.inference.openai_api import OpenAIInference
from xinstruct.inference.scripted import ScriptedInference
from xinstruct.inference.tgi import TgiInference
from xinstruct.spine.inference import Classify, Decoding, Embed, Generate, Inference, Request
from xinstruct.spine.journal import Journaled
from xinstruct.spine.sql import METADATA, open_engine

CONTEXT_TOKENS_MAX = 256
SERVE_START_S = 120


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Llama of 70,000 parameters and a byte-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        ["best reasonable worst"] * 9,
        trainers.BpeTrainer(vocab_size=320, special_tokens=["<e>", "<p>"], initial_alphabet=alphabet),
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<e>", pad_token="<p>")
    fast.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    torch.manual_seed(7)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(fast), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=CONTEXT_TOKENS_MAX, tie_word_embeddings=True, initializer_range=0.2,
        bos_token_id=None, eos_token_id=0, pad_token_id=1,
    ))
    folder = tmp_path_factory.mktemp("model") / "tiny"
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def transformers_serve(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real `transformers serve` with the tiny model; skipped by name where it cannot start."""
    command = shutil.which("transformers", path=str(Path(sys.executable).parent))
    if command is None:
        servers.absent("transformers-serve", "the command is not installed")
    port = servers.free_port()
    log, cache = tmp_path_factory.mktemp("serve") / "log", tmp_path_factory.mktemp("hub")
    # It lists the models of the hub's cache, and answers 500 where there is none.
    variables = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(command), "serve", str(tiny_model), "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=variables,
        )
        try:
            _await_models(port, process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture(scope="session")
def predictor_processes(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, PredictorProcess]]:
    """Role → a real predictor with the tiny model, on ports of its own. Tests may end them."""
    with started(("evaluator", "encoder"), tiny_model, tmp_path_factory.mktemp("predictors")) as running:
        yield running


@pytest.fixture
def predictors(predictor_processes: Mapping[str, PredictorProcess]) -> Mapping[str, PredictorProcess]:
    """The predictors, all of them ready."""
    revive(predictor_processes)
    return predictor_processes


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """The model that the backend under test is asked for: a predictor serves one, and knows it by its digest."""
    if not _named(request).startswith("kserve"):
        return "m"
    return request.getfixturevalue("predictors")["evaluator"].digest  # type: ignore[no-any-return]


@pytest.fixture
def ask(request: pytest.FixtureRequest, model: str) -> Callable[[str], Request]:
    """Text → the question that the backend under test is there for."""
    if _named(request) in EVALUATORS:
        return lambda text: Classify("evaluator", model, text, LABELS)
    if _named(request) in ENCODERS:
        return lambda text: Embed("encoder", model, text)
    return lambda text: Generate("generator", model, text, Decoding(6))


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inference]:
    """One backend after the other, each closed at the end."""
    opened: Inference
    if request.param == "scripted":
        opened = ScriptedInference()
    elif request.param == "journaled":
        engine = open_engine(f"sqlite:///{tmp_path}/journal.sqlite")
        METADATA.create_all(engine)
        opened = Journaled(ScriptedInference(), engine, owner="0", clock=lambda: 0)
    elif request.param == "local":
        folder = request.getfixturevalue("tiny_model")
        opened = LocalInference(lambda _role, _digest: folder, batch_rows=8)
    elif request.param == "tgi":
        with tgi_thread(TgiServer(str(request.getfixturevalue("tiny_model")))) as url:
            opened = TgiInference(url, votes_count=5)
            yield opened
            opened.close()
        return
    elif request.param.startswith("kserve"):
        _, role, transport = request.param.split()
        opened = KServeInference(request.getfixturevalue("predictors")[role].url(transport))
    elif request.param == "transformers serve":
        opened = OpenAIInference(request.getfixturevalue("transformers_serve"), votes_count=5)
    else:
        with openai_stub(Behaviour()) as url:
            opened = OpenAIInference(url, api="chat" if request.param == "openai chat" else "completions")
            yield opened
            opened.close()
        return
    yield opened
    opened.close()


def _named(request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["backend"])  # type: ignore[attr-defined]


def _await_models(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end_s = time.monotonic() + SERVE_START_S
    while time.monotonic() < end_s and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)  # a foreign process has no signal to wait for
    servers.absent("transformers-serve", log.read_text("utf-8", "replace")[-300:] or "it did not answer in time")
