#!/usr/bin/env python3
"""Measures xLSTM's other implementations on an NVIDIA GPU, for scripts/bench_nvidia.sh, or prints its table.

    scripts/bench_nvidia.py --shape 7b --rows transformers-graph.decode.1,transformers.prefill.2048 --out DIR
    scripts/bench_nvidia.py --table DIR

A row is COLUMN.TEST.NUMBER. Tests: decode of NUMBER sequences, 32 tokens a sample; prefill of one sequence of NUMBER
tokens, with the logits of the last token alone. All rows of a call share one model: their columns are of one library.
Columns, all with random weights in bfloat16, eager but for the graphs and what a library itself compiles:
    nx-ai-graph          NX-AI's package xlstm with the Triton kernels of mlstm_kernels, state in float32; each decode
                         step is a CUDA graph, prompts take the package's default, triton_limit_chunk, chunks of 64
    nx-ai-xl-chunk       the same, prompts with triton_xl_chunk, chunks of 128, 8 warps
    transformers-graph   Hugging Face transformers, its own kernels, state in bfloat16; each decode step is a CUDA graph
    transformers         the same, eager

A decode step begins with the likeliest token of the step before, chosen on the GPU, and nothing waits for it;
`xlstm_generate bench` feeds made-up ids and waits for each step. A graph reads and writes the state and the ids in
place; before it is timed, replays are compared with eager steps. A row is one untimed run and -r timed ones, each
between two synchronisations. DIR gets COLUMN.TEST.NUMBER.json with the keys of `xlstm_generate bench -o jsonl`, written
whole. Why a row could not be measured stands in COLUMN.TEST.NUMBER.skipped.

Needs: pip install torch==2.11.0 and transformers==5.17.0, or xlstm mlstm_kernels einops
"""

import argparse
import dataclasses
import functools
import importlib.util
import json
import os
import pathlib
import sys
import time

import bench_transformers as common

DEVICE = "cuda"
DECODED = 32
WARM_UP = 3  # steps before a capture: libraries prepare themselves, Triton compiles
CHECKED = 3  # steps of a graph that are compared with eager ones
OURS = "xlstm_generate"


def say(text):
    print(text, file=sys.stderr, flush=True)


class Runner:
    """Passes over `batch` sequences. State and ids stay in the same tensors, where replays of a graph find them."""

    def __init__(self, model, batch, state):
        import torch

        self.torch, self.model, self.batch, self.state = torch, model, batch, state
        self.ids = self.made_up_ids(1)
        self.logits = self.graph = self.captured = None

    def made_up_ids(self, rows):
        return self.torch.randint(self.model.config.vocab_size, (self.batch, rows), device=DEVICE)

    def capped(self, logits):
        cap = self.model.config.output_logit_soft_cap
        return cap * self.torch.tanh(logits.float() / cap)

    def step(self):
        """One token a sequence; the likeliest ones are the next step's."""
        self.logits = self.pass_over(self.ids)
        self.ids.copy_(self.logits[:, -1].argmax(dim=-1, keepdim=True))

    def replay(self):
        self.graph.replay()
        self.logits = self.captured

    def capture(self):
        cuda = self.torch.cuda
        side = cuda.Stream()
        side.wait_stream(cuda.current_stream())
        with cuda.stream(side):
            for _ in range(WARM_UP):
                self.step()
        cuda.current_stream().wait_stream(side)
        self.graph = cuda.CUDAGraph()
        with cuda.graph(self.graph):
            self.step()
        self.captured = self.logits
        self.require_replays()

    def logits_after(self, step, ids):
        """Those of the last of these ids, from an empty state."""
        for tensors in self.state.values():
            for tensor in tensors:
                tensor.zero_()
        for given in ids:
            self.ids.copy_(given)
            step()
        return self.logits.clone()

    def require_replays(self):
        """A graph that left the state or the ids behind would repeat its first token."""
        ids = [self.made_up_ids(1) for _ in range(CHECKED)]
        eager = self.logits_after(self.step, ids)
        without_past = self.logits_after(self.step, ids[-1:])
        replayed = self.logits_after(self.replay, ids)
        if not (replayed - eager).norm() < 0.1 * (without_past - eager).norm():
            raise RuntimeError("the graph's steps differ from eager ones")
        if not self.torch.equal(self.ids, replayed[:, -1].argmax(dim=-1, keepdim=True)):
            raise RuntimeError("the graph does not feed back its tokens")

    def prefill(self, length):
        self.logits = self.pass_over(self.made_up_ids(length))

    def decode(self, tokens):
        step = self.step if self.graph is None else self.replay
        for _ in range(tokens):
            step()

    def seconds(self, work, amount):
        self.torch.cuda.synchronize()
        start = time.perf_counter()
        work(amount)
        self.torch.cuda.synchronize()
        return time.perf_counter() - start

    def require_finite(self):
        if not self.torch.isfinite(self.logits).all():
            raise RuntimeError("logits are not finite")


