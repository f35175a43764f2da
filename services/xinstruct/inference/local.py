"""Models in this process: transformers on one worker thread, batched, and batch-invariant.

Every batch has a fixed shape: rows filled up to `batch_rows`, lengths padded up to a step. So an answer depends on its
request alone, bit for bit, whatever company it had. Not covered: another machine or library version, and more than one
thread, where the last bits of a score depend on the row's place (measured with the tiny models and two threads).
Weights are safetensors only; code that comes with a model is never run.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xinstruct.inference.local_writer import Writer
from xinstruct.spine.errors import Invalid, NotFound, Unavailable, XinstructError
from xinstruct.spine.inference import (
    Answer,
    Classified,
    Classify,
    Embedded,
    Features,
    Generate,
    Generated,
    Inference,
    Refused,
    Request,
)

if TYPE_CHECKING:
    import torch

LENGTH_STEP_TOKENS = 64
"""Prompts are padded to a multiple of this; longer ones than 16 steps to a power of two."""
LOOK_AHEAD_BATCHES = 4
"""How far behind the oldest request company of its length is looked for."""

Resolve = Callable[[str, str], Path]
"""(role, model digest) → folder; NotFound when there is no such model."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that was answered: how long each of its rows had waited for it, and how long it took, in seconds."""

    waits_s: tuple[float, ...]
    run_s: float


@dataclass(slots=True)
class _Task:
    """`tokens` of the prompt, None until it was looked at: a task that waits is looked at for several batches."""

    request: Request
    future: Future[Answer]
    submit_s: float
    tokens: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Loaded:
    model: Any
    tokenizer: Any
    context_tokens_max: int


@dataclass(frozen=True, slots=True)
class _Row:
    """A task with its prompt as tokens."""

    task: _Task
    tokens: tuple[int, ...]


