#!/usr/bin/env python3
"""Measures Hugging Face transformers' xLSTM on the CPU as `xlstm_generate bench` measures itself, and prints its JSON.

    scripts/bench_transformers.py --shape 406m -p 512 -n 32 --dtype bfloat16 > transformers.json
    xlstm_generate bench --shape 406m -p 512 -n 32 --dtype bfloat16 --compare transformers.json

    scripts/bench_transformers.py --shape 406m --dtype bfloat16 --interleave build/release/bin/xlstm_generate

Eager mode under torch.inference_mode, with transformers' own kernels, the state kept in its cache, made-up ids. A row
is one untimed run and -r timed ones. Of a prompt only the last token gets logits, as in `bench` (transformers'
generate() computes all of them). A shape gets random weights.

On a machine whose speed drifts, figures of two runs do not compare. With --interleave the two take turns: each sample
of transformers follows one of xlstm_generate, whose process is stopped (SIGSTOP) in between. Before each sample,
untimed: xlstm_generate does the same work once, as `bench` does for every row; transformers, which did that once at the
row's start, prefills up to 64 tokens or decodes up to 2. The ratio of a row is the median of the ratios of these pairs.
Arguments behind `--` go to `xlstm_generate bench` alone: `-- --dtype int8` sets int8 weights against transformers'
--dtype. They may not be what the pairs have in common (-m, --shape, -p, -n, -b, -r, -t, -o, --cell) nor lists.

Needs: pip install torch==2.11.0 transformers==5.17.0 safetensors (others may do).
Exit codes are those of xlstm_generate.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import platform
import resource
import signal
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = {"torch": "==2.11.0", "transformers": "==5.17.0", "safetensors": ""}
SHAPES = {"7b": (4096, 32, 8, 50304), "406m": (1024, 24, 4, 50304)}
SHAPE_FORMS = "7b, 406m or E=1024,blocks=24,heads=4,vocab=50304"
LARGEST = 1_000_000

# Flags of `xlstm_generate bench` that the script gives it, and those that take lists.
OURS = {"-m", "--model", "--shape", "-p", "--n-prompt", "-n", "--n-gen", "-b", "--batch", "-r", "--repeats", "-t",
        "--threads", "-o", "--output", "--cell"}
LISTS = {"--dtype", "--state-dtype", "--chunkwise-backend", "--chunk-size", "--heads-per-band", "--workers"}


def fail(code, what, where, expected, got):
    print(f"error: {what} ({where}): expected {expected}, got {got}", file=sys.stderr)
    sys.exit(code)


def require_packages():
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        wanted = " ".join(name + PACKAGES[name] for name in missing)
        fail(2, f"packages of {sys.executable}", "python3 -m pip install " + wanted, ", ".join(PACKAGES),
             "no " + ", ".join(missing))


def number(text, flag, lowest):
    if not (text.isascii() and text.isdigit() and lowest <= int(text) <= LARGEST):
        fail(2, flag, "command line", f"numbers from {lowest} to {LARGEST}", text or "nothing")
    return int(text)


def numbers(text, flag, lowest):
    return [number(part, flag, lowest) for part in text.split(",")]


def parse_shape(text):
    """(embedding, blocks, heads, vocabulary) of the same texts that `xlstm_generate bench --shape` takes."""
    if text in SHAPES:
        return SHAPES[text]
    values = {"E": 0, "blocks": 24, "heads": 4, "vocab": 50304}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or key not in values:
            fail(2, "--shape", "command line", SHAPE_FORMS, text)
        values[key] = number(value, f"--shape {key}", 1)
    if values["E"] == 0:
        fail(2, "--shape", "command line", SHAPE_FORMS, text)
    if values["E"] % (2 * values["heads"]) != 0:
        fail(2, "--shape", "command line", f"E divisible by twice the {values['heads']} heads", text)
    if values["E"] % 128 != 0:
        fail(2, "--shape", "command line", "E divisible by 128, for transformers rounds the sizes of its cache", text)
    return tuple(values.values())


def check_ours(arguments):
    """What the program may be given beside the row that it measures."""
    for argument, following in zip(arguments, arguments[1:] + [""]):
        name, equals, value = argument.partition("=")
        name = name if name.startswith("--") else name[:2]
        if name in OURS:
            fail(2, "arguments behind --", "command line", "none of those that set the pairs", argument)
        value = value if equals else following
        if name in LISTS and "," in value:
            fail(2, f"{name} behind --", "command line", "one value", value)


def parse_arguments():
    arguments = sys.argv[1:]
    behind = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     usage="%(prog)s [flags] [-- ARGUMENTS of xlstm_generate bench]")
    # One line for a mistake, as xlstm_generate has it.
    parser.error = lambda message: (print(f"error: {message}; see --help", file=sys.stderr), sys.exit(2))
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-m", "--model", metavar="DIR", type=pathlib.Path,
                       help="checkpoint directory (default: models/xlstm-tales-8m)")
    where.add_argument("--shape", metavar="SHAPE", help=SHAPE_FORMS)
    parser.add_argument("-p", "--n-prompt", metavar="LIST", default="512", help="prompt lengths; 0: none [default 512]")
    parser.add_argument("-n", "--n-gen", metavar="LIST", default="128",
                        help="numbers of tokens to decode; 0: none [default 128]")
    parser.add_argument("-b", "--batch", metavar="LIST", default="1", help="numbers of sequences [default 1]")
    parser.add_argument("-r", "--repeats", metavar="N", default="5", help="timed runs, or pairs, per row [default 5]")
    parser.add_argument("--dtype", metavar="LIST", default="float32", help="float32, bfloat16 [default float32]")
    parser.add_argument("-t", "--threads", metavar="LIST", default="0", help="0: as many as cores [default 0]")
    parser.add_argument("--interleave", metavar="PROGRAM", help="take turns with this xlstm_generate; print ratios")
    args = parser.parse_args(arguments[:behind])
    args.ours = arguments[behind + 1:]
    args.n_prompt = numbers(args.n_prompt, "-p", 0)
    args.n_gen = numbers(args.n_gen, "-n", 0)
    args.batch = numbers(args.batch, "-b", 1)
    args.repeats = number(args.repeats, "-r", 1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    args.threads = [threads or cores for threads in numbers(args.threads, "-t", 0)]
    args.dtype = args.dtype.split(",")
    for dtype in args.dtype:
        if dtype not in ("float32", "bfloat16"):
            fail(2, "--dtype", "command line", "float32 or bfloat16", dtype or "nothing")
    if not any(args.n_prompt + args.n_gen):
        fail(2, "-p and -n", "command line", "a length above 0", "none")
    args.sizes = None if args.shape is None else parse_shape(args.shape)
    if args.sizes is None:
        args.model = args.model or ROOT / "models" / "xlstm-tales-8m"
        if not (args.model / "config.json").is_file():
            fail(3, "checkpoint", args.model, "a directory with config.json", "none")
    if args.interleave is None and args.ours:
        fail(2, "arguments behind --", "command line", "none without --interleave", " ".join(args.ours))
    if args.interleave is not None and not (os.path.isfile(args.interleave) and os.access(args.interleave, os.X_OK)):
        fail(2, "--interleave", args.interleave, "the executable xlstm_generate", "no executable file")
    check_ours(args.ours)
    return args


def free_bytes():
    """Memory that the machine can still give; None where it does not say so in /proc."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":") for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def random_model(sizes, dtype, device="cpu"):
    """The model of a shape, its weights of the scale that `bench` gives them."""
    import torch
    from transformers import xLSTMConfig, xLSTMForCausalLM

    embedding, blocks, heads, vocab = sizes
    config = xLSTMConfig(
        vocab_size=vocab, hidden_size=embedding, embedding_dim=embedding, num_hidden_layers=blocks, num_blocks=blocks,
        num_heads=heads, qk_dim_factor=0.5, v_dim_factor=1.0, ffn_proj_factor=2.667, ffn_round_up_to_multiple_of=64,
        gate_soft_cap=15.0, output_logit_soft_cap=30.0, use_bias=False, weight_mode="single", chunk_size=64)
    with torch.device("meta"):
        model = xLSTMForCausalLM(config)
    needed = sum(weight.numel() for weight in model.parameters()) * dtype.itemsize
    free = free_bytes() if device == "cpu" else torch.cuda.mem_get_info()[0]
    if free is not None and needed > free:
        fail(5, "memory", "weights", f"{needed / 1e6:.0f} MB free", f"{free / 1e6:.0f} MB")
    return fill_randomly(model.to(dtype).to_empty(device=device))


