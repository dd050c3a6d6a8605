"""The engines that are compared: each loads a model once, then times what it is told to, in a process of its own.

benchmarks/common.py starts this file with a spec in JSON and sends requests, one a line: {"prefill": 512} or
{"decode": [context, count, sequences]} or {"write": 255}; the answer is one line with seconds.
"""

import itertools
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Protocol


class Engine(Protocol):
    """One loaded model. Torch, ik_llama.cpp, CTranslate2 and OpenVINO do not `write`."""

    about: dict[str, Any]  # bits of a weight in body and head, and what else belongs into a record

    def prefill(self, tokens: int) -> float:
        """Seconds for a prompt of random tokens, with the logits of its last."""

    def decode(self, context: int, count: int, sequences: int) -> float:
        """Median seconds of `count` steps that begin at `context` tokens, one token for each sequence in a step."""

    def write(self, tokens: int) -> float:
        """Mean seconds of a token in a text from the first on, sampling (greedy) and all else included."""


class Soban:
    """soban below its engine, so that nothing is speculated or reused."""

    def __init__(self, spec: dict[str, Any]) -> None:
        import soban
        from soban.measure.probe import Probe
        from soban.measure.work import work_of
        from soban.ops import native

        options = {"cache_dtype": spec["cache"]} if "cache" in spec else {}
        self.model = model = soban.load(spec["model"], dtype=spec["kind"], **options)
        self.probe = Probe(model, max(32, spec["positions"]))
        cache = self.probe.cache
        work = work_of(model.loaded, self.probe.position_bytes)
        self.about = {
            "isa": native.chosen_isa(), "body_bits": work.body_bits, "head_bits": work.head_bits,
            "bytes_per_token": work.bytes_per_token(0), "cache_bytes": work.cache_bytes,
            "multiply_adds": work.multiply_adds(1), "body_multiply_adds": work.body_weights,
            "cache": cache.format,
        }  # fmt: skip

    def prefill(self, tokens: int) -> float:
        return self.probe.prefill(tokens)

    def decode(self, context: int, count: int, sequences: int) -> float:
        return statistics.median(self.probe.decode(context, count, sequences))

    def write(self, tokens: int) -> float:
        generation = self.model.start(
            " ", raw=True, echo=False, do_sample=False, max_new_tokens=tokens, prompt_lookup_num_tokens=0
        )
        for _ in generation:
            pass
        figures = generation.figures
        if figures.new_tokens < tokens // 2:
            raise SystemExit(f"the text ended after {figures.new_tokens} tokens")
        return figures.decode_seconds / (figures.new_tokens - 1)


class Llama:
    """llama.cpp by llama-cpp-python's low-level interface: one batch a step, logits of the last token only."""

    def __init__(self, spec: dict[str, Any]) -> None:
        import llama_cpp as api

        self.api = api
        api.llama_backend_init()
        model = api.llama_model_load_from_file(str(spec["model"]).encode(), api.llama_model_default_params())
        if not model:
            raise SystemExit(f"llama.cpp cannot load {spec['model']}")
        settings = api.llama_context_default_params()
        settings.n_ctx = spec["positions"]
        settings.n_batch = settings.n_ubatch = 512
        settings.n_threads = settings.n_threads_batch = spec["threads"]
        settings.n_seq_max = spec.get("sequences", 1)
        settings.kv_unified = True
        settings.flash_attn_type = spec.get("flash", -1)
        settings.swa_full = True  # every layer keeps the whole context, as ours do
        if spec.get("cache") == "q8_0":
            settings.type_k = settings.type_v = 8  # GGML_TYPE_Q8_0
        self.context = api.llama_init_from_model(model, settings)
        if not self.context:
            raise SystemExit(f"llama.cpp cannot make a context of {spec['positions']} tokens")
        self.vocabulary = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
        self.memory = api.llama_get_memory(self.context)
        self.batch = api.llama_batch_init(512, 0, 1)
        self.about = {"system": api.llama_print_system_info().decode(), **gguf_bits(Path(spec["model"]))}

    def run(self, places: list[tuple[int, int]], last_only: bool) -> None:
        """One step of tokens at (sequence, position)."""
        batch = self.batch
        batch.n_tokens = len(places)
        for i, (sequence, position) in enumerate(places):
            batch.token[i] = (7919 * (position + 1) + 31 * sequence) % self.vocabulary
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = not last_only or i == len(places) - 1
        if code := self.api.llama_decode(self.context, batch):
            raise SystemExit(f"llama_decode returned {code}")
        self.api.llama_get_logits_ith(self.context, len(places) - 1)

    def prefill(self, tokens: int) -> float:
        self.api.llama_memory_clear(self.memory, True)
        start = time.perf_counter()
        for first in range(0, tokens, 512):
            places = [(0, position) for position in range(first, min(tokens, first + 512))]
            self.run(places, last_only=True)
        return time.perf_counter() - start

    def decode(self, context: int, count: int, sequences: int) -> float:
        self.prefill(context)
        for sequence in range(1, sequences):
            self.api.llama_memory_seq_cp(self.memory, 0, sequence, -1, -1)
        taken = []
        for n in range(count):
            start = time.perf_counter()
            self.run([(sequence, context + n) for sequence in range(sequences)], last_only=False)
            taken.append(time.perf_counter() - start)
        return statistics.median(taken)

    def write(self, tokens: int) -> float:
        import numpy as np

        self.prefill(1)
        start = time.perf_counter()
        for position in range(1, tokens):
            self.run([(0, position)], last_only=True)
            logits = self.api.llama_get_logits_ith(self.context, 0)
            np.ctypeslib.as_array(logits, (self.vocabulary,)).argmax()
        return (time.perf_counter() - start) / (tokens - 1)


