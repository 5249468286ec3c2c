#!/usr/bin/env python3
"""What download_model.sh needs of a model repository's listing, and of files on disk.

  hub_files.py plan LISTING REPO DIR TASKS   LISTING: the hub's answer to /api/models/REPO/tree/REVISION, as JSON.
      Prints the files that make up the checkpoint with their sizes and what is in DIR already, and writes TASKS: a first
      line "BYTES_TO_FETCH BYTES_FREE", then a line "SIZE ALGORITHM DIGEST URL_PATH NAME" for each file to fetch.
  hub_files.py verify FILE SIZE ALGORITHM DIGEST   Exit code 3 if the file is another one.

Failures are one line on stderr and exit code 3.
"""

import hashlib
import json
import os
import re
import shutil
import sys
import urllib.parse

READABLE = "model.safetensors, model.safetensors.index.json with its shards, or model_0.safetensors, …"


def fail(what, where, expected, got):
    print(f"error: {what} ({where}): expected {expected}, got {got}", file=sys.stderr)
    sys.exit(3)


def human(size):
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def is_safe_path(path):
    """Whether a path stays inside the repository and is text for one terminal line."""
    return path.isprintable() and "\\" not in path and all(part not in ("", ".", "..") for part in path.split("/"))


def parse_entry(entry, repo):
    """(name, size, algorithm, digest) of one file of a listing."""
    name = entry["path"]
    size, algorithm, digest, length = entry.get("size"), "git-sha1", entry.get("oid"), 40
    if entry.get("lfs"):
        size, algorithm, digest, length = entry["lfs"].get("size", size), "sha256", entry["lfs"].get("oid"), 64
        digest = digest.removeprefix("sha256:") if isinstance(digest, str) else digest
    if type(size) is not int or size < 0 or not isinstance(digest, str) or not re.fullmatch(f"[0-9a-f]{{{length}}}", digest):
        fail("file listing", repo, f"a size and a checksum of {name}", "none")
    return name, size, algorithm, digest


def read_listing(path, repo):
    """The files at the top of the repository."""
    try:
        with open(path, encoding="utf-8") as file:
            entries = json.load(file)
    except (ValueError, RecursionError):
        fail("file listing", repo, "JSON", "something else; is this a model hub?")
    if not isinstance(entries, list):
        fail("file listing", repo, "a JSON array", "something else; is this a model hub?")
    files = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
            fail("file listing", repo, "entries with a path", "one without")
        if not isinstance(entry.get("lfs") or {}, dict):
            fail("file listing", repo, "LFS entries that are objects", "another")
        if not is_safe_path(entry["path"]):
            fail("file listing", repo, "paths inside the repository", ascii(entry["path"]))
        if entry.get("type") == "file" and "/" not in entry["path"]:
            files.append(parse_entry(entry, repo))
    return files


def is_weights(name):
    return name.endswith(".safetensors") or name.endswith(".safetensors.index.json")


def choose_weights(names):
    """The weights as the executable chooses them; nothing that holds the same again."""
    if "model.safetensors" in names:
        return ["model.safetensors"]
    index = "model.safetensors.index.json"
    shards = [name for name in names if re.fullmatch(r"model-\d+-of-\d+\.safetensors", name)]
    if index in names and shards:
        return [index, *shards]
    if index in names:
        return [name for name in names if name == index or name.endswith(".safetensors")]
    return [name for name in names if re.fullmatch(r"model_\d+\.safetensors", name)]


def choose(files, repo):
    """The files of the checkpoint, small ones first."""
    names = [name for name, *_ in files]
    weights = choose_weights(names)
    if not weights:
        others = [name for name in names if re.search(r"\.(safetensors|bin|pt|pth|gguf|ckpt)$", name)]
        fail("model weights", repo, READABLE, f"only {', '.join(others[:4])}" if others else "none of them")
    if "config.json" not in names:
        fail("model configuration", repo, "config.json", "no such file")
    small = re.compile(r".*\.(json|txt)|(LICENSE|NOTICE).*")
    chosen = [file for file in files if file[0] in weights or (small.fullmatch(file[0]) and not is_weights(file[0]))]
    return sorted(chosen, key=lambda file: (file[0].endswith(".safetensors"), file[0]))


def is_intact(path, size, algorithm, digest):
    if not os.path.isfile(path) or os.path.getsize(path) != size:
        return False
    total = hashlib.sha256() if algorithm == "sha256" else hashlib.sha1(b"blob %d\0" % size)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest() == digest


def free_bytes(directory):
    """Of the file system that the directory is on or will be on."""
    place = os.path.abspath(directory)
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    return shutil.disk_usage(place).free


def plan(listing, repo, directory, tasks):
    lines = []
    to_fetch = 0
    files = choose(read_listing(listing, repo), repo)
    width = max(len(name) for name, *_ in files)
    for name, size, algorithm, digest in files:
        path = os.path.join(directory, name)
        partial = os.path.getsize(path + ".part") if os.path.isfile(path + ".part") else 0
        if is_intact(path, size, algorithm, digest):
            state = "is there"
        else:
            state = "differs, is replaced" if os.path.lexists(path) else ""
            if 0 < partial <= size:
                state = f"goes on at {human(partial)}"
            to_fetch += size - partial if partial <= size else size
            lines.append("\t".join([str(size), algorithm, digest, urllib.parse.quote(name), name]))
        print(f"{name:<{width}}  {human(size):>9}  {state}".rstrip())
    free = free_bytes(directory)
    print(f"{human(sum(size for _, size, *_ in files))} in {len(files)} files, {human(to_fetch)} to fetch into {directory}, "
          f"{human(free)} free there")
    with open(tasks, "w", encoding="utf-8") as file:
        file.write("\n".join([f"{to_fetch}\t{free}", *lines, ""]))


def main(arguments):
    if len(arguments) == 5 and arguments[0] == "plan":
        plan(*arguments[1:])
    elif len(arguments) == 5 and arguments[0] == "verify":
        path, size, algorithm, digest = arguments[1:]
        sys.exit(0 if is_intact(path, int(size), algorithm, digest) else 3)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
