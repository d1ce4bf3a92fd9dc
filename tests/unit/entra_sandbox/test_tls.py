"""The CA and the certificate of the listeners."""

import ipaddress
import stat
from pathlib import Path

from cryptography import x509

from entra_sandbox import certificates


def test_the_ca_is_made_once_and_signs_every_start(tmp_path: Path) -> None:
    first = certificates.prepare(tmp_path)
    ca, leaf = first.ca.read_bytes(), first.certificate.read_bytes()

    second = certificates.prepare(tmp_path)

    assert second.ca.read_bytes() == ca
    assert second.certificate.read_bytes() != leaf
    authority = x509.load_pem_x509_certificate(ca)
    for pem in (leaf, second.certificate.read_bytes()):
        x509.load_pem_x509_certificate(pem).verify_directly_issued_by(authority)


def test_the_certificate_covers_loopback_and_the_hosts_of_the_settings(tmp_path: Path) -> None:
    files = certificates.prepare(tmp_path, ["entra-sandbox", "10.0.0.7"])

    names = x509.load_pem_x509_certificate(files.certificate.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost", "entra-sandbox"]
    addresses = names.value.get_values_for_type(x509.IPAddress)
    assert addresses == [ipaddress.ip_address(text) for text in ("127.0.0.1", "::1", "10.0.0.7")]


def test_private_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    certificates.prepare(tmp_path)

    for name in ("ca-key.pem", "tls-key.pem"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca-key.pem", "ca.pem", "tls-key.pem", "tls.pem"]
