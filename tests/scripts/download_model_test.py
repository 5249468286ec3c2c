#!/usr/bin/env python3
"""Tests of scripts/download_model.sh against a hub on this machine."""

import os
import pathlib
import pty
import signal
import socket
import stat
import subprocess
import tempfile
import time
import unittest

from hub_server import Hub

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "download_model.sh"
REPO = "owner/tiny-model"
WEIGHTS = bytes(range(256)) * 400
FILES = {
    "config.json": b'{"num_heads": 4}\n',
    "tokenizer.json": b"{}",
    "empty.txt": b"",
    "LICENSE": b"free\n",
    "README.md": b"# tiny\n",
    "pytorch_model.bin": b"the same again" * 10,
    "model-00001-of-00002.safetensors": WEIGHTS,
    "model-00002-of-00002.safetensors": WEIGHTS[::-1],
    "model.safetensors.index.json": b'{"weight_map": {}}',
}
WANTED = set(FILES) - {"README.md", "pytorch_model.bin"}
SHARD = "model-00001-of-00002.safetensors"


class DownloadTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="xlstm-test-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "tmp").mkdir()
        self.target = self.folder / "model"
        self.hub = Hub(REPO, FILES)
        self.hub.__enter__()
        self.addCleanup(self.hub.__exit__)

    def command(self, *arguments, repo=REPO, url=None):
        return ["bash", str(SCRIPT), repo, "--base-url", url or self.hub.url, "--to", str(self.target), *arguments]

    def environment(self):
        # Neither this user's curl settings nor token nor proxy.
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "TMPDIR": str(self.folder / "tmp"), "no_proxy": "*"}

    def run_script(self, command, code):
        result = subprocess.run(command, cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, timeout=120)
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        self.assertEqual(list((self.folder / "tmp").iterdir()), [], "temporary files are removed")
        return result

    def download(self, *arguments, code=0, **options):
        return self.run_script(self.command(*arguments, **options), code)

    def refused(self, *arguments, code=3, parts=(), **options):
        """Runs it to a failure, which is the last line on stderr."""
        result = self.download(*arguments, code=code, **options)
        line = result.stderr.splitlines()[-1]
        self.assertRegex(line, r"^error: .*: expected .*, got ")
        for part in parts:
            self.assertIn(part, line)
        return result

    def present(self):
        return {path.name for path in self.target.iterdir()} if self.target.exists() else set()

    def assert_complete(self):
        self.assertEqual(self.present(), WANTED)
        for name in WANTED:
            self.assertEqual((self.target / name).read_bytes(), FILES[name], name)


class Downloads(DownloadTest):
    def test_fetches_what_the_executable_reads_and_says_what_to_run(self):
        result = self.download()
        self.assert_complete()
        self.assertNotIn("pytorch_model.bin", result.stdout)
        self.assertRegex(result.stdout, r"204\.8 kB in 7 files, 204\.8 kB to fetch into .*, .* free there")
        self.assertRegex(result.stdout.splitlines()[-1], r"generate\.sh -m \S+/model -p ")

    def test_prefers_one_file_of_weights_over_shards(self):
        self.hub.files["model.safetensors"] = b"all"
        self.download()
        self.assertEqual({name for name in self.present() if "safetensors" in name}, {"model.safetensors"})

    def test_takes_numbered_shards_and_leaves_folders_out(self):
        self.hub.files = {"config.json": b"{}", "model_0.safetensors": b"0", "model_1.safetensors": b"1",
                          "onnx/model.safetensors": b"another"}
        self.hub.extra_entries = [{"type": "directory", "path": "onnx", "oid": "0" * 40, "size": 0}]
        self.download()
        self.assertEqual(self.present(), {"config.json", "model_0.safetensors", "model_1.safetensors"})

    def test_goes_into_models_unless_told_otherwise(self):
        self.run_script(["bash", str(SCRIPT), REPO, "--base-url", self.hub.url], 0)
        self.assertTrue((self.folder / "models/tiny-model" / SHARD).is_file())

    def test_dry_run_writes_nothing(self):
        result = self.download("--dry-run")
        self.assertFalse(self.target.exists())
        self.assertIn(SHARD, result.stdout)
        self.assertEqual(len(self.hub.requests), 1, "the listing alone")

    def test_keeps_what_is_there_and_intact(self):
        self.download()
        before = len(self.hub.requests)
        result = self.download()
        self.assertEqual(len(self.hub.requests), before + 1, "the listing alone")
        self.assertEqual(result.stdout.count("is there"), len(WANTED))

    def test_replaces_what_differs(self):
        self.target.mkdir()
        (self.target / SHARD).write_bytes(b"x" * len(WEIGHTS))
        self.assertIn("differs", self.download().stdout)
        self.assert_complete()

    def test_a_folder_with_blanks_and_quotes_is_quoted_in_the_command(self):
        self.target = self.folder / "my 'best' model"
        result = self.download()
        self.assert_complete()
        self.assertIn(r"my\ \'best\'\ model", result.stdout.splitlines()[-1])