class LocalInference(Inference):
    """Models of this process by role and digest; at most `models_max` stay loaded.

    A batch that is not full waits `batch_wait_s` at most, from its oldest row's arrival, for company. `observe` is told
    of every batch, on the worker's thread.
    """

    def __init__(
        self, resolve: Resolve, *, batch_rows: int = 16, threads_count: int = 1, models_max: int = 3,
        warm_up_s: float = 0.0, batch_wait_s: float = 0.0, observe: Callable[[Batch], None] = lambda _: None,
    ) -> None:
        self._resolve = resolve
        self._batch_rows = batch_rows
        self._threads_count = threads_count
        self._models_max = models_max
        self._models: OrderedDict[tuple[Path, str], _Loaded] = OrderedDict()
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._waiting: list[_Task] = []
        self._lock = threading.Lock()
        self._closed = False
        self._warm_up_s = warm_up_s or None
        self._batch_wait_s = batch_wait_s
        self._observe = observe
        self._thread = threading.Thread(target=self._work, name="local-inference", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Future[Answer]:
        """See Inference."""
        future: Future[Answer] = Future()
        with self._lock:
            if self._closed:
                future.set_exception(Unavailable("the endpoint is closed"))
            else:
                self._tasks.put(_Task(request, future, time.monotonic()))
        return future

    def waiting(self) -> int:
        """Requests that were submitted and are not answered, as far as one can tell without stopping the worker."""
        return self._tasks.qsize() + len(self._waiting)

    def probe(self) -> Features:
        """See Inference. Unavailable when the libraries are not installed."""
        try:
            import torch  # noqa: F401
            import transformers  # noqa: F401
        except ImportError as error:
            hint = f"{error.name} is not installed: install the [model] extra, or use kind: openai"
            raise Unavailable(hint) from error
        return Features(log_probabilities=True, label_probabilities=True, embeddings=True, model="local")

    def close(self) -> None:
        """See Inference."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._tasks.put(None)
        self._thread.join()

    def _work(self) -> None:
        """The thread: the oldest request and all of its kind that wait, as one batch, again and again."""
        open_ = True
        while open_ or self._waiting:
            if open_ and not self._receive():
                open_ = False
                for task in self._waiting:
                    _fail(task.future, Unavailable("the endpoint was closed before it answered"))
                self._waiting = []
            if self._waiting:
                self._answer_oldest()

    def _receive(self) -> bool:
        """Take what was submitted, waiting only when there is nothing to do, or for company; False when closed."""
        while True:
            wait_s = self._patience_s() if self._waiting else self._warm_up_s
            if wait_s == 0.0 and self._tasks.empty():
                return True
            try:
                task = self._tasks.get(timeout=wait_s)
            except queue.Empty:
                if not self._waiting:
                    self._warm_up()
                continue
            if task is None:
                return False
            self._waiting.append(task)

    def _patience_s(self) -> float:
        """How much longer the oldest request waits for company; 0 when there is enough of it."""
        if len(self._waiting) >= self._batch_rows:
            return 0.0
        return max(0.0, self._waiting[0].submit_s + self._batch_wait_s - time.monotonic())

    def _warm_up(self) -> None:
        """Load the libraries while nobody asks: about ten seconds that the first answer need not wait for."""
        self._warm_up_s = None
        with suppress(ImportError):  # probe() says what is missing
            from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

    def _answer_oldest(self) -> None:
        first = self._waiting[0].request
        kind = _kind(first)
        alike = (task for task in self._waiting if _kind(task.request) == kind)
        same = list(islice(alike, LOOK_AHEAD_BATCHES * self._batch_rows))
        try:
            loaded = self._load(first)
            rows = [row for task in same if (row := _row(task, loaded)) is not None]
            batch = _batch_of(rows, self._batch_rows)
            done = [row.task for row in batch] + [task for task in same if task.future.done()]
            self._run(first, loaded, batch)
        except NotFound as error:
            done = same
            for task in same:
                _succeed(task.future, Refused("unknown_model", error.message))
        except XinstructError as error:
            done = same
            for task in same:
                _fail(task.future, error)
        finished = {id(task) for task in done}
        self._waiting = [task for task in self._waiting if id(task) not in finished]

    def _run(self, first: Request, loaded: _Loaded, batch: Sequence[_Row]) -> None:
        if not batch:
            return
        begin_s = time.monotonic()
        shaped = [row.tokens for row in batch]
        if isinstance(first, Generate):
            requests = [row.task.request for row in batch]
            answers: list[Answer] = list(_generate(loaded, requests, shaped, self._batch_rows))
        elif isinstance(first, Classify):
            answers = list(_classify(loaded, first.labels, shaped, self._batch_rows))
        else:
            answers = list(_embed(loaded, shaped, self._batch_rows))
        waits_s = tuple(begin_s - row.task.submit_s for row in batch)
        self._observe(Batch(waits_s, time.monotonic() - begin_s))
        for row, answer in zip(batch, answers, strict=True):
            _succeed(row.task.future, answer)

    def _load(self, request: Request) -> _Loaded:
        # A sentence encoder has no language model's head: loaded with one, it would get a random one, and say so.
        loader = "AutoModelForCausalLM" if isinstance(request, Generate | Classify) else "AutoModel"
        key = (self._resolve(request.role, request.model), loader)
        if key not in self._models:
            while len(self._models) >= self._models_max:
                self._models.popitem(last=False)
            self._models[key] = _load_folder(*key, self._threads_count)
        self._models.move_to_end(key)
        return self._models[key]


def _kind(request: Request) -> tuple[object, ...]:
    """Requests of equal kind may share a batch."""
    if isinstance(request, Generate):
        return ("generate", request.role, request.model, request.decoding.tokens_max)
    if isinstance(request, Classify):
        return ("classify", request.role, request.model, request.labels)
    return ("embed", request.role, request.model)


def _row(task: _Task, loaded: _Loaded) -> _Row | None:
    """The task as tokens; None when it was refused instead."""
    request = task.request
    if task.tokens is None:
        task.tokens = _prompt_tokens(loaded.tokenizer, request)
    tokens = task.tokens
    room = loaded.context_tokens_max - (request.decoding.tokens_max if isinstance(request, Generate) else 0)
    if len(tokens) > room:
        _succeed(task.future, Refused("too_long", f"{len(tokens)} prompt tokens, {max(0, room)} fit"))
        return None
    if not tokens:
        _succeed(task.future, Refused("malformed", "an empty prompt"))
        return None
    return _Row(task, tokens)


def _prompt_tokens(tokenizer: Any, request: Request) -> tuple[int, ...]:
    text = request.prompt if isinstance(request, Generate | Classify) else request.text
    if getattr(tokenizer, "chat_template", None) and not hasattr(request, "text"):
        message = [{"role": "user", "content": text}]
        return tuple(tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=True)["input_ids"])
    return tuple(tokenizer(text)["input_ids"])


def _batch_of(rows: Sequence[_Row], rows_max: int) -> list[_Row]:
    """The oldest row and those of its padded length, oldest first."""
    if not rows:
        return []
    length = _padded(len(rows[0].tokens))
    return [row for row in rows if _padded(len(row.tokens)) == length][:rows_max]


def _padded(count: int) -> int:
    """The length that `count` tokens are padded to."""
    steps = math.ceil(count / LENGTH_STEP_TOKENS)
    return LENGTH_STEP_TOKENS * (steps if steps <= 16 else 2 ** math.ceil(math.log2(steps)))


def _load_folder(folder: Path, loader: str, threads_count: int) -> _Loaded:
    """The model in `folder` as the class of transformers named `loader`; NotFound when there is none."""
    import torch
    import transformers

    torch.set_num_threads(threads_count)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = getattr(transformers, loader).from_pretrained(
            folder, trust_remote_code=False, use_safetensors=True, dtype=torch.float32, attn_implementation="sdpa"
        )
    except (OSError, ValueError) as error:
        raise NotFound(f"{folder.name} holds no model that can be loaded: {str(error)[:200]}") from error
    model.eval()
    return _Loaded(model, tokenizer, int(model.config.max_position_embeddings))


def _shape(loaded: _Loaded, rows: Sequence[tuple[int, ...]], batch_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token and mask tensors of the fixed shape, padded on the left, filled up with copies of the first row."""
    import torch

    length = _padded(len(rows[0]))
    filler = loaded.tokenizer.pad_token_id if loaded.tokenizer.pad_token_id is not None else 0
    filled = [*rows, *[rows[0]] * (batch_rows - len(rows))]
    ids = torch.tensor([[filler] * (length - len(row)) + list(row) for row in filled])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in filled])
    return ids, mask


