"""The pages for people: links lead somewhere, and commands have the options that pages give them."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import click
import pytest
from PIL import Image

import basic_export.cli
import basic_runtime.cli
import basic_train.cli
from basic_runtime import Bundle, container

ROOT = Path(__file__).parents[1]
PAGES = sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md"))
COMMANDS = {
    "basic-run": basic_runtime.cli.main,
    "basic-train": basic_train.cli.main,
    "basic-export": basic_export.cli.main,
}


def anchors(page: Path) -> set[str]:
    """Of headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def invocations(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Commands in code of the page, with the words behind them to the end of the line, comment or code."""
    pattern = re.compile(r"(?:`|^ {4}.*?|^)\b(basic-(?:run|train|export))((?: [^\s`|#&;]+)+)", re.MULTILINE)
    return ((command, words.split()) for command, words in pattern.findall(page.read_text()))


def options_of(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "lab.md"], ids=lambda page: page.name)
def test_commands_have_the_options_of_the_page(page: Path) -> None:
    for name, words in invocations(page):
        command = COMMANDS[name]
        if isinstance(command, click.Group) and not words[0].startswith("-"):
            assert words[0] in command.commands, f"{name} {' '.join(words)}"
            command = command.commands[words[0]]
        given = [re.sub(r"[^\w-].*$", "", word) for word in words if re.match(r"--?[a-z]", word)]
        assert set(given) <= options_of(command), f"{name} {' '.join(words)}"


@pytest.mark.parametrize(("page", "row", "digits"), [("README.md", "| level {} |", 1), ("docs/export.md", "| {} |", 2)])
def test_levels_cost_what_the_bundle_says(page: str, row: str, digits: int) -> None:
    """In thousands: a new encoder has other costs than the one before."""
    lines = (ROOT / page).read_text().splitlines()
    for number, level in enumerate(Bundle().manifest.levels):
        (line,) = (line for line in lines if line.startswith(row.format(number)))
        cells = re.split(r"[|/]", line.replace(" ", ""))
        for macs in (level.encode_macs_per_pixel, level.decode_macs_per_pixel):
            assert f"{macs / 1000:.{digits}f}" in cells, line


def test_the_service_of_the_page_converts_uploads_and_refuses_others() -> None:
    """The handler of docs/serving.md, as it stands there."""
    page = (ROOT / "docs" / "serving.md").read_text()
    names: dict[str, Any] = {"__name__": "service"}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], names)  # type: ignore[index]
    server = names["ThreadingHTTPServer"](("127.0.0.1", 0), names["Handler"])
    server.RequestHandlerClass.log_message = lambda *_: None
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def post(path: str, body: bytes, length: str | None = None) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", server.server_port, timeout=60)
        connection.request("POST", path, body, {} if length is None else {"Content-Length": length})
        answer = connection.getresponse()
        return answer.status, answer.read()

    picture = io.BytesIO()
    Image.linear_gradient("L").resize((90, 70)).save(picture, "PNG")
    try:
        status, packed = post("/encode", picture.getvalue())
        assert status == 200
        status, png = post("/decode", packed)
        assert status == 200
        assert Image.open(io.BytesIO(png)).size == (90, 70)
        assert post("/encode", b"no picture")[0] == 422
        assert post("/decode", packed[:-9])[0] == 422
        assert post("/nope", packed)[0] == 404
        content = container.read(packed)
        header = replace(content.header, yhat_crc=content.header.yhat_crc ^ 1)  # as if this machine decoded others
        assert post("/decode", container.write(replace(content, header=header)))[0] == 500
        for wrong, answered in (("-1", 411), ("x", 411), ("99999999999", 413)):
            assert post("/encode", b"", wrong)[0] == answered
        too_many = io.BytesIO()
        Image.new("1", (5000, 5000)).save(too_many, "PNG")
        assert post("/encode", too_many.getvalue())[0] == 413
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
