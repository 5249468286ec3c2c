#!/usr/bin/env python3
"""Checks that includes follow the layering of docs/architecture.md.

A layer is a folder of src/ together with its public headers in include/xlstm/, the kernel interfaces kernels/*.h, or
a device's kernels kernels/DEVICE/. Prints one line for each broken rule; exit code 1 if there is one.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# What each layer may include directly; what those may include is allowed as well.
BELOW = {
    "core": [],
    "config": ["core"],
    "text": ["core"],
    "io": ["core"],
    "kernels": ["core"],
    "memory": ["config"],
    "monitor": ["memory"],
    "schedule": ["kernels"],
    "kernels/*": ["kernels"],
    "model": ["kernels", "io"],
    "registry": ["kernels/*", "schedule", "config", "memory"],
    "runtime": ["registry", "model", "text", "io", "config"],
    "bench": ["runtime"],
    "tune": ["runtime"],
    "selftest": ["runtime"],
    "cli": ["bench", "tune", "selftest", "monitor"],
}

# Layers whose files never see libtorch, not even through a header of another layer.
WITHOUT_TORCH = {"core", "config", "text", "io", "memory", "monitor", "schedule"}

# Third-party headers that belong to a few files: (header pattern, files that may include it, why).
THIRD_PARTY = [
    (r"CLI/", r"src/cli/arguments\w*\.(h|cpp)|src/cli/command_flags\.(h|cpp)|src/cli/help\.cpp|tests/.*", "slow to compile"),
    (r"spdlog/|fmt/", r"src/core/log\.cpp", "its fmt is another than libtorch's"),
    (r"nlohmann/json\.hpp", r"(?!include/).*|include/xlstm/(config/layers|core/strict_json)\.h",
     "public headers use nlohmann/json_fwd.hpp, but for those whose types hold a JSON value"),
    (r"benchmark/", r"benchmarks/.*", "only benchmarks use Google Benchmark"),
    (r"g(test|mock)/", r"tests/.*", "only tests use GoogleTest"),
]
TORCH = re.compile(r"(ATen|c10|torch)/")
# The one place that turns every exception, libtorch's too, into an exit code.
TORCH_IN_CLI = {"src/cli/program.cpp"}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+(["<])([^">]+)[">]', re.MULTILINE)


def layer_of(path):
    """The layer of a repository path or of an include of ours; None for anything else."""
    parts = path.split("/")
    if parts[:2] == ["include", "xlstm"]:
        parts = parts[1:]
    if parts[0] in ("xlstm", "src") and len(parts) > 2:
        return parts[1]
    if parts[0] == "kernels":
        return "kernels" if len(parts) == 2 else "kernels/" + parts[1]
    return None


def allowed_below(layer):
    seen = set()
    todo = list(BELOW["kernels/*" if layer.startswith("kernels/") else layer])
    while todo:
        below = todo.pop()
        if below not in seen:
            seen.add(below)
            todo.extend(BELOW[below])
    return seen


def sources():
    for folder in ("include", "src", "kernels", "tests", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".h", ".cpp", ".cu", ".mm", ".metal"):
                yield path.relative_to(ROOT).as_posix()


def file_of(include):
    """The repository path of an include of ours."""
    return "include/" + include if include.startswith("xlstm/") else include


def torch_chain(path, includes):
    """The files by which `path` reaches libtorch, the libtorch header last; None if it does not."""
    parents = {path: None}
    todo = [path]
    while todo:
        current = todo.pop(0)
        for _, include in includes.get(current, []):
            following = file_of(include)
            if following in parents:
                continue
            parents[following] = current
            if TORCH.match(include):
                chain = [following]
                while parents[chain[-1]] is not None:
                    chain.append(parents[chain[-1]])
                return chain[::-1]
            todo.append(following)
    return None


def problems_of(path, includes):
    layer = layer_of(path)
    if layer and layer not in BELOW and not layer.startswith("kernels/"):
        yield f"{path}: layer {layer} is not in the table of scripts/check_includes.py"
        return
    for quote, include in includes[path]:
        target = layer_of(include)
        if quote == '"' and target and not (ROOT / file_of(include)).exists():
            yield f"{path}: includes {include}, which does not exist"
        if layer and target and target != layer:
            kind = "kernels/*" if target.startswith("kernels/") else target
            if kind not in allowed_below(layer) or (layer.startswith("kernels/") and kind == "kernels/*"):
                yield f"{path}: layer {layer} includes {include}, which is not below it"
            elif include.startswith("src/"):
                yield f"{path}: includes {include}, a private header of layer {target}"
        for header, allowed, why in THIRD_PARTY:
            if re.match(header, include) and not re.fullmatch(allowed, path):
                yield f"{path}: includes {include} ({why})"
    if layer in WITHOUT_TORCH:
        chain = torch_chain(path, includes)
        if chain:
            yield f"{path}: layer {layer} reaches libtorch: {' > '.join(chain[1:])}"
    if layer == "cli" and path not in TORCH_IN_CLI:
        for _, include in includes[path]:
            if TORCH.match(include):
                yield f"{path}: includes {include}; libtorch is used below cli"


def main():
    includes = {path: INCLUDE.findall((ROOT / path).read_text(encoding="utf-8")) for path in sources()}
    problems = [problem for path in includes for problem in problems_of(path, includes)]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