def gguf_bits(path: Path) -> dict[str, float]:
    """Bits of a weight in the matrices of the body, and in what makes the logits."""
    import gguf

    sums: dict[bool, list[int]] = {True: [0, 0], False: [0, 0]}
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors if len(tensor.shape) > 1}
    head = "output.weight" if "output.weight" in tensors else "token_embd.weight"
    for name, tensor in tensors.items():
        if name != "token_embd.weight" or head == name:
            sums[name == head][0] += int(tensor.n_elements)
            sums[name == head][1] += int(tensor.n_bytes)
    (body, body_bytes), (top, top_bytes) = sums[False], sums[True]
    return {
        "body_bits": 8 * body_bytes / body,
        "head_bits": 8 * top_bytes / top,
        "bytes_per_token": body_bytes + top_bytes,
    }


class Torch:
    """transformers on torch, as most people run it."""

    def __init__(self, spec: dict[str, Any]) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(spec["threads"])
        self.torch, dtype = torch, getattr(torch, spec["kind"])
        # Eager attention is the only one that has Gemma 2's soft cap.
        self.model = AutoModelForCausalLM.from_pretrained(
            spec["model"], dtype=dtype, attn_implementation="eager"
        ).eval()
        bits = 8.0 * dtype.itemsize
        self.about = {"body_bits": bits, "head_bits": bits}

    def prefill(self, tokens: int) -> float:
        with self.torch.no_grad():
            ids = self.torch.randint(0, self.model.config.vocab_size, (1, tokens))
            start = time.perf_counter()
            self.out = self.model(ids, use_cache=True, logits_to_keep=1)
            return time.perf_counter() - start

    def decode(self, context: int, count: int, sequences: int) -> float:
        if sequences != 1:
            raise SystemExit("transformers is measured with one sequence only")
        self.prefill(context)
        taken = []
        with self.torch.no_grad():
            for _ in range(count):
                start = time.perf_counter()
                token = self.out.logits[:, -1:].argmax(-1)
                self.out = self.model(token, use_cache=True, past_key_values=self.out.past_key_values)
                taken.append(time.perf_counter() - start)
        return statistics.median(taken)