class Transformers(Runner):
    PACKAGES = ("torch", "transformers")
    STATE = "bfloat16"

    def __init__(self, model, batch):
        from transformers.models.xlstm.modeling_xlstm import xLSTMCache

        self.cache = xLSTMCache(model.config, batch, dtype=model.dtype, device=DEVICE)
        super().__init__(model, batch, self.cache.rnn_state)

    def pass_over(self, ids):
        # It copies the new state into the cache's tensors.
        hidden = self.model.backbone(input_ids=ids, cache_params=self.cache, use_cache=True)[0]
        return self.capped(self.model.lm_head(hidden[:, -1:]))

    @staticmethod
    def load(sizes):
        import torch

        # With NX-AI's package transformers would take that one's kernels instead of its own.
        sys.modules["xlstm"] = None
        return common.random_model(sizes, torch.bfloat16, DEVICE)

    @staticmethod
    def choose(model, column):
        """Its columns differ in how they are run alone."""


class NxAi(Runner):
    PACKAGES = ("torch", "triton", "einops", "mlstm_kernels", "xlstm")
    STATE = "float32"
    CHUNKWISE = {"nx-ai-graph": ("chunkwise--triton_limit_chunk", 64),
                 "nx-ai-xl-chunk": ("chunkwise--triton_xl_chunk", 128)}

    def __init__(self, model, batch):
        import torch

        config = model.config
        heads, key, value = config.num_heads, config.embedding_dim // 2, config.embedding_dim
        shapes = ((key // heads, value // heads), (key // heads,), (1,))
        super().__init__(model, batch, {
            block: tuple(torch.zeros((batch, heads, *shape), dtype=torch.float32, device=DEVICE) for shape in shapes)
            for block in range(config.num_blocks)})

    def pass_over(self, ids):
        model = self.model
        hidden, state = model.backbone(model.embedding(ids), dict(self.state))
        self.keep(state)
        return self.capped(model.lm_head(hidden[:, -1:]))

    def keep(self, state):
        """The new state, into the tensors that the next pass reads; xlstm 2.0.6 has put it there itself."""
        for block, tensors in state.items():
            for kept, new in zip(self.state[block], tensors):
                if kept.data_ptr() != new.data_ptr():
                    kept.copy_(new)

    @staticmethod
    def load(sizes):
        import torch
        from mlstm_kernels.torch.chunkwise import registry
        from xlstm.xlstm_large.model import xLSTMLarge, xLSTMLargeConfig

        # With its default of 4 warps an assertion in Triton 3.6's compiler ends the process.
        registry["triton_xl_chunk"] = functools.partial(registry["triton_xl_chunk"], num_warps_intra=8)
        embedding, blocks, heads, vocab = sizes
        config = xLSTMLargeConfig(
            embedding_dim=embedding, num_heads=heads, num_blocks=blocks, vocab_size=vocab, return_last_states=True,
            mode="inference", sequence_kernel="native_sequence__triton", step_kernel="triton", ffn_proj_factor=2.667,
            weight_mode="fused", autocast_kernel_dtype="bfloat16", inference_state_dtype="float32")
        with torch.device("meta"):
            model = xLSTMLarge(config)
        common.fill_randomly(model.to(torch.bfloat16).to_empty(device=DEVICE))
        with torch.no_grad():
            for block in model.backbone.blocks:
                block.mlstm_layer.ifgate_preact.bias[:heads] = -2
        return model

    @staticmethod
    def choose(model, column):
        from mlstm_kernels.torch.backend_module import mLSTMBackend

        kernel, chunk = NxAi.CHUNKWISE[column]
        for block in model.backbone.blocks:
            layer = block.mlstm_layer
            layer.mlstm_backend = mLSTMBackend(
                dataclasses.replace(layer.mlstm_backend.config, chunkwise_kernel=kernel, chunk_size=chunk))


PEERS = {"nx-ai-graph": NxAi, "nx-ai-xl-chunk": NxAi, "transformers-graph": Transformers, "transformers": Transformers}


def parse_rows(text):
    """[(column, test, number)] of one library."""
    rows = []
    for part in text.split(","):
        column, test, value = (part.rsplit(".", 2) + ["", ""])[:3]
        if column not in PEERS or test not in ("decode", "prefill"):
            common.fail(2, "--rows", "command line",
                        f"COLUMN.TEST.NUMBER of {', '.join(PEERS)}, decode and prefill, separated by commas", text)
        rows.append((column, test, common.number(value, "--rows", 1)))
    if len({PEERS[column] for column, _, _ in rows}) > 1:
        common.fail(2, "--rows", "command line", "columns of one library", text)
    return rows


def measure(model, args, column, test, value):
    import torch

    decoding = test == "decode"
    PEERS[column].choose(model, column)
    torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode():
        runner = PEERS[column](model, value if decoding else 1)
        work, amount = (runner.decode, DECODED) if decoding else (runner.prefill, value)
        if decoding and column.endswith("-graph"):
            runner.capture()
        work(amount)
        runner.require_finite()
        samples = [amount * runner.batch / runner.seconds(work, amount) for _ in range(args.repeats)]
    row = {"test": test, "model": args.shape, "device": "cuda:0", "dtype": "bfloat16", "kernel": column,
           "state_dtype": runner.STATE, "n_prompt": 0 if decoding else value, "n_gen": DECODED if decoding else 0,
           "batch": runner.batch}
    common.rate(row, samples)
    row["peak_mb"] = torch.cuda.max_memory_allocated() / 1e6
    return row


def write(path, text):
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def load(kind, shape):
    missing = [name for name in kind.PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeError("no package " + ", ".join(missing))
    start = time.perf_counter()
    model = kind.load(common.parse_shape(shape))
    say(f"{kind.PACKAGES[-1]}: model of shape {shape} made in {time.perf_counter() - start:.0f} s")
    return model


def reason_of(error):
    return f"{type(error).__name__}: {error}".split("\n", maxsplit=1)[0][:200]


def skip(folder, stem, reason):
    write(folder / f"{stem}.skipped", reason + "\n")
    say(f"skipped {stem}: {reason}")


def measure_rows(args):
    rows = parse_rows(args.rows)
    common.parse_shape(args.shape)
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        model = load(PEERS[rows[0][0]], args.shape)
    except Exception as error:  # the libraries throw what their parts throw
        for row in rows:
            skip(args.out, "{}.{}.{}".format(*row), reason_of(error))
        return
    import torch

    for row in rows:
        stem = "{}.{}.{}".format(*row)
        start = time.perf_counter()
        try:
            result = measure(model, args, *row)
            write(args.out / f"{stem}.json", json.dumps(result) + "\n")
            say(f"{stem}: {result['tok_s']:.1f} tok/s, measured in {time.perf_counter() - start:.0f} s")
        except Exception as error:
            skip(args.out, stem, reason_of(error))
        torch.cuda.empty_cache()


def read_results(folder):
    """The rates by (column, test, number), and why others have none."""
    rates, reasons = {}, {}
    for path in sorted(folder.glob("*.*.*.json")) + sorted(folder.glob("*.*.*.skipped")):
        column, test, value = path.stem.rsplit(".", 2)
        text = path.read_text(encoding="utf-8").strip()
        if path.suffix == ".json":
            rates[column, test, int(value)] = json.loads(text)["tok_s"]
        else:
            reasons[column, test, int(value)] = text
    return rates, reasons


def in_order(names):
    """Ours first, plain before its variants, then the others as PEERS has them."""
    others = list(PEERS)
    return sorted(set(names), key=lambda name: (others.index(name) if name in others else -1, name))


def print_table(folder):
    """A line for each test, a column for each implementation; what was not measured is named below with its reason."""
    rates, reasons = read_results(folder)
    columns = in_order(column for column, _, _ in rates)
    print("| tok/s | " + " | ".join(columns + [f"{OURS} / NX-AI's fastest"]) + " |")
    print("| --- " * (len(columns) + 2) + "|")
    for test, value in sorted({row[1:] for row in rates}):
        line = {column: rates[column, test, value] for column in columns if (column, test, value) in rates}
        fastest = max((rate for column, rate in line.items() if PEERS.get(column) is NxAi), default=None)
        ratio = f"{line[OURS] / fastest:.2f}" if fastest and OURS in line else ""
        cells = [f"{line[column]:.1f}" if column in line else "" for column in columns]
        label = f"decode, {value} sequences" if test == "decode" else f"prefill, {value} tokens"
        print(f"| {label} | " + " | ".join(cells + [ratio]) + " |")
    for (column, test, value), reason in sorted(reasons.items()):
        if (column, test, value) not in rates:
            print(f"not measured: {column}, {test} {value}: {reason}")
    conditions = folder / "measured_with"
    if conditions.exists():
        print(conditions.read_text(encoding="utf-8").strip())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = lambda message: common.fail(2, "arguments", "command line", "those of --help", message)
    parser.add_argument("--rows", metavar="LIST", help="COLUMN.TEST.NUMBER, separated by commas")
    parser.add_argument("--shape", default="7b", help=common.SHAPE_FORMS)
    parser.add_argument("-r", "--repeats", default="5", metavar="N", help="timed runs per row [default 5]")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--table", type=pathlib.Path, metavar="DIR", help="print the results of a folder")
    args = parser.parse_args()
    args.repeats = common.number(args.repeats, "-r", 1)
    if args.table is not None:
        print_table(args.table)
    elif args.rows is None or args.out is None:
        common.fail(2, "arguments", "command line", "--rows and --out, or --table", "not all of that")
    else:
        measure_rows(args)


if __name__ == "__main__":
    main()
