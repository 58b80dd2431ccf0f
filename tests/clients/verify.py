"""Verifies webhooks with the official Python library: one JSON object a line in, "ok" or "error: why" a line out.

In: {"secret": "whsec_...", "headers": {"webhook-id": ..., ...}, "body_base64": ...}. PYTHONPATH names the libraries.
"""

import base64
import json
import sys

from standardwebhooks import Webhook


def judge(line: str) -> str:
    request = json.loads(line)
    body = base64.b64decode(request["body_base64"])
    try:
        Webhook(request["secret"]).verify(body, request["headers"])
    except Exception as error:  # whatever it is, the request was not accepted
        return f"error: {error!r}"
    return "ok"


for line in sys.stdin:
    if line.strip():
        print(judge(line), flush=True)
