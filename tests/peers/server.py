"""A real `throng serve` for a test script: every port 0, its own data directory."""

import json
import os
import shutil
import subprocess
import tempfile
import time

READY_SECONDS_MAX = 60


def throng_binary():
    """The program under test; `./x peers` builds it and says where it lies."""
    path = os.environ.get("THRONG_BIN")
    if not path:
        raise SystemExit("THRONG_BIN is not set; run these scripts by ./x peers")
    return path


class Server:
    """A node that takes traffic. Use it as a context manager."""

    def __init__(self, *args):
        self.folder = tempfile.mkdtemp(prefix="throng-peers-")
        self.data_dir = os.path.join(self.folder, "data")
        ready_file = os.path.join(self.folder, "ready.json")
        anywhere = "127.0.0.1:0"
        self.process = subprocess.Popen(
            [throng_binary(), "serve", "--listen", anywhere, "--peer-listen", anywhere]
            + ["--ops-listen", anywhere, "--data-dir", self.data_dir, "--ready-file", ready_file]
            + list(args),
            stdout=subprocess.DEVNULL,  # what it has to complain about goes to its error output
        )
        try:
            self.ready = self._wait_for(ready_file)
        except BaseException:
            self.stop()
            raise

    def _wait_for(self, ready_file):
        deadline = time.monotonic() + READY_SECONDS_MAX
        while time.monotonic() < deadline:
            if os.path.exists(ready_file):
                with open(ready_file, encoding="utf-8") as file:
                    return json.load(file)
            if self.process.poll() is not None:
                raise RuntimeError(f"throng serve ended with {self.process.returncode}")
            time.sleep(0.02)
        raise RuntimeError("throng serve was not ready in time")

    @property
    def websocket_address(self):
        """(host, port) of the WebSocket listener."""
        return _split(self.ready["websocket"])

    @property
    def quic_address(self):
        """(host, port) of the QUIC listener."""
        return _split(self.ready["quic"])

    @property
    def certificate(self):
        """The development certificate, which clients of this machine trust by its path."""
        return os.path.join(self.data_dir, "keys", "dev-cert.pem")

    def token(self, user, device, *args):
        """A signed token, as bytes."""
        command = [throng_binary(), "token", "--user", user, "--device", str(device)]
        command += ["--data-dir", self.data_dir, *args]
        output = subprocess.run(command, check=True, capture_output=True, timeout=30).stdout
        return output.strip()

    def is_alive(self):
        return self.process.poll() is None

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def _split(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)