def fill_randomly(model):
    import torch

    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("igate_preact.bias"):
                weight.fill_(-2)
            elif name.endswith("fgate_preact.bias"):
                weight.fill_(4)
            elif weight.dim() == 1:
                weight.fill_(1)
            else:
                weight.normal_(0, weight.shape[1] ** -0.5)
    return model.eval()


def load_model(directory, dtype):
    from transformers import xLSTMForCausalLM, xLSTMPreTrainedModel

    # All weights are in the file. The initialisation is slow, and fails for weight_mode "fused".
    xLSTMPreTrainedModel._init_weights = lambda self, module: None
    try:
        model, loading = xLSTMForCausalLM.from_pretrained(directory, dtype=dtype, local_files_only=True,
                                                          output_loading_info=True)
    except Exception as error:  # transformers throws what its parts throw
        reason = f"{type(error).__name__}: {error}".split("\n")[0]
        fail(3, "checkpoint", directory, "one that transformers loads", reason)
    missing = set(loading["missing_keys"])
    if missing == {"lm_head.weight"}:  # tied, which transformers leaves to us
        model.lm_head.weight = model.backbone.embeddings.weight
    elif missing:
        fail(3, "checkpoint", directory, "all weights", f"none for {sorted(missing)[0]}")
    return model.eval()


