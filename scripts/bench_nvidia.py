#!/usr/bin/env python3
"""Measures one of xLSTM's other implementations on an NVIDIA GPU, for scripts/bench_nvidia.sh, or prints its table.

    scripts/bench_nvidia.py --peer transformers-graph --shape 7b --rows decode:1,decode:64 --out DIR
    scripts/bench_nvidia.py --table DIR

Peers, all in bfloat16 with random weights and made-up ids:
    transformers         Hugging Face transformers, its own kernels, eager
    transformers-graph   the same, each decode step a CUDA graph
    nx-ai-graph          NX-AI's package xlstm with the Triton kernels of mlstm_kernels, state in float32; decode steps as
                         a CUDA graph, prompts eager

A row is test:number: decode:BATCH (32 tokens a sample) or prefill:TOKENS (one sequence, logits of the last token alone).
It is one untimed run and -r timed ones, each between two synchronisations. DIR gets PEER.TEST.NUMBER.json with the keys
of `xlstm_generate bench -o jsonl`, written whole; a row that has one is left as it is. Why a row could not be measured
stands in PEER.TEST.NUMBER.skipped.

Needs: pip install torch==2.11.0 transformers==5.17.0; for nx-ai-graph: pip install xlstm mlstm_kernels
"""

import argparse
import importlib.util
import json
import os
import pathlib
import sys
import time

import bench_transformers as common

DECODED = 32
PEERS = {"transformers": (), "transformers-graph": (), "nx-ai-graph": ("xlstm", "mlstm_kernels")}
WARM_UP = 3  # calls before a capture: libraries prepare themselves, Triton compiles


class Synchronised:
    """Seconds of work on the GPU, and decode steps that may be a graph."""

    def seconds(self, work, amount):
        self.torch.cuda.synchronize()
        start = time.perf_counter()
        work(amount)
        self.torch.cuda.synchronize()
        return time.perf_counter() - start

    def capture(self):
        torch = self.torch
        self.step_ids = self.made_up_ids(1)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), torch.inference_mode():
            for _ in range(WARM_UP):
                self.logits = self.pass_over(self.step_ids)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph), torch.inference_mode():
            self.logits = self.pass_over(self.step_ids)

    def prefill(self, length):
        with self.torch.inference_mode():
            self.logits = self.pass_over(self.made_up_ids(length))

    def decode(self, tokens):
        for _ in range(tokens):
            if self.graph is None:
                self.prefill(1)
            else:
                self.graph.replay()

    def made_up_ids(self, rows):
        return self.torch.randint(self.vocab, (self.batch, rows), device="cuda")

    def require_finite(self):
        if not self.torch.isfinite(self.logits).all():
            raise RuntimeError("logits are not finite")


class Transformers(Synchronised):
    def __init__(self, model, batch):
        import torch
        from transformers.models.xlstm.modeling_xlstm import xLSTMCache

        self.torch, self.model, self.batch, self.graph = torch, model, batch, None
        self.vocab = model.config.vocab_size
        self.cache = xLSTMCache(model.config, batch, dtype=model.dtype, device="cuda")

    def pass_over(self, ids):
        model = self.model
        hidden = model.backbone(input_ids=ids, cache_params=self.cache, use_cache=True)[0][:, -1:]
        cap = model.config.output_logit_soft_cap
        return cap * self.torch.tanh(model.lm_head(hidden).float() / cap)

    @staticmethod
    def load(sizes):
        import torch

        # With NX-AI's package transformers would take that one's kernels instead of its own.
        sys.modules["xlstm"] = None
        return common.random_model(sizes, torch.bfloat16, "cuda")


class NxAi(Synchronised):
    def __init__(self, model, batch):
        import torch

        self.torch, self.model, self.batch, self.graph = torch, model, batch, None
        self.vocab = model.config.vocab_size
        self.state = None

    def pass_over(self, ids):
        model = self.model
        hidden, self.state = model.backbone(model.embedding(ids), self.state)
        cap = model.config.output_logit_soft_cap
        return cap * self.torch.tanh(model.lm_head(hidden[:, -1:]).float() / cap)

    @staticmethod
    def load(sizes):
        import torch
        from xlstm.xlstm_large.model import xLSTMLarge, xLSTMLargeConfig

        embedding, blocks, heads, vocab = sizes
        config = xLSTMLargeConfig(
            embedding_dim=embedding, num_heads=heads, num_blocks=blocks, vocab_size=vocab, return_last_states=True,
            mode="inference", chunkwise_kernel="chunkwise--triton_xl_chunk", sequence_kernel="native_sequence__triton",
            step_kernel="triton", chunk_size=64, weight_mode="fused", autocast_kernel_dtype="bfloat16")
        with torch.device("meta"):
            model = xLSTMLarge(config)
        model = model.to(torch.bfloat16).to_empty(device="cuda")
        return common.fill_randomly(model)


