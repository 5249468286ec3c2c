"""A model hub on this machine: the tree API and file downloads with ranges, and the failures that a network has."""

import hashlib
import http.server
import json
import re
import threading
import urllib.parse


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def git_sha1(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub:
    """Serves `files` (name to bytes) as the repository `repo` at revision main while used as a context."""

    def __init__(self, repo, files):
        self.repo = repo
        self.files = dict(files)
        self.extra_entries = []  # of the listing
        self.listing = None  # bytes instead of the listing
        self.link_header = None  # of the listing
        self.cuts = {}  # name: numbers of bytes after which coming answers break off
        self.statuses = {}  # name: HTTP statuses of coming answers instead of the file
        self.wrong = {}  # name: other bytes to serve than those listed
        self.ranges = True
        self.needs_token = None
        self.requests = []  # (path, Range header or None, Authorization header or None)

    def entries(self):
        for name, content in sorted(self.files.items()):
            entry = {"type": "file", "path": name, "size": len(content), "oid": git_sha1(content)}
            if name.endswith(".safetensors") or name.endswith(".bin"):
                entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 134}
                entry["oid"] = git_sha1(b"a pointer")
            yield entry
        yield from self.extra_entries

    def fetched(self, name):
        """The Range headers of the requests for a file."""
        return [span for path, span, _ in self.requests if path == f"/{self.repo}/resolve/main/{name}"]

    def __enter__(self):
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                hub.answer(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, request):
        path = urllib.parse.unquote(request.path.split("?")[0])
        span = request.headers.get("Range")
        token = request.headers.get("Authorization")
        self.requests.append((path, span, token))
        if self.needs_token and token != f"Bearer {self.needs_token}":
            self.send(request, 401, b"{}")
        elif path == f"/api/models/{self.repo}/tree/main":
            body = self.listing if self.listing is not None else json.dumps(list(self.entries())).encode()
            self.send(request, 200, body, {"Link": self.link_header} if self.link_header else {})
        elif path.startswith(f"/{self.repo}/resolve/main/"):
            self.send_file(request, path.rsplit("/", 1)[1], span)
        else:
            self.send(request, 404, b"Not Found")

    def send_file(self, request, name, span):
        if name not in self.files:
            return self.send(request, 404, b"Entry not found")
        if self.statuses.get(name):
            return self.send(request, self.statuses[name].pop(0), b"")
        content = self.wrong.get(name, self.files[name])
        start = int(re.fullmatch(r"bytes=(\d+)-", span).group(1)) if span and self.ranges else 0
        if start >= len(content) > 0:
            return self.send(request, 416, b"")
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        cut = self.cuts[name].pop(0) if self.cuts.get(name) else None
        self.send(request, 206 if start else 200, content[start:], headers, cut)

    @staticmethod
    def send(request, status, body, headers=None, cut=None):
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        for key, value in (headers or {}).items():
            request.send_header(key, value)
        request.end_headers()
        request.wfile.write(body if cut is None else body[:cut])
        request.close_connection = True
