"""`python -m crmlab` is the `crmlab` command."""

from crmlab.cli import main

main()
