#!/usr/bin/env python3
"""Checks that the files of the repository and what is written about them agree.

- every .cpp of src/, kernels/, tests/ and benchmarks/ is listed in a CMakeLists.txt of its folder or of one above;
- every script, relative link and subcommand that README.md and docs/ name exists;
- no source file is longer than 500 lines (a warning).
Prints one line for each broken rule; exit code 1 if there is one.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LONGEST = 500


def relative(path):
    return path.relative_to(ROOT).as_posix()


def unlisted_sources():
    """Sources that no CMakeLists.txt builds: a test that nobody runs looks like one that passes."""
    for top in ("src", "kernels", "tests", "benchmarks"):
        for path in sorted((ROOT / top).rglob("*.cpp")):
            for folder in path.relative_to(ROOT).parents:
                listing = ROOT / folder / "CMakeLists.txt"
                name = path.relative_to(ROOT / folder).as_posix()
                if listing.exists() and re.search(rf"(?<![\w/.-]){re.escape(name)}(?![\w.-])", listing.read_text()):
                    break
            else:
                yield f"{relative(path)}: listed in no CMakeLists.txt"
        for path in sorted((ROOT / top).glob("*/CMakeLists.txt")):
            if not re.search(rf"\b{re.escape(path.parent.name)}\b", (ROOT / top / "CMakeLists.txt").read_text()):
                yield f"{relative(path)}: its folder is not in {top}/CMakeLists.txt"


def documents():
    yield from (path for path in [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "src/README.md"] if path.exists())
    yield from sorted((ROOT / "docs").rglob("*.md"))


def broken_references():
    """Commands and links of the documents that lead nowhere."""
    command_line = "\n".join(path.read_text() for path in sorted((ROOT / "src" / "cli").glob("*.cpp")))
    for path in documents():
        text = path.read_text()
        for script in sorted(set(re.findall(r"(?<![\w/.-])(?:\./)?(scripts/[\w.-]+\.(?:sh|py))", text))):
            if not (ROOT / script).exists():
                yield f"{relative(path)}: names {script}, which does not exist"
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        for link in sorted(set(re.findall(r"\]\(([^)#\s]+)", prose))):
            if "://" not in link and not link.startswith("mailto:") and not (path.parent / link).exists():
                yield f"{relative(path)}: links to {link}, which does not exist"
        for block in re.findall(r"^```(?:sh|bash|console|)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for command in re.findall(r"^[$ ]*\S*(?:generate\.sh|xlstm_generate) +([a-z]+)\b", block, re.MULTILINE):
                if f'"{command}"' not in command_line:
                    yield f"{relative(path)}: names the command {command}, which src/cli does not know"


def long_files():
    for top in ("include", "src", "kernels", "tests", "benchmarks", "scripts"):
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix in (".h", ".cpp", ".cu", ".mm", ".metal", ".py", ".sh"):
                lines = len(path.read_text(encoding="utf-8").splitlines())
                if lines > LONGEST:
                    yield f"warning: {relative(path)}: {lines} lines; past {LONGEST} it should be two files"


def main():
    for warning in long_files():
        print(warning)
    problems = [*unlisted_sources(), *broken_references()]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
