"""Mail which reports of a site failed, and why: `crmlab build … || python mail.py SITE`.

The environment says how: SMTP_HOST, MAIL_FROM, MAIL_TO (several with commas), and where needed SMTP_PORT, SMTP_USER
and SMTP_PASSWORD, which only travel encrypted.
"""

import json
import os
import smtplib
import ssl
import sys
from email.message import EmailMessage
from pathlib import Path

site = Path(sys.argv[1])
failed = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(site.glob(".failed/*/run.json"))]
message = EmailMessage()
message["Subject"] = f"Reports that failed: {len(failed)}" if failed else "The reports could not be built"
message["From"], message["To"] = os.environ["MAIL_FROM"], os.environ["MAIL_TO"]
lines = [f"{facts['title']}\n  {facts['error']['message']}\n  {facts['started']}" for facts in failed]
message.set_content("\n\n".join([*lines, f"The site: {site.resolve()}/index.html; what the build said is in its log."]))
with smtplib.SMTP(os.environ["SMTP_HOST"], int(os.environ.get("SMTP_PORT", "25")), timeout=60) as server:
    if "SMTP_USER" in os.environ:
        server.starttls(context=ssl.create_default_context())
        server.login(os.environ["SMTP_USER"], os.environ["SMTP_PASSWORD"])
    server.send_message(message)
