"""The pages of the site, their defects, and the server."""

from __future__ import annotations

import gzip
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from xinstruct.microworld.defects import PLAN
from xinstruct.microworld.page import Page, Reason
from xinstruct.microworld.pages import page_html
from xinstruct.microworld.personal import iban
from xinstruct.microworld.randomness import stream
from xinstruct.microworld.site import SiteConfig, hosts_of, language_pages
from xinstruct.microworld.site_server import Handle, ServerConfig, start_in_thread, truth_lines
from xinstruct.microworld.skins import SKINS_IN_USE

SITE = SiteConfig(3, ("sw",), 120, slow_s=0.0, padding_bytes=200_000)


@pytest.fixture(scope="module")
def handle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Handle]:
    log = tmp_path_factory.mktemp("microworld") / "access.jsonl"
    running = start_in_thread(ServerConfig(SITE, port=0, access_log=log, control_token="let me"))
    yield running
    running.stop()


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: object, **named: object) -> None:
        return None


def ask(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    opener = urllib.request.build_opener(_Stay)
    request = urllib.request.Request(url, headers={key.replace("_", "-"): value for key, value in headers.items()})
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status, {key.lower(): value for key, value in answer.headers.items()}, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, {key.lower(): value for key, value in error.headers.items()}, error.read()


def test_a_default_site_has_its_pages_and_its_share_of_defects() -> None:
    pages = language_pages(SiteConfig(1, ("ur",)), "ur")
    admissible = [page for page in pages if page.reason is None]
    assert len(pages) == 330 and len({page.path for page in pages}) == 330
    assert len(admissible) >= 230
    planted = sum(max(1, round(share * 3.3)) for _, share in PLAN)
    assert planted >= 330 / 4
    assert all(page.documents for page in admissible)


def test_every_reason_occurs_in_a_site() -> None:
    reasons = {page.reason for page in language_pages(SITE, "sw")}
    assert reasons == {None, *Reason} - {Reason.LISTING, Reason.BROKEN_TEXT}  # sw has no marks to break


def test_a_language_has_the_same_pages_in_any_company() -> None:
    alone = SiteConfig(3, ("sw",), 60)
    assert language_pages(alone, "sw") == language_pages(SiteConfig(3, ("ur", "sw"), 60), "sw")


@pytest.mark.parametrize("language", ["fi", "ta", "th"])
def test_near_duplicates_are_nearly_duplicates(language: str) -> None:
    pages = {page.path: page for page in language_pages(SiteConfig(2, (language,), 120), language)}
    copies = [page for page in pages.values() if page.near_duplicate_of]
    assert len(copies) >= 4
    for page in copies:
        one, other = (_grams(text.main_text, language) for text in (page, pages[page.near_duplicate_of or ""]))
        assert len(one & other) / len(one | other) > 0.75


def test_html_tells_no_truth() -> None:
    host = hosts_of(SITE, "sw")[0]
    pages = language_pages(SITE, "sw")
    for page in pages[:60]:
        html = page_html(page, host, pages, "http://127.0.0.1:1").lower()
        assert page.reason is None or page.reason.value not in html
        assert not any(document.instruction.lower() in html for document in page.documents)
        assert not any(word in html for word in ("admissible", "near_duplicate", "covering"))


def test_account_numbers_are_valid() -> None:
    for country in ("FI", "TR", "PK", "DE"):
        plain = iban(country, stream(country)).replace(" ", "")
        assert int("".join(str(int(letter, 36)) for letter in plain[4:] + plain[:4])) % 97 == 1


def test_skins_differ_between_hosts_and_come_from_those_in_use() -> None:
    skins = [host.skin for host in hosts_of(SITE, "sw")]
    assert len(set(skins)) == 3 and set(skins) <= set(SKINS_IN_USE)


def test_the_truth_has_a_line_for_every_page_with_the_port_in_its_address(handle: Handle) -> None:
    lines = [json.loads(line) for line in truth_lines(SITE, handle.port)]
    assert lines == handle.truth()
    assert len([line for line in lines if line["reason"] != "listing"]) == SITE.pages_per_language


def test_a_site_for_other_machines_has_its_own_name_in_every_address_and_answers_wherever_it_is_asked() -> None:
    running = start_in_thread(ServerConfig(SITE, port=0, host="site.example", listen="0.0.0.0"))
    try:
        assert running.origin == f"http://site.example:{running.port}"
        for address in ("127.0.0.1", "127.0.0.2"):
            status, _, body = ask(f"http://{address}:{running.port}/sitemap.xml")
            assert status == 200 and f"<loc>{running.origin}/".encode() in body and b"127.0.0.1" not in body
        lines = [json.loads(line) for line in truth_lines(SITE, running.port, "site.example")]
        assert lines == running.truth() and all(line["url"].startswith(running.origin) for line in lines)
    finally:
        running.stop()


def test_pages_are_served_as_their_truth_says(handle: Handle) -> None:
    for page in language_pages(SITE, "sw"):
        status, headers, body = ask(handle.origin + page.path)
        if page.delivery.status_first:
            assert (status, headers["retry-after"]) == (503, "1")
        elif page.reason in (Reason.REDIRECT, Reason.REDIRECT_LOOP):
            assert headers["location"].startswith("/")
        else:
            assert status == page.delivery.status
        assert (page.reason is Reason.TOO_BIG) == (len(body) > 150_000)


def test_a_known_page_is_not_sent_again(handle: Handle) -> None:
    page = _sound_page()
    _, headers, _ = ask(handle.origin + page.path)
    assert ask(handle.origin + page.path, If_None_Match=headers["etag"])[0] == 304
    assert ask(handle.origin + page.path, If_Modified_Since=headers["last-modified"])[0] == 304


def test_the_files_about_the_site_name_its_pages(handle: Handle) -> None:
    host = hosts_of(SITE, "sw")[0]
    assert f"Disallow: {host.prefix}x/" in ask(f"{handle.origin}/robots.txt")[2].decode()
    assert json.loads(ask(f"{handle.origin}/.well-known/tdmrep.json")[2])[0]["tdm-reservation"] == 1
    assert f"{host.prefix}sitemap.xml.gz" in ask(f"{handle.origin}/sitemap.xml")[2].decode()
    page = next(page for page in language_pages(SITE, "sw") if page.site == host.prefix)
    assert page.path in gzip.decompress(ask(f"{handle.origin}{host.prefix}sitemap.xml.gz")[2]).decode()
    assert "<rss" in ask(f"{handle.origin}{host.prefix}feed.xml")[2].decode()
    assert ask(f"{handle.origin}/nowhere")[0] == 404


def test_the_site_changes_while_it_is_served(handle: Handle) -> None:
    page = _sound_page()
    before = ask(handle.origin + page.path)[2]
    handle.live.edit(page.path)
    assert ask(handle.origin + page.path)[2] != before
    handle.live.opt_out(page.path)
    assert _truth_of(handle, page.path)["admissible"] is False
    handle.live.remove(page.path)
    assert ask(handle.origin + page.path)[0] == 410
    added = handle.live.add("sw")
    assert ask(handle.origin + added.path)[0] == 200
    assert _truth_of(handle, added.path)["documents"]
    feed = ask(f"{handle.origin}{added.site}feed.xml")[2].decode()
    assert added.path in feed


def test_control_calls_want_the_token(handle: Handle) -> None:
    assert ask(f"{handle.origin}/_control/truth")[0] == 404
    assert ask(f"{handle.origin}/_control/truth", X_Control_Token="let me")[0] == 200


def test_the_access_log_holds_every_request(handle: Handle) -> None:
    ask(f"{handle.origin}/nowhere/at/all", User_Agent="a test")
    log = handle._server.config.access_log
    assert isinstance(log, Path)
    last = json.loads(log.read_text().splitlines()[-1])
    assert (last["path"], last["status"], last["user_agent"]) == ("/nowhere/at/all", 404, "a test")


def _grams(text: str, language: str) -> set[tuple[str, ...]]:
    units = list(text.replace(" ", "")) if language == "th" else text.split()
    return {tuple(units[start : start + 5]) for start in range(len(units) - 4)}


def _sound_page() -> Page:
    return next(page for page in language_pages(SITE, "sw") if page.reason is None and not page.delivery.status_first)


def _truth_of(handle: Handle, path: str) -> dict[str, object]:
    return next(line for line in handle.truth() if line["url"] == handle.origin + path)
