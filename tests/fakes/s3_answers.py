"""A scripted S3 server, for what no real one says."""

from __future__ import annotations

import http.server
import threading
import time
from contextlib import suppress

PORTAL = b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><body>Welcome to the airport</body></html>"
"""Well-formed, unlike most: botocore takes it for an answer in which nothing is said."""


class Server:
    """Answers by method: (status, headers, body), or an iterator of such, or what writes all of it to a file.

    ``seen`` are the requests.
    """

    def __init__(self):
        self.answers, self.seen = {}, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                outer.seen.append((self.command, self.path, dict(self.headers), body))
                kind = "LIST" if self.command == "GET" and "versions" in self.path else self.command
                said = outer.answers.get(kind, (500, {}, b""))
                if callable(said):
                    self.close_connection = True
                    with suppress(OSError):  # who asked has gone
                        said(self.wfile)
                    return
                status, headers, content = said if isinstance(said, tuple) else next(said)
                if status == 0:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in ({"content-length": str(len(content))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer  # noqa: N815

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


def versions(*items, more="", size=4):
    """A page of a listing: (key, version, time), each of the size. ``more``: further elements."""
    listed = "".join(
        f"<Version><Key>{key}</Key><VersionId>{version}</VersionId><IsLatest>false</IsLatest>"
        f"<LastModified>{at}</LastModified><ETag>&quot;x&quot;</ETag><Size>{size}</Size></Version>"
        for key, version, at in items
    )
    is_more = str(bool(more)).lower()
    body = (
        f"<?xml version='1.0'?><ListVersionsResult><IsTruncated>{is_more}</IsTruncated>{more}{listed}"
        "</ListVersionsResult>"
    )
    return 200, {"content-type": "application/xml"}, body.encode()


def slowly(answer, *, piece, seconds, fast=0):
    """An answer that comes in pieces, so many seconds apart; the first ``fast`` bytes at once."""
    status, headers, content = answer
    told = "".join(f"{name}: {value}\r\n" for name, value in ({"content-length": str(len(content))} | headers).items())
    raw = f"HTTP/1.1 {status} Said\r\n{told}\r\n".encode() + content

    def write(to):
        to.write(raw[:fast])
        for at in range(fast, len(raw), piece):
            time.sleep(seconds)
            to.write(raw[at : at + piece])
            to.flush()

    return write