class Resuming(DownloadTest):
    def test_a_connection_that_breaks_off_is_continued(self):
        self.hub.cuts[SHARD] = [1000, 5000]
        self.download()
        self.assert_complete()
        self.assertEqual(self.hub.fetched(SHARD), [None, "bytes=1000-", "bytes=6000-"])

    def test_a_partial_file_of_an_earlier_run_is_continued(self):
        self.target.mkdir()
        (self.target / (SHARD + ".part")).write_bytes(WEIGHTS[:7000])
        self.assertIn("goes on at 7.0 kB", self.download().stdout)
        self.assert_complete()
        self.assertEqual(self.hub.fetched(SHARD), ["bytes=7000-"])

    def test_a_partial_file_that_is_whole_is_not_fetched_again(self):
        self.target.mkdir()
        (self.target / (SHARD + ".part")).write_bytes(WEIGHTS)
        self.download()
        self.assert_complete()
        self.assertEqual(self.hub.fetched(SHARD), [])

    def test_a_partial_file_of_other_content_is_fetched_from_the_start(self):
        for stale in (b"x" * 7000, b"x" * len(WEIGHTS), b"x" * (len(WEIGHTS) + 1)):
            with self.subTest(len(stale)):
                self.target.mkdir(exist_ok=True)
                (self.target / SHARD).unlink(missing_ok=True)
                (self.target / (SHARD + ".part")).write_bytes(stale)
                self.download()
                self.assert_complete()

    def test_a_server_without_ranges_is_asked_from_the_start(self):
        self.hub.ranges = False
        self.hub.cuts[SHARD] = [1000]
        self.download()
        self.assert_complete()

    def test_a_busy_server_is_asked_again(self):
        self.hub.statuses[SHARD] = [503, 429]
        self.download()
        self.assert_complete()

    def test_a_signal_ends_it_at_once_and_keeps_the_partial_file(self):
        self.hub.cuts[SHARD] = [1000] + [0] * 20  # then it waits between attempts
        process = subprocess.Popen(self.command(), cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        part = self.target / (SHARD + ".part")
        deadline = time.monotonic() + 30
        while not (part.exists() and part.stat().st_size == 1000) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 143)
        self.assertEqual(part.read_bytes(), WEIGHTS[:1000])
        self.hub.cuts = {}
        self.download()
        self.assert_complete()