class Runner:
    """Passes over `batch` sequences with made-up ids; the state goes on from pass to pass."""

    def __init__(self, model, batch):
        import torch
        from transformers.models.xlstm.modeling_xlstm import xLSTMCache

        self.torch = torch
        self.model = model
        self.batch = batch
        self.cache = xLSTMCache(model.config, batch, dtype=model.dtype, device=model.device)
        self.ids = torch.Generator().manual_seed(1)

    def forward(self, rows):
        torch, model = self.torch, self.model
        with torch.inference_mode():
            ids = torch.randint(model.config.vocab_size, (self.batch, rows), generator=self.ids).to(model.device)
            hidden = model.backbone(input_ids=ids, cache_params=self.cache, use_cache=True)[0][:, -1:]
            logits = model.lm_head(hidden).float()
            cap = model.config.output_logit_soft_cap
            return logits if cap is None else cap * torch.tanh(logits / cap)

    def prefill(self, length):
        self.logits = self.forward(length)

    def decode(self, tokens):
        for _ in range(tokens):
            self.logits = self.forward(1)

    def seconds(self, work, tokens):
        start = time.perf_counter()
        work(tokens)
        return time.perf_counter() - start

    def require_finite(self):
        if not self.torch.isfinite(self.logits).all():
            fail(7, "logits", "transformers", "finite numbers", "NaN or infinity")

    def weight_bytes(self):
        """What a decode step reads: all but the embedding table, unless it is the head."""
        model = self.model
        tied = model.lm_head.weight is model.backbone.embeddings.weight
        return sum(weight.nbytes for weight in model.parameters()
                   if tied or weight is not model.backbone.embeddings.weight)

    def state_bytes(self):
        return sum(tensor.nbytes for layer in self.cache.rnn_state.values() for tensor in layer)


class Program:
    """xlstm_generate measuring the same row again and again, stopped between its samples."""

    def __init__(self, args, row):
        lengths = ",".join([str(row["n_prompt"] or row["n_gen"])] * args.repeats)
        prefill = row["test"] == "prefill"
        command = [args.interleave, "bench", "-o", "jsonl", "-r", "1", "-b", str(row["batch"]),
                   "-p", lengths if prefill else "0", "-n", "0" if prefill else lengths,
                   "--threads", str(row["threads"]), "--no-progress"]
        command += ["--shape", args.shape] if args.shape else ["-m", str(args.model)]
        if not any(argument.split("=")[0] == "--dtype" for argument in args.ours):
            command += ["--dtype", row["dtype"]]
        self.row = row
        self.first = None
        self.process = subprocess.Popen(command + args.ours, stdout=subprocess.PIPE, text=True)

    def sample(self):
        """The next row. What follows it there is an untimed run, so that the stop meets no timed one."""
        self.process.send_signal(signal.SIGCONT)
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            if code > 0:  # it has said why
                sys.exit(code)
            fail(1, "--interleave", "xlstm_generate bench", "a row for each pair", f"fewer and exit code {code}")
        self.process.send_signal(signal.SIGSTOP)
        return self.checked(json.loads(line))

    def checked(self, sample):
        """The sample, if it is the row's work with the settings of the samples before."""
        self.first = self.first or sample
        same = {key: self.row[key] for key in ("test", "n_prompt", "n_gen", "batch", "threads")}
        settings = ("model", "device", "dtype", "state_dtype", "kernel", "workers", "heads_per_band", "chunk_size")
        for key, value in (same | {key: self.first[key] for key in settings}).items():
            if sample[key] != value:
                fail(1, f"{key} of a row", "xlstm_generate bench", value, sample[key])
        return sample

    def end(self):
        self.process.kill()
        self.process.wait()


def rate(row, samples):
    row.update(tok_s=statistics.median(samples), tok_s_min=min(samples), tok_s_max=max(samples), repeats=len(samples))


