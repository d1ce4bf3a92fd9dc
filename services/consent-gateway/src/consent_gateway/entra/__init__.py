"""Microsoft Entra ID and Graph: what their answers mean, how they are asked, our own credentials."""
