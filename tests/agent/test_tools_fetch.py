"""The web tool, against a real server on loopback."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import pytest

from agent.testing import MemoryMedia
from agent.tool import ToolContext, ToolError
from agent.tools import load_tools
from agent.tools.addresses import Address, is_public
from agent.tools.fetch import Fetcher, Page
from tests.agent.test_documents import archive, pdf, word


@dataclass
class Site:
    """A web server that says what it is told to, byte by byte."""

    port: int = 0
    answers: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def says(
        self, path: str, body: bytes, content_type: str = "text/plain", *headers: str, status: str = "200 OK"
    ) -> str:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
        if content_type:
            lines.append(f"Content-Type: {content_type}")
        self.answers[path] = "\r\n".join([*lines, "", ""]).encode() + body
        return self.url(path)

    def redirects(self, path: str, target: str) -> str:
        return self.says(path, b"", "", f"Location: {target}", status="302 Found")

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(request)
            self.asked.set()
            path = request.split(" ")[1]
            if path == "/hang":
                await reader.read()
                self.hung_up.set()
            writer.write(self.answers.get(path, b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n<p>nope</"))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    server = await asyncio.start_server(site.answer, "0.0.0.0", 0)
    site.port = server.sockets[0].getsockname()[1]
    async with server:
        yield site


def only_this(address: Address) -> bool:
    return address == ip_address("127.0.0.1")


HERE = Fetcher(allow=only_this)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.0.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "100.127.255.255", "198.18.0.1", "192.0.2.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "ff02::1", "2001:db8::1", "fec0::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:a00:1::"),
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
        # Metadata services of cloud providers, and their hosts.
        *("192.0.0.192", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "::ffff:169.254.169.254"),
        *("64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "2001:0:a9fe:a9fe::", "2606:4700::5efe:a9fe:a9fe"),
        # Special by the registries, but not by every version of Python.
        *("192.0.0.1", "192.0.0.9", "192.88.99.1", "64:ff9b:1::1", "100::1", "2001:2::1", "2001:10::1", "2001:20::1"),
        *("3fff::1", "5f00::1", "::7f00:1", "::ffff:0:7f00:1", "4000::1", "2620:4f:8000::1"),
    ],
)
def test_an_address_that_is_not_public_is_not_allowed(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_an_address_of_the_public_internet_is_allowed(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0", "[::1]", "[::ffff:127.0.0.1]"]
)
async def test_the_tool_refuses_this_machine_however_it_is_written(site: Site, tmp_path: Path, host: str) -> None:
    site.says("/", b"secret")
    (tool,) = load_tools(["fetch_url"])
    context = ToolContext(tmp_path, MemoryMedia(), _ignore)
    with pytest.raises(ToolError, match="not an address of the public internet"):
        await tool.call(context, json.dumps({"url": site.url("/", host)}))
    assert site.requests == []


async def _ignore(text: str) -> None:
    pass


async def test_a_redirect_to_a_refused_address_is_not_followed(site: Site) -> None:
    site.says("/secret", b"secret")
    url = site.redirects("/", site.url("/secret", "127.0.0.2"))
    with pytest.raises(ToolError, match=r"127\.0\.0\.2, which is not an address"):
        await HERE.fetch(url)
    assert len(site.requests) == 1


async def test_every_connection_is_checked_and_goes_to_the_checked_address(site: Site) -> None:
    site.says("/end", b"there")
    url = site.redirects("/", site.url("/end", "localhost"))
    checked: list[str] = []

    def allow(address: Address) -> bool:
        checked.append(str(address))
        return address.version == 4

    page = await Fetcher(allow=allow).fetch(url)
    assert (page.text, page.url) == ("there", site.url("/end", "localhost"))
    assert checked.count("127.0.0.1") == 2
    assert f"Host: localhost:{site.port}" in site.requests[1]


async def test_redirects_are_counted(site: Site) -> None:
    for number in range(6):
        site.redirects(f"/{number}", f"/{number + 1}")
    site.says("/6", b"end")
    with pytest.raises(ToolError, match="more than 5 times"):
        await HERE.fetch(site.url("/0"))
    assert (await HERE.fetch(site.url("/1"))).text == "end"


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/passwd", "gopher://127.0.0.1:70/"])
async def test_only_http_is_spoken(site: Site, target: str) -> None:
    for url in (target, site.redirects("/", target)):
        with pytest.raises(ToolError):
            await HERE.fetch(url)


@pytest.mark.parametrize(
    "url", ["", "nonsense", "http://", "http://[::1", "http://a b/", "http://\ud800/", "http://127.0.0.1:99999/"]
)
async def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(ToolError):
        await HERE.fetch(url)


async def test_a_server_that_is_not_there_is_told() -> None:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(ToolError, match="could not be fetched"):
        await HERE.fetch(f"http://127.0.0.1:{port}/")


async def test_an_answer_that_is_no_http_is_told(site: Site) -> None:
    site.answers["/"] = b"SSH-2.0-OpenSSH\r\n"
    with pytest.raises(ToolError, match="could not be fetched"):
        await HERE.fetch(site.url("/"))


async def test_an_error_status_is_told_with_the_servers_words(site: Site) -> None:
    with pytest.raises(ToolError, match="answered 404 Not Found: nope"):
        await HERE.fetch(site.url("/missing"))


PAGE = b"""<!doctype html><html><head><title>The &amp; Title</title><style>p{}</style>
<script>var x = "<p>no</p>"</script></head>
<body><nav><a href=/home>Home</a></nav><h1>Head<b>ing</b></h1><p>Some <a href="/more?a=1&amp;b=2">more
words</a> &eacute; <a href="#x">here</a>.</p><ul><li>one<li>two<ol><li>in</ol></ul>
<pre>  kept
    as is</pre><table><tr><th>a<th>b<tr><td>1<td>2</table><img src=x alt="A cat"></body>"""


async def test_a_page_becomes_readable_text(site: Site) -> None:
    page = await HERE.fetch(site.says("/", PAGE, "text/html; charset=utf-8"))
    more = site.url("/more?a=1&b=2")
    assert page.text.split("\n") == [
        *("The & Title", "", "# Heading", "", f"Some more words ({more}) é here.", "", "- one", "- two", "  1. in", ""),
        *("```", "  kept", "    as is", "```", "", "a | b", "1 | 2", "", "[image: A cat]"),
    ]


async def test_a_page_with_an_unclosed_part_is_still_read(site: Site) -> None:
    page = await HERE.fetch(site.says("/", b"<nav><a href=x>Home</a><p>The story</p>", "text/html"))
    assert "The story" in page.text


@pytest.mark.parametrize("piece", [b"<!--", b"<a b=", b"<![CDATA[", b"</a<", b"&#", b"<div><ul><li>"])
async def test_a_hostile_page_costs_at_most_its_time(site: Site, piece: bytes) -> None:
    fetcher = Fetcher(allow=only_this, timeout=2)
    url = site.says("/", piece * (400_000 // len(piece)), "text/html")
    async with asyncio.timeout(60):
        (outcome,) = await asyncio.gather(fetcher.fetch(url), return_exceptions=True)
    assert isinstance(outcome, Page) or "took longer than 2 s" in str(outcome)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("zażółć".encode("iso-8859-2"), "text/plain; charset=iso-8859-2"),
        ("<meta charset='iso-8859-2'>zażółć".encode("iso-8859-2"), "text/html"),
        ("zażółć".encode(), "text/plain; charset=nonsense"),
        ("\ufeffzażółć".encode(), "text/plain"),
        ("zażółć".encode("utf-16"), "text/plain; charset=iso-8859-2"),
        ("<meta charset='utf-16'>zażółć".encode(), "text/html"),
        ("<?xml version='1.0' encoding='iso-8859-2'?><p>zażółć</p>".encode("iso-8859-2"), "application/xhtml+xml"),
        ("zażółć\n".encode("utf-16-le"), "text/plain"),
        ("zażółć".encode("utf-32"), "text/plain"),
    ],
)
async def test_the_encoding_is_found(site: Site, body: bytes, content_type: str) -> None:
    assert (await HERE.fetch(site.says("/", body, content_type))).text.strip() == "zażółć"


@pytest.mark.parametrize(
    "charset",
    [
        "unicode_escape",
        "raw_unicode_escape",
        "utf-7",
        "idna",
        "punycode",
        "rot13",
        "hex",
        "utf_8_sig",
        "charmap",
        "mbcs",
    ],
)
@pytest.mark.parametrize("declare", ["header", "page"])
async def test_names_that_only_python_knows_are_no_encodings(site: Site, charset: str, declare: str) -> None:
    body = rf"about \ud82d this, +2D3eAA-, xn--mnchen-3ya<meta charset={charset}>"
    content_type = f"text/plain; charset={charset}" if declare == "header" else "text/plain"
    assert (await HERE.fetch(site.says("/", body.encode(), content_type))).text == body


@pytest.mark.parametrize(
    ("text", "codec", "label"),
    [("简体中文", "gbk", "gb2312"), ("привет", "cp1251", "Windows-1251"), ("“ok”", "cp1252", "iso-8859-1")],
)
async def test_names_mean_what_they_mean_to_browsers(site: Site, text: str, codec: str, label: str) -> None:
    page = await HERE.fetch(site.says("/", text.encode(codec), f"text/plain; charset={label}"))
    assert page.text == text


@pytest.mark.parametrize(
    ("text", "codec"),
    [("Привет! Договор готов.", "cp1251"), ("会議は東京で行います", "shift-jis"), ("我们在北京开会", "gbk")],
)
async def test_an_encoding_that_nobody_declares_is_recognised(site: Site, text: str, codec: str) -> None:
    assert (await HERE.fetch(site.says("/", text.encode(codec), "text/plain"))).text == text
    page = await HERE.fetch(site.says("/", f"<p>{text}</p>".encode(codec), "text/html"))
    assert page.text == text


@pytest.mark.parametrize(
    "content_type",
    [
        *("application/json", "application/ld+json", "text/csv", "", "application/xml", "application/octet-stream"),
        *("application/toml", "application/x-sh", "application/sql", "application/javascript", "text/x-python"),
        *("application/x-ndjson", "message/http", "application/graphql-response+json"),
    ],
)
async def test_plain_text_is_given_as_it_is(site: Site, content_type: str) -> None:
    assert (await HERE.fetch(site.says("/", b'{"a":  1}', content_type))).text == '{"a":  1}'


@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream", ""])
async def test_what_is_not_text_is_refused_with_type_and_size(site: Site, content_type: str) -> None:
    with pytest.raises(ToolError, match=f"not text but {content_type or 'of unknown type'} .4 bytes"):
        await HERE.fetch(site.says("/", b"\x89\0\0\0", content_type))


@pytest.mark.parametrize("content_type", ["application/octet-stream", "binary/octet-stream", ""])
async def test_a_page_of_unknown_type_is_still_a_page(site: Site, content_type: str) -> None:
    page = await HERE.fetch(site.says("/", b"<!DOCTYPE html><p>Hello <b>you</b></p>", content_type))
    assert page.text == "Hello you"


@pytest.mark.parametrize("content_type", ["application/pdf", "application/octet-stream", "text/plain"])
async def test_a_pdf_is_read(site: Site, content_type: str) -> None:
    page = await HERE.fetch(site.says("/report", pdf("First", "Second"), content_type))
    assert page.text == "## Page 1 of 2\n\nFirst\n\n## Page 2 of 2\n\nSecond"


async def test_an_office_file_and_a_notebook_are_read(site: Site) -> None:
    assert (await HERE.fetch(site.says("/a", word("Hello"), "application/octet-stream"))).text == "Hello"
    notebook = {"nbformat": 4, "cells": [{"cell_type": "markdown", "source": ["# Title"]}]}
    url = site.says("/a/b.ipynb?raw=1", json.dumps(notebook).encode(), "text/plain")
    assert (await HERE.fetch(url)).text == "## Cell 1\n\n# Title"


async def test_a_document_may_be_larger_than_a_page_but_not_without_limit(site: Site) -> None:
    large = pdf("Hello") + b"%" + b"x" * 3_000_000
    assert "Hello" in (await HERE.fetch(site.says("/", large, "application/pdf"))).text
    with pytest.raises(ToolError, match="more than 4,000 bytes"):
        await Fetcher(allow=only_this, max_document_bytes=4000).fetch(site.url("/"))


async def test_a_document_that_cannot_be_read_is_told(site: Site) -> None:
    with pytest.raises(ToolError, match="cannot be read: it is damaged or incomplete"):
        await HERE.fetch(site.says("/", b"%PDF-1.4\nbroken", "application/pdf"))
    with pytest.raises(ToolError, match="not a Word document"):
        await HERE.fetch(site.says("/a.docx", archive(a__txt="x"), "application/zip"))


async def test_a_large_answer_is_cut_and_says_so(site: Site) -> None:
    page = await Fetcher(allow=only_this, max_bytes=1000).fetch(site.says("/", b"x" * 5000))
    assert page.text == "x" * 1000
    assert page.note == "only the first 1,000 bytes were read"


async def test_an_answer_that_never_ends_is_cut(site: Site) -> None:
    site.answers["/"] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + b"y" * 3_000_000
    assert len((await HERE.fetch(site.url("/"))).text) == 2_000_000


async def test_a_packed_answer_is_unpacked(site: Site) -> None:
    url = site.says("/", gzip.compress(b"hello"), "text/plain", "Content-Encoding: gzip")
    assert (await HERE.fetch(url)).text == "hello"


async def test_a_packed_answer_swells_no_further_than_the_bound(site: Site) -> None:
    bomb = gzip.compress(b"a" * 60_000_000)
    page = await HERE.fetch(site.says("/", bomb, "text/plain", "Content-Encoding: gzip"))
    assert len(page.text) == 2_000_000


@pytest.mark.parametrize("encoding", ["gzip", "br", "nonsense"])
async def test_an_answer_that_cannot_be_unpacked_is_told(site: Site, encoding: str) -> None:
    with pytest.raises(ToolError):
        await HERE.fetch(site.says("/", b"not packed at all", "text/plain", f"Content-Encoding: {encoding}"))


async def test_a_slow_answer_ends_with_its_time(site: Site) -> None:
    with pytest.raises(ToolError, match=r"took longer than 0\.2 s"):
        await Fetcher(allow=only_this, timeout=0.2).fetch(site.url("/hang"))


async def test_cancelling_ends_the_request(site: Site) -> None:
    task = asyncio.create_task(HERE.fetch(site.url("/hang")))
    async with asyncio.timeout(60):
        await site.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await site.hung_up.wait()


async def test_no_proxy_of_the_environment_is_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert (await HERE.fetch(site.says("/", b"direct"))).text == "direct"


async def test_a_page_that_is_a_name_for_nobody_is_told() -> None:
    with pytest.raises(ToolError, match="was not found"):
        await HERE.fetch("http://nobody.invalid/")


async def test_a_file_that_a_server_calls_text_is_named_as_what_it_is(site: Site) -> None:
    picture = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 4
    with pytest.raises(ToolError, match=r"is not text but image/png"):
        await HERE.fetch(site.says("/picture", picture, "text/plain; charset=utf-8"))