class Failures(DownloadTest):
    def test_wrong_bytes_are_not_kept(self):
        for name in (SHARD, "config.json"):
            with self.subTest(name):
                (self.target / name).unlink(missing_ok=True)
                self.hub.wrong = {name: FILES[name][:-1] + b"!"}
                self.refused(parts=["checksum", name])
                self.assertFalse(self.present() & {name, name + ".part"})

    def test_a_file_of_another_size_is_not_kept(self):
        for wrong in (WEIGHTS + b"more", WEIGHTS[:-1]):
            self.hub.wrong = {SHARD: wrong}
            self.refused(parts=[SHARD, f"{len(WEIGHTS)} bytes"])
            self.assertNotIn(SHARD, self.present())

    def test_an_unknown_repository_or_revision(self):
        self.refused(repo="owner/another", parts=["owner/another", "404"])
        self.refused("--revision", "refs/pr/7", parts=["refs/pr/7", "404"])
        self.assertEqual(self.hub.requests[-1][0], f"/api/models/{REPO}/tree/refs/pr/7")
        self.assertFalse(self.target.exists())

    def test_a_file_that_went_away(self):
        self.hub.statuses[SHARD] = [404]
        self.refused(parts=["404"])

    def test_a_machine_without_connection(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self.refused(url=f"http://127.0.0.1:{unused.getsockname()[1]}", parts=["offline"])

    def test_too_little_disk_space(self):
        self.hub.extra_entries = [{"type": "file", "path": "model-00003-of-00002.safetensors", "size": 10**18, "oid": "0" * 40,
                                   "lfs": {"oid": "0" * 64, "size": 10**18}}]
        self.refused("--yes", code=6, parts=["disk space"])
        self.assertFalse(self.target.exists())

    def test_a_large_download_needs_yes_without_a_terminal(self):
        self.hub.extra_entries = [{"type": "file", "path": "model-00003-of-00002.safetensors", "size": 1_200_000_000,
                                   "oid": "0" * 40, "lfs": {"oid": "0" * 64, "size": 1_200_000_000}}]
        self.refused(code=2, parts=["--yes", "1200 MB"])
        self.assertFalse(self.target.exists())

    def test_a_large_download_that_the_user_declines(self):
        self.hub.extra_entries = [{"type": "file", "path": "model-00003-of-00002.safetensors", "size": 1_200_000_000,
                                   "oid": "0" * 40, "lfs": {"oid": "0" * 64, "size": 1_200_000_000}}]
        keyboard, terminal = pty.openpty()
        os.write(keyboard, b"n\n")
        result = subprocess.run(self.command(), cwd=self.folder, env=self.environment(), stdin=terminal,
                                capture_output=True, text=True, timeout=120)
        os.close(keyboard)
        os.close(terminal)
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn("Fetch 1200 MB? [y/N]", result.stderr)
        self.assertFalse(self.target.exists())

    def test_paths_that_lead_elsewhere_are_refused(self):
        for path in ("../evil.json", "/etc/evil.json", "a/../../evil.json", "a//b.json", "..", "", "a\\b.json", "a\nb.json",
                     "a\x1b[2Jb.json"):
            with self.subTest(path):
                self.hub.extra_entries = [{"type": "file", "path": path, "size": 2, "oid": "0" * 40}]
                self.refused(parts=["paths inside the repository"])
                self.assertFalse(self.target.exists())

    def test_listings_that_are_none_are_refused(self):
        entry = b'[{"type": "file", "path": "config.json", "size": %s, "oid": "%s", "lfs": %s}]'
        for listing in (b"", b"<html>", b"{}", b"[1]", b'[{"path": 7}]', b"\xff", b"[" * 100000, entry % (b"-1", b"0" * 40, b"null"),
                        entry % (b"true", b"0" * 40, b"null"), entry % (b"1", b"xyz", b"null"), entry % (b"1", b"0" * 40, b"[1]"),
                        entry % (b"1", b"0" * 40, b'{"oid": 5}')):
            with self.subTest(listing[:60]):
                self.hub.listing = listing
                self.refused(parts=["file listing"])
        self.hub.listing = b"[]"
        self.refused(parts=["model weights"])
        self.assertFalse(self.target.exists())

    def test_a_listing_of_several_pages_is_refused(self):
        self.hub.link_header = '<http://127.0.0.1/next>; rel="next"'
        self.refused(parts=["one page"])

    def test_a_repository_without_readable_weights(self):
        self.hub.files = {"config.json": b"{}", "pytorch_model.bin": b"x"}
        self.refused(parts=["model.safetensors", "only pytorch_model.bin"])
        self.hub.files = {"config.yaml": b"", "model.safetensors": b"x"}
        self.refused(parts=["config.json"])

    def test_command_lines_that_make_no_sense(self):
        for arguments, part in (([], "OWNER/NAME"), (["one"], "OWNER/NAME"), (["a/b/c"], "OWNER/NAME"), (["../b"], "OWNER/NAME"),
                                (["a/.."], "OWNER/NAME"), (["a/b", "c/d"], "c/d"), (["a/b", "--to"], "--to"),
                                (["a/b", "--to", ""], "--to"), (["a/b", "--fast"], "--fast"),
                                (["a/b", "--revision", "../x"], "--revision"), (["a/b", "--base-url", "file:///etc"], "--base-url"),
                                (["a/b", "--to", str(SCRIPT)], "--to"), (["a/b", "--token-file", "/no/such"], "--token-file")):
            with self.subTest(arguments):
                result = self.run_script(["bash", str(SCRIPT), *arguments], 2)
                self.assertRegex(result.stderr, r"^error: .*\n$")
                self.assertIn(part, result.stderr)

    @unittest.skipIf(os.geteuid() == 0, "root may write anywhere")
    def test_a_folder_that_cannot_be_written(self):
        self.target.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
        self.refused(code=6, parts=[str(self.target)])


class Tokens(DownloadTest):
    def test_of_a_file_open_a_gated_model(self):
        self.hub.needs_token = "hf_secret"
        self.refused(parts=["401", "--token-file"])
        token = self.folder / "token"
        token.write_text("hf_secret\n")
        result = self.download("--token-file", str(token))
        self.assert_complete()
        self.assertNotIn("hf_secret", result.stdout + result.stderr)

    def test_of_the_hub_are_not_sent_to_other_servers_unasked(self):
        (self.folder / ".cache/huggingface").mkdir(parents=True)
        (self.folder / ".cache/huggingface/token").write_text("hf_secret")
        self.download("--dry-run")
        self.assertEqual([token for _, _, token in self.hub.requests], [None])

    def test_that_would_add_headers_are_refused(self):
        token = self.folder / "token"
        token.write_text('hf_x"; evil: y')
        self.refused("--token-file", str(token), code=2, parts=["--token-file"])


if __name__ == "__main__":
    unittest.main()
