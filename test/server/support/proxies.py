"""nginx and Caddy from Debian, with the configurations that docs/deploy.md shows."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "deploy.md"
UPSTREAM, DOMAIN = "127.0.0.1:8765", "video.example.org"
NGINX_MAIN = """\
daemon off;
master_process off;  # one process, as the user who runs the test
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""
CADDY_GLOBAL = """\
{
    admin off
    auto_https disable_redirects
    default_bind 127.0.0.1
}
"""


def documented(language: str) -> str:
    """Return the configuration in the guide's code block of this language."""
    found = re.search(rf"^```{language}\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def substitute(text: str, **replacements: str) -> str:
    """Replace parts of a documented configuration, each of which must be there."""
    for old, new in replacements.items():
        assert old in text
        text = text.replace(old, new)
    return text


@contextmanager
def run_nginx(folder: Path, upstream_port: int, certificate: Path, key: Path) -> Iterator[int]:
    """Run nginx as a proxy for a server; yield its port."""
    port = free_port()
    site = substitute(
        documented("nginx"),
        **{
            "443 ssl": f"127.0.0.1:{port} ssl",
            DOMAIN: "localhost",
            UPSTREAM: f"127.0.0.1:{upstream_port}",
            "/etc/ssl/mmduet/certificate.pem": str(certificate),
            "/etc/ssl/mmduet/key.pem": str(key),
        },
    )
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(NGINX_MAIN.format(folder=folder))
    command = [program("nginx", "/usr/sbin"), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with run_program(command, port):
        yield port


@contextmanager
def run_caddy(folder: Path, upstream_port: int, certificate: Path, key: Path) -> Iterator[int]:
    """Run Caddy as a proxy for a server; yield its port."""
    port = free_port()
    site = substitute(
        documented("caddyfile"),
        **{
            DOMAIN: f"https://localhost:{port}",
            UPSTREAM: f"127.0.0.1:{upstream_port}",
            "/etc/ssl/mmduet/certificate.pem": str(certificate),
            "/etc/ssl/mmduet/key.pem": str(key),
        },
    )
    (folder / "Caddyfile").write_text(CADDY_GLOBAL + site)
    command = [program("caddy", "/usr/bin"), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    with run_program(command, port, XDG_DATA_HOME=str(folder), XDG_CONFIG_HOME=str(folder)):
        yield port


def program(name: str, folder: str) -> str:
    """Return the path of a program from Debian; fail with the command that installs it."""
    path = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], folder]))
    assert path is not None, f"{name} is not installed; run: apt-get install {name}"
    return path


@contextmanager
def run_program(command: list[str], port: int, **environment: str) -> Iterator[None]:
    """Run a proxy from when it listens until the block ends."""
    output = subprocess.PIPE
    with subprocess.Popen(command, stderr=output, text=True, env={**os.environ, **environment}) as process:
        try:
            end = time.monotonic() + 20
            while not is_listening(port):
                assert process.poll() is None, f"{command[0]} has ended: {process.stderr and process.stderr.read()}"
                assert time.monotonic() < end, f"{command[0]} does not listen"
                time.sleep(0.02)
            yield
        finally:
            process.kill()


def is_listening(port: int) -> bool:
    """Return whether a connection to a port of this machine succeeds."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port that was free a moment ago; these programs cannot choose one themselves."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
