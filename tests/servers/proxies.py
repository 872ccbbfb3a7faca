"""Real reverse proxies with the sites that ship, in front of a gateway: nginx, Caddy."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DEPLOY = Path(__file__).parents[2] / "deploy"
PUBLIC = "chat.example.test"
PATH = f"{os.environ['PATH']}:/usr/sbin"

Ports = Mapping[int, int]
"""Those of this machine that the site names, each with the one that is there instead."""


def make_certificate(folder: Path) -> Path:
    """A certificate of its own for the public name, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, PUBLIC)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(PUBLIC)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "public.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


@asynccontextmanager
async def behind_nginx(
    folder: Path, port: int, ports: Ports, certificate: Path, site: str = "nginx/interject.conf"
) -> AsyncIterator[None]:
    """Debian's nginx.conf as far as it concerns proxies, and a site that ships; skips the test without nginx."""
    changes = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "server_name chat.example.com;": f"server_name {PUBLIC};",
        "/etc/letsencrypt/live/chat.example.com/fullchain.pem": str(certificate),
        "/etc/letsencrypt/live/chat.example.com/privkey.pem": str(certificate),
    }
    (folder / "nginx.conf").write_text(
        f"""\
daemon off; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 768; }}
http {{
  sendfile on; tcp_nopush on; gzip on; access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  {_changed(site, changes, ports)}
}}
"""
    )
    async with _process(folder, port, ("nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr")):
        yield


@asynccontextmanager
async def behind_caddy(
    folder: Path, port: int, ports: Ports, certificate: Path, site: str = "caddy/Caddyfile"
) -> AsyncIterator[None]:
    """A site that ships; skips the test without Caddy."""
    address = f"https://{PUBLIC}:{port} {{\n\tbind 127.0.0.1\n\ttls {certificate} {certificate}"
    options = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"
    file = folder / "Caddyfile"
    file.write_text(options + _changed(site, {"https://chat.example.com {": address}, ports))
    async with _process(folder, port, ("caddy", "run", "--config", str(file), "--adapter", "caddyfile")):
        yield


def _changed(file: str, changes: Mapping[str, str], ports: Ports) -> str:
    """The file with this test's names, ports and certificate."""
    text = (DEPLOY / file).read_text()
    changes = {**changes, **{f"127.0.0.1:{shipped}": f"127.0.0.1:{ours}" for shipped, ours in ports.items()}}
    for shipped, ours in changes.items():
        assert shipped in text
        text = text.replace(shipped, ours)
    return text


@asynccontextmanager
async def _process(folder: Path, port: int, command: Sequence[str]) -> AsyncIterator[None]:
    """The proxy, once somebody listens on this port."""
    if shutil.which(command[0], path=PATH) is None:
        pytest.skip(f"{command[0]} is not installed")
    environment = {"PATH": PATH, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=DEVNULL, stderr=DEVNULL)
    try:
        await _answers(port)
        yield
    finally:
        process.terminate()
        await process.wait()


async def _answers(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return


def browser(url: str, certificate: Path, headers: Mapping[str, str]) -> httpx.AsyncClient:
    """A browser that resolves the public name to this machine."""
    port = int(url.rpartition(":")[2])
    trust = ssl.create_default_context(cafile=str(certificate))
    return httpx.AsyncClient(
        transport=_ToThisMachine(trust),
        base_url=url,
        headers={"Host": f"{PUBLIC}:{port}", **headers},
        timeout=30,
        trust_env=False,
    )


class _ToThisMachine(httpx.AsyncHTTPTransport):
    def __init__(self, trust: ssl.SSLContext) -> None:
        super().__init__(verify=trust)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        local = httpx.Request(
            request.method,
            request.url.copy_with(host="127.0.0.1"),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": PUBLIC},
        )
        return await super().handle_async_request(local)
