"""Does Entra still show what was accepted? Verification, the monitor, and what an answer is worth."""
