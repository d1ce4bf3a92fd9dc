"""The way to the enterprise application, in every cloud."""

import pytest

from consent_gateway.entra.links import enterprise_application
from support.gateway import CLIENT_IDS

CLIENT = CLIENT_IDS["read-directory-data"]
PRINCIPAL = "3b0c2b4e-5b7d-4a55-8c39-0a86e5ad1d11"
BLADE = "#view/Microsoft_AAD_IAM/ManagedAppMenuBlade/~/Overview"


@pytest.mark.parametrize(
    ("cloud", "center"),
    [
        ("global", "https://entra.microsoft.com/"),
        ("usgov", "https://entra.microsoft.us/"),
        ("china", "https://entra.microsoftonline.cn/"),
        ("another", "https://entra.microsoft.com/"),
    ],
)
def test_it_is_exact_where_the_service_principal_is_known_and_names_the_application_otherwise(
    cloud: str, center: str
) -> None:
    exact = enterprise_application(cloud, CLIENT, object_id=PRINCIPAL)
    assert exact == f"{center}{BLADE}/objectId/{PRINCIPAL}/appId/{CLIENT}"
    assert enterprise_application(cloud, CLIENT) == f"{center}{BLADE}/appId/{CLIENT}"
