"""What may be dialled: the ranges, their disguises, and the text of a URL."""

from ipaddress import ip_address, ip_network

import pytest

from notifier.addresses import RefusedUrl, check_url, is_public

FORBIDDEN = [
    # one inside and the edges of each range
    *("0.0.0.0", "0.255.255.255", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1"),
    *("127.255.255.255", "169.254.169.254", "169.254.0.1", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.170"),
    *("192.0.2.1", "192.88.99.1", "192.168.0.1", "192.168.255.255", "198.18.0.1", "198.19.255.255", "198.51.100.1"),
    *("192.31.196.1", "192.52.193.1", "192.175.48.1"),
    *("203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *(
        "::",
        "::1",
        "::127.0.0.1",
        "fe80::1",
        "febf::1",
        "fe80::1%eth0",
        "2606:4700::1%eth0",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
    ),
    *("4000::1", "8000::1", "1fff::1", "e000::1"),  # not given out to anybody yet
    *("ff02::1", "2001:db8::1", "3fff::1", "100::1", "2001::1", "2001:20::1", "5f00::1", "2620:4f:8000::1"),
    # IPv4 in disguise: mapped, translated, NAT64, local-use NAT64, 6to4
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:7f00:1", "::ffff:0:127.0.0.1"),
    *(
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "2002:7f00:1::1",
        "2002:a9fe:a9fe::1",
    ),
]
PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "126.255.255.255"),
    *("128.0.0.1", "169.253.255.255", "169.255.0.1", "172.15.255.255", "172.32.0.1", "191.255.255.255", "192.0.1.1"),
    *("192.167.255.255", "192.169.0.1", "198.17.255.255", "198.20.0.1", "223.255.255.255"),
    *("2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001:830::200e", "::ffff:8.8.8.8"),
]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_addresses_that_are_never_dialled(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_that_may_be_dialled(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/consent?app=1",
        "https://hooks.example.com:8443/",
        "https://hooks.example.com:443/",
        "https://8.8.8.8/hook",
        "https://[2606:4700:4700::1111]/hook",
    ],
)
def test_urls_that_are_taken(url: str) -> None:
    check_url(url, private_allowed=False, ports=(443, 8443))


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://hooks.example.com/",
            "ftp://hooks.example.com/",
            "//hooks.example.com/",
            "hooks.example.com",
            "https://",
        ),
        *("https://user:pass@hooks.example.com/", "https://user@hooks.example.com/", "https://hooks.example.com/#x"),
        *("https://:pass@hooks.example.com/", "https://@hooks.example.com/", "https://:@hooks.example.com/"),
        *("https://hooks.example.com:22/", "https://hooks.example.com:8080/", "https://hooks.example.com:99999/"),
        *("https://127.0.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://169.254.169.254/latest"),
        *(
            "https://localhost/",
            "https://LOCALHOST./",
            "https://app.localhost/",
            "https://registry/",
            "https://db.internal/",
        ),
        *(
            "https://printer.local",
            "https://hooks.example.com/a b",
            "https://hooks.example.com/\r\nHost: x",
            "https://exa\u006dple\u3002com/",
        ),
        "https://hooks.example.com/" + "x" * 2048,
        "https://hooks.example.com\\@127.0.0.1/",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(RefusedUrl):
        check_url(url, private_allowed=False, ports=(443, 8443))


def test_private_networks_take_http_and_any_port_but_no_credentials() -> None:
    check_url("http://localhost:8092/hooks", private_allowed=True, ports=(443,))
    for url in ("http://user:pass@localhost:8092/hooks", "ftp://localhost/hooks", "file:///etc/passwd"):
        with pytest.raises(RefusedUrl):
            check_url(url, private_allowed=True, ports=(443,))


def test_networks_of_the_operator_are_refused_as_well() -> None:
    refused = (ip_network("2a00:1450:64::/96"), ip_network("8.8.8.0/24"))
    for address in ("2a00:1450:64::7f00:1", "8.8.8.8", "::ffff:8.8.8.8"):
        assert is_public(ip_address(address))
        assert not is_public(ip_address(address), refused=refused)
    assert is_public(ip_address("1.1.1.1"), refused=refused)
    with pytest.raises(RefusedUrl):
        check_url("https://8.8.8.8/", private_allowed=False, ports=(443,), refused=refused)