def _generate(
    loaded: _Loaded, requests: Sequence[Any], rows: Sequence[tuple[int, ...]], batch_rows: int
) -> list[Generated]:
    import torch

    ids, mask = _shape(loaded, rows, batch_rows)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    ends = _end_tokens(loaded)
    writers = [Writer(request, loaded.tokenizer, ends) for request in requests]
    cache = None
    with torch.inference_mode():
        for _ in range(requests[0].decoding.tokens_max):
            step = loaded.model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
                logits_to_keep=1,
            )
            cache = step.past_key_values
            scores = torch.log_softmax(step.logits[:, -1].float(), dim=-1)
            tokens = [writer.next(scores[index]) for index, writer in enumerate(writers)]
            if all(writer.finish for writer in writers):
                break
            ids = torch.tensor([*tokens, *[tokens[0]] * (batch_rows - len(tokens))])[:, None]
            mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
            positions = positions[:, -1:] + 1
    return [writer.answer(len(row)) for writer, row in zip(writers, rows, strict=True)]


def _classify(
    loaded: _Loaded, labels: Sequence[str], rows: Sequence[tuple[int, ...]], batch_rows: int
) -> list[Classified]:
    import torch

    firsts = _label_tokens(loaded.tokenizer, labels)
    ids, mask = _shape(loaded, rows, batch_rows)
    with torch.inference_mode():
        logits = loaded.model(
            input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0), use_cache=False,
            logits_to_keep=1,
        ).logits[:, -1]
        shares = torch.softmax(logits[: len(rows), firsts].double(), dim=-1)
    return [Classified(tuple(row)) for row in shares.tolist()]


def _label_tokens(tokenizer: Any, labels: Sequence[str]) -> list[int]:
    """First token of each label as it would follow the prompt; Invalid when two are the same."""
    firsts = [tokenizer(label, add_special_tokens=False)["input_ids"][0] for label in labels]
    if len(set(firsts)) < len(firsts):
        raise Invalid(f"labels {tuple(labels)} share a first token of this model; choose labels that start differently")
    return firsts


def _embed(loaded: _Loaded, rows: Sequence[tuple[int, ...]], batch_rows: int) -> list[Embedded]:
    import torch

    ids, mask = _shape(loaded, rows, batch_rows)
    with torch.inference_mode():
        hidden = loaded.model.base_model(
            input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0), use_cache=False
        ).last_hidden_state.float()
        weights = mask[:, :, None].float()
        means = (hidden * weights).sum(1) / weights.sum(1)
        units = torch.nn.functional.normalize(means, dim=-1)
    return [Embedded(tuple(row)) for row in units[: len(rows)].tolist()]


def _end_tokens(loaded: _Loaded) -> frozenset[int]:
    configured = loaded.model.generation_config.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in (*ends, loaded.tokenizer.eos_token_id) if token is not None)


def _succeed(future: Future[Answer], answer: Answer) -> None:
    with suppress(InvalidStateError):  # cancelled by the caller
        future.set_result(answer)


def _fail(future: Future[Answer], error: BaseException) -> None:
    with suppress(InvalidStateError):  # cancelled by the caller
        future.set_exception(error)
