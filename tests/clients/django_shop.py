"""A Django shop with an unchanged drf_model_pusher, driven by a test: one JSON line in, one out.

In: {"number": 1, "do": "open", "with": {"app_id", "key", "secret", "host", "port", "ssl"}}, then "create", "update" and
"delete" with an item's fields. Out: {"answer": 1, "said": {...}} or {"answer": 1, "error": "..."}. PYTHONPATH names the
libraries.
"""

import json
import sys
from functools import partial


def open_shop(app_id, key, secret, host, port, ssl):
    import django
    from django.conf import settings

    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework", "drf_model_pusher", "shop"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        ROOT_URLCONF="shop.urls",
        ALLOWED_HOSTS=["*"],
        REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": [], "DEFAULT_PERMISSION_CLASSES": []},
        PUSHER_APP_ID=app_id,
        PUSHER_KEY=key,
        PUSHER_SECRET=secret,
    )
    # As docs/django.md has it: the package has no setting for the host.
    from drf_model_pusher import proxies

    proxies.Pusher = partial(proxies.Pusher, host=host, port=port, ssl=ssl)

    django.setup()
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)


def change(what, item):
    from rest_framework.test import APIClient

    client = APIClient()
    if what == "create":
        answer = client.post("/items/", item, format="json")
    elif what == "update":
        answer = client.put(f"/items/{item['id']}/", item, format="json")
    elif what == "delete":
        answer = client.delete(f"/items/{item['id']}/")
    else:
        raise ValueError(f"no such command: {what}")
    if answer.status_code >= 300:
        raise RuntimeError(f"{answer.status_code}: {answer.content!r}")
    return answer.json() if answer.content else None


def say(line: dict) -> None:
    print(json.dumps(line), flush=True)


def main() -> None:
    say({"on": "ready"})
    for line in sys.stdin:
        if not line.strip():
            continue
        command = json.loads(line)
        number, what, arguments = command["number"], command["do"], command.get("with", {})
        try:
            said = open_shop(**arguments) if what == "open" else change(what, arguments)
            say({"answer": number, "said": said})
        except Exception as error:  # whatever it is, the test wants to know
            say({"answer": number, "error": str(error), "kind": type(error).__name__})


main()
