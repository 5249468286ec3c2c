#!/usr/bin/env python3
"""Checks linked programs for macOS on arm64: check_symbols.py --libraries DIR… --stubs FILE… -- PROGRAM…

Each program is signed code for arm64 and macOS 14; every library that it loads is known: a dylib in one of the DIRs
(by @rpath) or described by one of the text stubs (.tbd); and the library that each undefined symbol is bound to exports
it. Prints one line for each thing that is wrong; exit code 1 if there is one. Format: <mach-o/loader.h>, <mach-o/nlist.h>
and, for the table of exports (a trie), ld's MachOFileAbstraction.
"""

import argparse
import pathlib
import re
import struct
import sys

MAGIC_64 = 0xFEEDFACF
CPU_ARM64 = 0x0100000C
PLATFORM_MACOS = 1
MACOS_14 = 14 << 16

LC_SYMTAB = 0x2
LC_LOAD_DYLIB = 0xC
LC_CODE_SIGNATURE = 0x1D
LC_BUILD_VERSION = 0x32
LC_DYLD_INFO = 0x22
LC_DYLD_EXPORTS_TRIE = 0x33
LC_LOAD_WEAK_DYLIB = 0x18
LC_REEXPORT_DYLIB = 0x1F
MUST_UNDERSTAND = 0x80000000  # set in some commands' numbers

SELF, DYNAMIC_LOOKUP, MAIN_EXECUTABLE = 0, 0xFE, 0xFF  # library ordinals that are none


class MachO:
    """A Mach-O file: its load commands, undefined symbols and exports."""

    def __init__(self, path):
        self.data = pathlib.Path(path).read_bytes()
        magic, self.cpu, _, _, count, _, _, _ = struct.unpack_from("<8I", self.data)
        if magic != MAGIC_64:
            raise ValueError("expected a 64-bit Mach-O file, got another")
        self.libraries, self.signed, self.platform, self.minimum, self.exports_at = [], False, None, None, (0, 0)
        self.symbols_at = None
        at = 32
        for _ in range(count):
            command, size = struct.unpack_from("<2I", self.data, at)
            command &= ~MUST_UNDERSTAND
            if command in (LC_LOAD_DYLIB, LC_LOAD_WEAK_DYLIB, LC_REEXPORT_DYLIB):
                start = at + struct.unpack_from("<I", self.data, at + 8)[0]
                self.libraries.append(self.text(start))
            elif command == LC_SYMTAB:
                self.symbols_at = struct.unpack_from("<4I", self.data, at + 8)
            elif command == LC_CODE_SIGNATURE:
                self.signed = True
            elif command == LC_BUILD_VERSION:
                self.platform, self.minimum = struct.unpack_from("<2I", self.data, at + 8)
            elif command == LC_DYLD_INFO:
                self.exports_at = struct.unpack_from("<2I", self.data, at + 40)
            elif command == LC_DYLD_EXPORTS_TRIE:
                self.exports_at = struct.unpack_from("<2I", self.data, at + 8)
            at += size

    def text(self, start):
        return self.data[start : self.data.index(b"\0", start)].decode()

    def undefined(self):
        """(name, number of the library it is bound to) of each undefined symbol."""
        symbols, count, strings, _ = self.symbols_at
        for i in range(count):
            name, kind, _, description, value = struct.unpack_from("<IBBHQ", self.data, symbols + 16 * i)
            if kind & 0xEF == 1 and value == 0:  # external and undefined; 0x10, private external, may be set or not
                yield self.text(strings + name), description >> 8

    def number(self, at):
        """A ULEB128 number and the place after it."""
        value = shift = 0
        while True:
            byte = self.data[at]
            value |= (byte & 0x7F) << shift
            shift += 7
            at += 1
            if byte < 0x80:
                return value, at

    def __contains__(self, name):
        """Whether it exports the symbol: a walk down its trie of exports."""
        begin, size = self.exports_at
        if size == 0:
            return False
        left, node = name.encode(), begin
        while True:
            terminal, at = self.number(node)
            if not left:
                return terminal > 0
            at += terminal
            edges = self.data[at]
            at += 1
            for _ in range(edges):
                end = self.data.index(b"\0", at)
                edge = self.data[at:end]
                child, at = self.number(end + 1)
                if left.startswith(edge):
                    left, node = left[len(edge) :], begin + child
                    break
            else:
                return False


def read_stub(path):
    """The install name of a text stub, and the names that it and the stubs inside it export for arm64."""
    text = pathlib.Path(path).read_text()
    names = set()
    for targets, symbols in re.findall(r"- targets:\s*\[([^]]*)\]((?:\s*[a-z-]+:\s*\[[^]]*\])+)", text):
        if re.search(r"\barm64e?-macos\b", targets):
            for kind, listed in re.findall(r"([a-z-]+):\s*\[([^]]*)\]", symbols):
                if kind in ("symbols", "weak-symbols"):
                    names.update(name.strip(" '\"\n") for name in listed.split(","))
    return re.search(r"install-name:\s*'?([^'\s]+)", text)[1], names


def problems(program, libraries, exports):
    """What is wrong with a program; `exports` keeps what each library exports, by install name."""
    if program.cpu != CPU_ARM64:
        yield "expected code for arm64, got another"
    if (program.platform, program.minimum) != (PLATFORM_MACOS, MACOS_14):
        yield "expected a program for macOS 14"
    if not program.signed:
        yield "expected a signature: arm64 runs no code without"
    for name in program.libraries:
        if name in exports:
            continue
        files = [folder / name.removeprefix("@rpath/") for folder in libraries]
        found = next((file for file in files if name.startswith("@rpath/") and file.is_file()), None)
        if found:
            exports[name] = MachO(found)
        else:
            yield f"{name}: a library that is neither of libtorch nor of the system's stubs"
    for symbol, number in program.undefined():
        if number in (SELF, DYNAMIC_LOOKUP, MAIN_EXECUTABLE) or number > len(program.libraries):
            yield f"{symbol}: bound to no library"
        elif symbol not in exports.get(program.libraries[number - 1], ()):
            yield f"{symbol}: not exported by {program.libraries[number - 1]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--libraries", nargs="+", type=pathlib.Path, default=[])
    parser.add_argument("--stubs", nargs="+", type=pathlib.Path, default=[])
    parser.add_argument("programs", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    exports = dict(map(read_stub, arguments.stubs))
    checked, found = 0, []
    for path in arguments.programs:
        program = MachO(path)
        found += [f"{path.name}: {problem}" for problem in problems(program, arguments.libraries, exports)]
        checked += sum(1 for _ in program.undefined())
    if checked == 0:
        found.append("expected undefined symbols to check, got none")
    for problem in found:
        print(problem)
    if not found:
        print(f"{checked} undefined symbols of {len(arguments.programs)} programs resolve")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
