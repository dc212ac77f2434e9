"""Whom a service listens to: names, other sites, tokens."""

from __future__ import annotations

import pytest
from service import Inverting, running

from m2a.serving.settings import Settings, is_loopback

SITE = "https://photos.example"


def test_another_name_for_this_machine_is_refused(client):
    """A site can make its own name lead to 127.0.0.1, and then counts as this one."""
    answer = client.get("/readyz", headers={"Host": "evil.example"})
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"
    for name in ("localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:8000"):
        assert client.get("/readyz", headers={"Host": name}).status_code == 200


@pytest.mark.parametrize("host", ["", "[", "localhost.evil.example", "localhost@evil.example"])
def test_a_broken_name_too(client, host):
    assert client.get("/readyz", headers={"Host": host}).status_code == 421


def test_a_name_can_be_added():
    with running(Inverting(), allow_hosts=("Photos.example",)) as client:
        for name in ("photos.example", "localhost"):
            assert client.get("/readyz", headers={"Host": name}).status_code == 200
        assert client.get("/readyz", headers={"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(
    ("host", "allowed", "known"),
    [
        ("127.0.0.1", (), {"localhost", "127.0.0.1", "::1"}),
        ("::1", ("a",), {"localhost", "127.0.0.1", "::1", "a"}),
        ("127.8.0.1", (), {"localhost", "127.0.0.1", "::1", "127.8.0.1"}),
        ("0.0.0.0", (), None),
        ("0.0.0.0", ("a", "B"), {"a", "b"}),
        ("photos.example", (), None),
    ],
)
def test_which_names_are_known(host, allowed, known):
    assert Settings(host=host, allow_hosts=allowed).known_hosts == known
    assert is_loopback(host) == (host in ("127.0.0.1", "::1", "127.8.0.1"))


class TestOtherSites:
    @pytest.mark.parametrize("origin", [SITE, "null", "http://localhost:1", "garbage", "http://["])
    def test_are_refused(self, client, jpeg, origin):
        form = {"photo": ("a.jpg", jpeg)}  # a browser sends it without asking first
        answer = client.post("/v1/deblur", files=form, headers={"Origin": origin})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers

    def test_this_one_is_not(self, client, jpeg):
        own = str(client.base_url).rstrip("/")
        form = {"photo": ("a.jpg", jpeg)}
        answer = client.post("/v1/deblur", files=form, headers={"Origin": own})
        assert answer.status_code == 200
        # Through a proxy that speaks TLS.
        tls = own.replace("http:", "https:")
        assert client.get("/readyz", headers={"Origin": tls}).status_code == 200

    def test_one_can_be_let_in(self, jpeg):
        headers = {"Origin": SITE, "Content-Type": "image/jpeg"}
        with running(Inverting(), allow_origins=(SITE,), token="secret") as client:
            asked = client.options(
                "/v1/deblur",
                headers={
                    "Origin": SITE,
                    "Access-Control-Request-Method": "POST",
                    "Access-Control-Request-Headers": "authorization, content-type",
                },
            )
            assert asked.status_code == 200
            assert asked.headers["access-control-allow-origin"] == SITE
            answer = client.post(
                "/v1/deblur", content=jpeg, headers=headers | {"Authorization": "Bearer secret"}
            )
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == SITE
            assert "M2A-Coverage" in answer.headers["access-control-expose-headers"]
            assert client.post("/v1/deblur", content=jpeg, headers=headers).status_code == 401
            other = client.get("/readyz", headers={"Origin": "https://other.example"})
            assert other.status_code == 403


@pytest.fixture(scope="module")
def guarded():
    with running(Inverting(), token="secret") as client:
        yield client


class TestToken:
    @pytest.mark.parametrize("path", ["/metrics", "/nothing", "/v1/deblur"])
    @pytest.mark.parametrize(
        "sent", [None, "secret", "Bearer", "Bearer wrong", "Basic secret", "Bearer secretsecret"]
    )
    def test_without_it_nothing_is_told(self, guarded, path, sent):
        answer = guarded.get(path, headers={"Authorization": sent} if sent else {})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
    def test_with_it_all(self, guarded, jpeg, scheme):
        headers = {"Authorization": f"{scheme} secret", "Content-Type": "image/jpeg"}
        assert guarded.post("/v1/deblur", content=jpeg, headers=headers).status_code == 200
        assert guarded.get("/metrics", headers=headers).status_code == 200

    @pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/openapi.json"])
    def test_what_tells_nothing_of_photos_needs_none(self, guarded, path):
        assert guarded.get(path).status_code == 200

    def test_its_bytes_may_be_any(self, guarded):
        answer = guarded.get("/metrics", headers={"Authorization": "Bearer sécret".encode()})
        assert answer.status_code == 401