class Ik:
    """ik_llama.cpp by its llama-bench, which SOBAN_BENCH_IK names; it loads the model anew each time."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.about = gguf_bits(Path(spec["model"]))

    def _bench(self, *flags: str) -> float:
        """Tokens per second."""
        import subprocess

        command = [
            os.environ["SOBAN_BENCH_IK"], "-m", str(self.spec["model"]), "-t", str(self.spec["threads"]), "-r", "1",
            "-rtr", "1", "-fa", "1", "-o", "json", *flags,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{command[0]} failed: {done.stderr[-500:]}")
        rows = json.loads(done.stdout[done.stdout.index("[") :])
        return float(rows[-1]["avg_ts"])

    def prefill(self, tokens: int) -> float:
        return tokens / self._bench("-p", str(tokens), "-n", "0", "-ub", "512")

    def decode(self, context: int, count: int, sequences: int) -> float:
        if sequences != 1:
            raise SystemExit("ik_llama.cpp's llama-bench runs one sequence only")
        return 1 / self._bench("-p", "0", "-n", "0", "-gp", f"{context},{count}")


class CTranslate2:
    """CTranslate2 by its Generator: a prompt at once with the first token after it, then step by step."""

    def __init__(self, spec: dict[str, Any]) -> None:
        import ctranslate2

        self.model = ctranslate2.Generator(
            spec["model"], device="cpu", compute_type="int8", inter_threads=1, intra_threads=spec["threads"]
        )
        words = json.loads((Path(spec["model"]) / "vocabulary.json").read_text(encoding="utf-8"))
        self.words = [word for word in words if not word.startswith("<")]
        self.about = {"body_bits": 8.0, "head_bits": 8.0}

    def run(self, context: int, count: int) -> list[float]:
        """When each of `count` tokens after a prompt of `context` came."""
        prompt = [self.words[7919 * (position + 1) % len(self.words)] for position in range(context)]
        times = [time.perf_counter()]

        def note(step: Any) -> bool:
            times.append(time.perf_counter())
            return False

        self.model.generate_batch(
            [prompt], max_length=count, min_length=count, include_prompt_in_result=False, callback=note, end_token=[]
        )
        return times

    def prefill(self, tokens: int) -> float:
        start, first, *_ = self.run(tokens, 1)
        return first - start

    def decode(self, context: int, count: int, sequences: int) -> float:
        if sequences != 1:
            raise SystemExit("CTranslate2 is measured with one sequence only")
        times = self.run(context, count + 1)[1:]
        return statistics.median(after - before for before, after in itertools.pairwise(times))


class OpenVino:
    """OpenVINO GenAI's pipeline, which keeps the cache in the model and computes the logits of the last token only."""

    def __init__(self, spec: dict[str, Any]) -> None:
        import openvino
        import openvino_genai as genai

        self.api, self.genai = openvino, genai
        self.model = genai.LLMPipeline(spec["model"], "CPU", INFERENCE_NUM_THREADS=spec["threads"])
        self.vocabulary = json.loads((Path(spec["model"]) / "config.json").read_text("utf-8"))["vocab_size"]
        bits = {"int4": 4.5, "int8": 8.0}[spec["kind"]]
        self.about = {"body_bits": bits, "head_bits": 8.0}

    def run(self, context: int, count: int) -> list[float]:
        import numpy as np

        ids = np.array([[7919 * (position + 1) % self.vocabulary for position in range(context)]], np.int64)
        inputs = self.genai.TokenizedInputs(self.api.Tensor(ids), self.api.Tensor(np.ones_like(ids)))
        config = self.genai.GenerationConfig(max_new_tokens=count, min_new_tokens=count, do_sample=False)
        config.ignore_eos = True
        metrics = self.model.generate(inputs, config).perf_metrics.raw_metrics
        return [metrics.m_times_to_first_token[0] / 1e6, *(taken / 1e6 for taken in metrics.m_durations[1:])]

    def prefill(self, tokens: int) -> float:
        return self.run(tokens, 1)[0]

    def decode(self, context: int, count: int, sequences: int) -> float:
        if sequences != 1:
            raise SystemExit("OpenVINO is measured with one sequence only")
        return statistics.median(self.run(context, count + 1)[1:])


ENGINES = {"soban": Soban, "llama": Llama, "torch": Torch, "ik": Ik, "ctranslate2": CTranslate2, "openvino": OpenVino}


def main() -> None:
    spec = json.loads(sys.argv[1])
    engine: Engine = ENGINES[spec["engine"]](spec)
    # What libraries write to stdout must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        if "prefill" in request:
            found: Any = engine.prefill(request["prefill"])
        elif "decode" in request:
            found = engine.decode(*request["decode"])
        elif "write" in request:
            found = engine.write(request["write"])
        else:
            from soban.base import system

            memory = system.memory_use()
            found = {
                **engine.about,
                "anonymous_bytes": memory and memory.anonymous,
                "mapped_bytes": memory and memory.mapped,
            }
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