def measure_pairs(args, row, timed, warm_up):
    """The rates of transformers, the row of xlstm_generate, and the ratios."""
    theirs, ours = [], []
    program = Program(args, row)
    try:
        for _ in range(args.repeats):
            ours.append(program.sample())
            warm_up()
            theirs.append(timed())
    finally:
        program.end()
    mine = ours[-1]
    ratios = [sample["tok_s"] / their for sample, their in zip(ours, theirs)]
    for key in ("weight_gb_s", "state_gb_s"):
        if mine[key]:
            mine[key] = statistics.median(sample[key] for sample in ours)
    mine.update(limit_share=None, judged_by=None, peak_share=None)  # of the last sample alone
    rate(mine, [sample["tok_s"] for sample in ours])
    return theirs, mine, {"ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios),
                          "pairs": len(ratios)}


def measure_row(args, runner, row):
    """Fills the row in; with --interleave returns the row of xlstm_generate and the ratios too."""
    length = row["n_prompt"] or row["n_gen"]
    tokens = length * runner.batch
    work = runner.prefill if row["test"] == "prefill" else runner.decode
    short = min(length, 64 if row["test"] == "prefill" else 2)
    work(length)
    runner.require_finite()

    def timed():
        return tokens / runner.seconds(work, length)

    result = {}
    if args.interleave:
        samples, result["ours"], result["ratio"] = measure_pairs(args, row, timed, lambda: work(short))
    else:
        samples = [timed() for _ in range(args.repeats)]
    rate(row, samples)
    if row["test"] == "decode":
        steps = row["tok_s"] / runner.batch
        row["weight_gb_s"] = steps * runner.weight_bytes() / 1e9
        row["state_gb_s"] = steps * 2 * runner.state_bytes() / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row["peak_mb"] = peak / 1e6 if platform.system() == "Darwin" else peak * 1024 / 1e6
    return result


def empty_row(args, **values):
    row = dict.fromkeys((
        "test", "model", "device", "dtype", "state_dtype", "kernel", "n_prompt", "n_gen", "batch", "threads", "workers",
        "heads_per_band", "chunk_size", "tok_s", "tok_s_min", "tok_s_max", "weight_gb_s", "state_gb_s", "limit_share",
        "judged_by", "peak_share", "peak_mb", "repeats", "rejected", "ratio"))
    name = args.shape or args.model.resolve().name
    row.update({"model": name, "device": "cpu", "kernel": "transformers", "n_prompt": 0, "n_gen": 0}, **values)
    return row


def rows_of(args, dtype, threads):
    for batch in args.batch:
        # transformers' cache has the type of the weights.
        common = {"dtype": dtype, "state_dtype": dtype, "threads": threads, "batch": batch}
        for length in filter(None, args.n_prompt):
            yield empty_row(args, test="prefill", n_prompt=length, **common)
        for tokens in filter(None, args.n_gen):
            yield empty_row(args, test="decode", n_gen=tokens, **common)


def say(row, result):
    length = row["n_prompt"] or row["n_gen"]
    line = (f"{row['test']} {row['dtype']} {length} x {row['batch']}, {row['threads']} threads: "
            f"transformers {row['tok_s']:.2f} tok/s")
    if result:
        line += f", xlstm_generate {result['ours']['tok_s']:.2f}, ratio {result['ratio']['ratio']:.2f}"
    print(line, file=sys.stderr)


def measure(args):
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    report = {
        "build": {"version": transformers.__version__, "libtorch": torch.__version__,
                  "python": platform.python_version(), "xlstm_package": importlib.util.find_spec("xlstm") is not None},
        "machine": {"cores": os.cpu_count()},
        "rows": []}
    if args.interleave:
        report.update(ours=[], ratios=[])
    for dtype in args.dtype:
        kind = getattr(torch, dtype)
        model = random_model(args.sizes, kind) if args.sizes else load_model(args.model, kind)
        for threads in args.threads:
            torch.set_num_threads(threads)
            for row in rows_of(args, dtype, threads):
                result = measure_row(args, Runner(model, row["batch"]), row)
                report["rows"].append(row)
                if result:
                    report["ours"].append(result["ours"])
                    report["ratios"].append({key: row[key] for key in ("test", "n_prompt", "n_gen", "batch", "threads")}
                                            | {"dtype": result["ours"]["dtype"], "transformers_dtype": dtype}
                                            | result["ratio"])
                say(row, result)
        del model
    json.dump(report, sys.stdout, indent=2)
    print()


def main():
    args = parse_arguments()
    require_packages()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        measure(args)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
