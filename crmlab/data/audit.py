"""The old home of `audit` and `check`: a module must not share its name with a function of the package."""

from crmlab.data.auditing import Audit, Check, audit, check

__all__ = ["Audit", "Check", "audit", "check"]
