"""Where a customer finds our application in the Microsoft Entra admin center, by cloud. Pure."""

# The admin centers of all clouds; GCC High and DoD share one (https://learn.microsoft.com/entra/fundamentals/faq).
ADMIN_CENTERS = {
    "global": "https://entra.microsoft.com",
    "usgov": "https://entra.microsoft.us",
    "china": "https://entra.microsoftonline.cn",
}


def enterprise_application(cloud: str, client_id: str, *, object_id: str | None = None) -> str:
    """The page of the enterprise application, where it can be disabled or deleted.

    ``object_id`` is that of the service principal in the customer's tenant; an app-only token of that tenant carries it
    as `oid`. Without it the page finds the application by its client id. Whoever opens it has to be signed in to that
    very tenant. The path is that of the admin center itself: Microsoft documents where to click
    (https://learn.microsoft.com/entra/identity/enterprise-apps/delete-application-portal), not this address, and tools
    around Entra rely on the same one in every cloud.
    """
    center = ADMIN_CENTERS.get(cloud, ADMIN_CENTERS["global"])
    where = f"objectId/{object_id}/appId/{client_id}" if object_id else f"appId/{client_id}"
    return f"{center}/#view/Microsoft_AAD_IAM/ManagedAppMenuBlade/~/Overview/{where}"
