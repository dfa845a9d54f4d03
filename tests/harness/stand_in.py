"""A little program that behaves like a daemon, for the harness's own tests.

    python stand_in.py PORT [--exit CODE] [--deaf] [--child]

Answers /health on PORT; `--exit` ends at once with a code, `--deaf` ignores SIGTERM, `--child`
starts a process of its own that sleeps.
"""

import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class _Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "ok"}')

    def log_message(self, format: str, *args: object) -> None:
        print(f"asked for {self.path}", flush=True)


def main(args: list[str]) -> None:
    if "--exit" in args:
        print("going away", file=sys.stderr)
        sys.exit(int(args[args.index("--exit") + 1]))
    if "--child" in args:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(f"child {child.pid}", flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "--deaf" in args else lambda *_: sys.exit(0))
    HTTPServer(("127.0.0.1", int(args[0])), _Health).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
