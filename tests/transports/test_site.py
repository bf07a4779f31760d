"""The web app's files and page, under any path."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from core import Told, echo
from runcast.server import Server
from serving import serving, serving_app

pytestmark = pytest.mark.anyio

INDEX = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <title>Chat</title>
    <style>body { margin: 0 }</style>
    <script type="module" src="./assets/main-AbCd1234.js"></script>
  </head>
  <body></body>
</html>
"""


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    directory = tmp_path / "dist"
    (directory / "assets").mkdir(parents=True)
    (directory / "index.html").write_text(INDEX)
    (directory / "favicon.svg").write_text("<svg/>")
    (directory / "diagram-frame.html").write_text('<script src="./assets/diagram-frame-XyZ_1234.js" defer></script>')
    (directory / "assets" / "diagram-frame-XyZ_1234.js").write_text("frame()")
    (directory / "assets" / "main-AbCd1234.js").write_text("main()")
    (directory / "assets" / "main-AbCd1234.js.gz").write_bytes(gzip.compress(b"main()"))
    (tmp_path / "secret.txt").write_text("canary")
    return directory


@pytest.fixture
async def http(dist: Path) -> AsyncIterator[httpx.AsyncClient]:
    options = {"title": "Shop </title> & more", "welcome": "</script><b>", "starters": ["Hi"], "web_directory": dist}
    async with serving(**options) as running, running.http() as client:
        yield client


def config_of(page: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="runcast-config">(.*?)</script>', page)
    assert found
    return json.loads(found[1])


async def test_page_is_told_where_it_lives(http: httpx.AsyncClient) -> None:
    for path in ("/", "/c/01a1fa7b-ab34"):
        page = await http.get(path)
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert '<base href="/">' in page.text
        assert page.text.index("<base") < page.text.index("./assets/")
        assert page.headers["cache-control"] == "no-store"
        assert "<title>Shop &lt;/title&gt; &amp; more</title>" in page.text
        config = config_of(page.text)
        assert (config["title"], config["welcome"], config["starters"]) == (
            "Shop </title> & more",
            "</script><b>",
            ["Hi"],
        )


async def test_page_is_told_that_there_is_a_choice_and_not_of_what(dist: Path) -> None:
    for names in (["support"], ["support", "research"]):
        server = Server([Told(echo, name) for name in names], store=":memory:", web_directory=dist, drain_timeout_s=0)
        async with serving_app(server) as running, running.http() as http:
            page = (await http.get("/")).text
        assert config_of(page)["severalAgents"] is (len(names) > 1)
        assert "research" not in page


async def test_policy_allows_the_app_and_nothing_else(http: httpx.AsyncClient) -> None:
    first, second = await http.get("/"), await http.get("/")
    policy = dict(part.strip().partition(" ")[::2] for part in first.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    host = http.base_url.netloc.decode()
    assert policy["connect-src"] == f"'self' ws://{host}"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in first.headers["content-security-policy"]
    nonce = re.search(r"'nonce-([\w-]+)'", policy["style-src"])
    assert nonce
    assert f'<style nonce="{nonce[1]}">' in first.text
    assert nonce[1] not in second.text
    assert first.headers["x-frame-options"] == "DENY"


async def test_hashed_files_are_kept_others_are_asked_for(http: httpx.AsyncClient) -> None:
    asset = await http.get("/assets/main-AbCd1234.js", headers={"accept-encoding": "identity"})
    assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert asset.headers["content-type"].startswith("text/javascript")
    assert asset.text == "main()"
    icon = await http.get("/favicon.svg")
    assert icon.headers["cache-control"] == "no-cache"
    assert icon.headers["content-type"].startswith("image/svg+xml")
    unchanged = await http.get("/favicon.svg", headers={"if-none-match": icon.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


async def test_compressed_twins(http: httpx.AsyncClient) -> None:
    async with http.stream("GET", "/assets/main-AbCd1234.js", headers={"accept-encoding": "gzip, br"}) as response:
        raw = b"".join([chunk async for chunk in response.aiter_raw()])
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["content-type"].startswith("text/javascript")
    assert "accept-encoding" in response.headers["vary"].lower()
    assert gzip.decompress(raw) == b"main()"
    refused = await http.get("/assets/main-AbCd1234.js", headers={"accept-encoding": "gzip;q=0"})
    assert "content-encoding" not in refused.headers
    assert (await http.get("/assets/main-AbCd1234.js.gz")).status_code == 404


async def test_diagram_frame_lives_in_an_opaque_origin(http: httpx.AsyncClient) -> None:
    frame = await http.get("/diagram-frame.html")
    policy = frame.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'self'" in policy
    assert "sandbox allow-scripts" in policy and "allow-same-origin" not in policy
    assert frame.headers["x-frame-options"] == "SAMEORIGIN"
    script = await http.get("/assets/diagram-frame-XyZ_1234.js")
    assert script.headers["cross-origin-resource-policy"] == "cross-origin"
    assert (await http.get("/assets/main-AbCd1234.js")).headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    ["/../secret.txt", "/%2e%2e/secret.txt", "/assets/../../secret.txt", "/assets/..%2f..%2fsecret.txt", "/assets", "/assets/", "/c/a/b", "/c/", "/index.html"],
)  # fmt: skip
async def test_only_the_files_that_are_there(http: httpx.AsyncClient, path: str) -> None:
    response = await http.send(http.build_request("GET", http.base_url.copy_with(raw_path=path.encode())))
    assert response.status_code == 404
    assert "canary" not in response.text


async def test_head_has_no_body(http: httpx.AsyncClient) -> None:
    for path in ("/", "/favicon.svg"):
        response = await http.head(path)
        assert (response.status_code, response.content) == (200, b"")


async def test_missing_build_says_how_to_build(tmp_path: Path) -> None:
    async with serving(web_directory=tmp_path) as running, running.http() as http:
        page = await http.get("/")
        assert page.status_code == 503
        assert "npm run build" in page.text


async def test_web_may_be_off(dist: Path) -> None:
    async with serving(web=False, web_directory=dist) as running, running.http() as http:
        for path in ("/", "/favicon.svg", "/c/x"):
            assert (await http.get(path)).headers["content-type"] == "application/problem+json"
