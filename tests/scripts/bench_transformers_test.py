#!/usr/bin/env python3
"""What scripts/bench_transformers.py refuses, and that it says so in one line. Needs none of its packages."""

import pathlib
import subprocess
import sys
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "bench_transformers.py"


def run(*arguments):
    # -S: without installed packages, whatever this machine has.
    return subprocess.run([sys.executable, "-I", "-S", "-B", SCRIPT, *arguments], capture_output=True, text=True,
                          timeout=60, check=False)


class Refusals(unittest.TestCase):
    def expect(self, code, text, *arguments):
        result = run(*arguments)
        self.assertEqual((result.returncode, result.stdout), (code, ""), result.stderr)
        self.assertTrue(result.stderr.startswith("error: "), result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.assertIn(text, result.stderr)

    def test_missing_packages_are_named_with_the_command_that_installs_them(self):
        self.expect(2, "pip install torch==", "--shape", "406m")

    def test_shapes_that_bench_or_transformers_cannot_have(self):
        for shape in ("", "7B", "E", "E=", "E=0", "blocks=2", "E=256,width=3", "E=-256", "E=1e3", "E=100", "E=192,heads=3"):
            self.expect(2, "--shape", "--shape", shape)

    def test_lists_and_numbers(self):
        for flag in ("-p", "-n", "-b", "-r", "-t"):
            for value in ("", "x", "-1", "1,,2", "2000000"):
                self.expect(2, "error: ", f"{flag}={value}")
        self.expect(2, "-b", "-b", "0")
        self.expect(2, "-r", "-r", "0")
        self.expect(2, "length above 0", "-p", "0", "-n", "0")
        self.expect(2, "float32 or bfloat16", "--dtype", "float32,int8")

    def test_files_that_are_not_there(self):
        self.expect(3, "config.json", "-m", "/no/such/folder")
        for program in ("/no/such/program", "/", str(SCRIPT.parent / "no_program"), ""):
            self.expect(2, "--interleave", "--interleave", program)

    def test_arguments_for_a_program_that_does_not_run(self):
        self.expect(2, "--interleave", "--", "--dtype", "int8")

    def test_arguments_that_would_measure_another_row(self):
        for argument in ("-o", "-ocsv", "--output=md", "-p", "-p8", "--n-prompt=8", "-n", "-b", "--batch", "-r", "-t",
                         "--threads=1", "-m", "--shape=7b", "--cell"):
            self.expect(2, "behind --", "--interleave", sys.executable, "--", argument, "1")
        for arguments in (("--dtype", "float32,int8"), ("--dtype=float32,int8",), ("--chunk-size", "16,64")):
            self.expect(2, "one value", "--interleave", sys.executable, "--", *arguments)

    def test_unknown_flags(self):
        self.expect(2, "--bogus", "--bogus")


if __name__ == "__main__":
    unittest.main()
