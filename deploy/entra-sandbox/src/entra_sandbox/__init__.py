"""A double of Microsoft Entra ID and Microsoft Graph, faithful where a consent platform touches them."""
