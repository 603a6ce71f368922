"""`python -m mirror_audit`: the same as the command `mirror-audit`."""

from mirror_audit.cli.main import main

if __name__ == "__main__":
    main(prog_name="mirror-audit")
