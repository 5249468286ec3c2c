#!/usr/bin/env python3
"""Rewrites Metal shaders for a compiler of another language:
    translate.py cuda|opencl ROOT OUTPUT [--depfile FILE TARGET] SHADER…

Each shader below ROOT, and each file below ROOT that it includes, is written to the same place below OUTPUT, line for
line. Only words change: address spaces, attributes and the marks of functions; everything else of Metal comes from the
xlstm_msl.h that the compiler finds. It relies on what kernels/metal/msl.h asks for, and on helper functions that are
declared inline.
"""
import argparse
import os
import re
import sys

# Address spaces. CUDA has no such words for pointers: they only say what may not be written.
WORDS = {
    "cuda": {"device": "", "constant": "const", "threadgroup": "", "thread": "", "inline": "inline __device__"},
    "opencl": {"device": "__global", "constant": "__constant", "threadgroup": "__local", "thread": "__private"},
}
KERNEL = {"cuda": "__device__", "opencl": ""}
# Constructors of vectors: OpenCL C++ has none for its own vector types.
VECTOR = re.compile(r"\b((?:float|half|char|uchar|short|ushort|int|uint|long|ulong)[234])\(")
TOKEN = re.compile(r'//[^\n]*|"(?:\\.|[^"\\\n])*"|\[\[(?:[^\[\]]|\[[^\[\]]*\])*\]\]|\w+|.', re.S)

# A pointer or reference in a declaration or cast, told by a space or bracket that stands only behind its mark, and its
# address space.
DECLARED = re.compile(r"(?:\b(device|constant|threadgroup|thread)\s+)?(?:const\s+)?(?:typename\s+)?"
                      r"\b[A-Za-z_][\w:]*(?:<[^<>;(){}]*>)?[*&][ )]")
INCLUDE = re.compile(r'^#include "([^"]+)"', re.M)


def translate(language, text):
    words = WORDS[language]

    def replace(match):
        token = match.group()
        if token.startswith("[["):
            return KERNEL[language] if token == "[[kernel]]" else ""
        return words.get(token, token)

    text = TOKEN.sub(replace, text)
    if language == "opencl":
        text = VECTOR.sub(r"xlstm_\1(", text)
    return text


def unnamed_spaces(file, text):
    """Declarations of pointers without an address space, which OpenCL takes for pointers to any; Metal has none."""
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("//")[0]
        for match in DECLARED.finditer(line):
            if not match.group(1) and not line.lstrip().startswith("#"):
                yield f"{file}:{number}: error: no address space: {line.strip()}"


def translate_files(language, root, output, shaders):
    """Returns the files read."""
    files = []
    errors = []
    waiting = list(shaders)
    while waiting:
        file = waiting.pop()
        if file in files:
            continue
        files.append(file)
        with open(os.path.join(root, file), encoding="utf-8") as source:
            text = source.read()
        if language == "opencl":
            errors += unnamed_spaces(file, text)
        waiting += [f for f in INCLUDE.findall(text) if os.path.exists(os.path.join(root, f))]
        target = os.path.join(output, file)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w", encoding="utf-8") as out:
            # Messages then name the shader itself.
            out.write(f'#line 1 "{file}"\n' + translate(language, text))
    if errors:
        sys.exit("\n".join(errors))
    return files


def main():
    arguments = argparse.ArgumentParser(usage=__doc__)
    arguments.add_argument("language", choices=WORDS)
    arguments.add_argument("root")
    arguments.add_argument("output")
    arguments.add_argument("--depfile", nargs=2, metavar=("FILE", "TARGET"))
    arguments.add_argument("shaders", nargs="+")
    given = arguments.parse_args()
    files = translate_files(given.language, given.root, given.output, given.shaders)
    if given.depfile:
        with open(given.depfile[0], "w", encoding="utf-8") as out:
            read = " ".join(os.path.join(given.root, f) for f in files)
            out.write(f"{given.depfile[1]}: {read}\n")
        with open(given.depfile[1], "w", encoding="utf-8"):
            pass


if __name__ == "__main__":
    main()
