"""The consent flow: attempts from the start to the proof, invitations, transfers."""