def parse_rows(text):
    rows = []
    for part in text.split(","):
        test, colon, value = part.partition(":")
        if not colon or test not in ("decode", "prefill"):
            common.fail(2, "--rows", "command line", "decode:BATCH or prefill:TOKENS, separated by commas", text)
        rows.append((test, common.number(value, "--rows", 1)))
    return rows


def measure(peer, model, args, test, value):
    kind = NxAi if peer == "nx-ai-graph" else Transformers
    decoding = test == "decode"
    runner = kind(model, value if decoding else 1)
    work, amount = (runner.decode, DECODED) if decoding else (runner.prefill, value)
    if decoding and peer.endswith("-graph"):
        runner.capture()
    work(amount)
    runner.require_finite()
    samples = [amount * runner.batch / runner.seconds(work, amount) for _ in range(args.repeats)]
    row = {"test": test, "model": args.shape, "device": "cuda:0", "dtype": "bfloat16", "kernel": peer,
           "state_dtype": "float32" if kind is NxAi else "bfloat16", "n_prompt": 0 if decoding else value,
           "n_gen": DECODED if decoding else 0, "batch": runner.batch}
    common.rate(row, samples)
    row["peak_mb"] = runner.torch.cuda.max_memory_allocated() / 1e6
    return row


def write(path, text):
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def measure_peer(args):
    rows = [row for row in parse_rows(args.rows) if not (args.out / f"{args.peer}.{row[0]}.{row[1]}.json").exists()]
    if not rows:
        return
    args.out.mkdir(parents=True, exist_ok=True)
    missing = [name for name in ("torch", "transformers", *PEERS[args.peer]) if importlib.util.find_spec(name) is None]
    model = None
    for test, value in rows:
        stem = f"{args.peer}.{test}.{value}"
        try:
            if missing:
                raise RuntimeError("no package " + ", ".join(missing))
            import torch

            if model is None:
                model = (NxAi if args.peer == "nx-ai-graph" else Transformers).load(common.parse_shape(args.shape))
            torch.cuda.reset_peak_memory_stats()
            row = measure(args.peer, model, args, test, value)
            write(args.out / f"{stem}.json", json.dumps(row) + "\n")
            (args.out / f"{stem}.skipped").unlink(missing_ok=True)
            print(f"{stem}: {row['tok_s']:.1f} tok/s", file=sys.stderr)
        except Exception as error:  # the peers throw what their parts throw
            reason = f"{type(error).__name__}: {error}".split("\n", maxsplit=1)[0][:200]
            write(args.out / f"{stem}.skipped", reason + "\n")
            print(f"skipped {stem}: {reason}", file=sys.stderr)
        if model is not None:
            torch.cuda.empty_cache()


def order(name):
    test, value = name
    return (test != "decode", value)


def print_table(folder):
    """A line for each row, a column for each program; what was not measured is named below with its reason."""
    cells, reasons = {}, []
    for path in sorted(folder.glob("*.*.*.json")) + sorted(folder.glob("*.*.*.skipped")):
        program, test, value = path.name.rsplit(".", 3)[:3]
        name = (test, int(value))
        if path.suffix == ".json":
            cells[program, name] = json.loads(path.read_text(encoding="utf-8"))["tok_s"]
        elif (program, name) not in cells:
            reasons.append(f"{program}, {test} {value}: {path.read_text(encoding='utf-8').strip()}")
    programs = sorted({program for program, _ in cells})
    print("| tok/s | " + " | ".join(programs) + " |")
    print("| --- " * (len(programs) + 1) + "|")
    for name in sorted({name for _, name in cells}, key=order):
        values = [f"{cells[program, name]:.1f}" if (program, name) in cells else "" for program in programs]
        label = f"decode, {name[1]} sequences" if name[0] == "decode" else f"prefill, {name[1]} tokens"
        print(f"| {label} | " + " | ".join(values) + " |")
    for reason in reasons:
        print("skipped: " + reason)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = lambda message: common.fail(2, "arguments", "command line", "those of --help", message)
    parser.add_argument("--peer", choices=PEERS)
    parser.add_argument("--shape", default="7b", help=common.SHAPE_FORMS)
    parser.add_argument("--rows", default="decode:1", help="decode:BATCH or prefill:TOKENS, separated by commas")
    parser.add_argument("-r", "--repeats", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--table", type=pathlib.Path, metavar="DIR", help="print the results of a folder")
    args = parser.parse_args()
    if args.table is not None:
        print_table(args.table)
    elif args.peer is None or args.out is None:
        common.fail(2, "arguments", "command line", "--peer and --out, or --table", "neither")
    else:
        measure_peer(args)


if __name__ == "__main__":
    main()
