"""What mirror_audit costs, measured: see README.md here."""
