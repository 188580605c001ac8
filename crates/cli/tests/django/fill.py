"""Does one seeded step of work through Django's own models: fill.py STEP.

Creates, changes and deletes users, groups, permissions, sessions, pages and log entries: many-to-many rows,
cascades, bulk inserts, text of every kind, savepoints and transactions that are rolled back.
"""
import os
import random
import sys
from datetime import datetime, timedelta, timezone

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
import django  # noqa: E402

django.setup()

from django.contrib.admin.models import CHANGE, LogEntry  # noqa: E402
from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.contrib.contenttypes.models import ContentType  # noqa: E402
from django.contrib.flatpages.models import FlatPage  # noqa: E402
from django.contrib.redirects.models import Redirect  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.contrib.sessions.models import Session  # noqa: E402
from django.contrib.sites.models import Site  # noqa: E402
from django.db import transaction  # noqa: E402

step = int(sys.argv[1])
chance = random.Random(step)
TEXTS = ["", "plain", "a 'quoted' \"name\"", "tab\tand\nnewline", "back\\slash", "Ünïcödé 漢字 🐘", "\\N", "NULL", "x" * 9000]


def users():
    made = User.objects.bulk_create(
        User(
            username=f"user-{step}-{n}",
            first_name=chance.choice(TEXTS)[:150],
            email=f"u{n}@example.org",
            is_staff=chance.random() < 0.5,
            date_joined=datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=chance.randrange(10**15)),
        )
        for n in range(40)
    )
    groups = [Group.objects.create(name=f"group-{step}-{n}") for n in range(5)]
    permissions = list(Permission.objects.order_by("pk"))
    for group in groups:
        group.permissions.set(chance.sample(permissions, 8))
    for user in made:
        user.groups.set(chance.sample(groups, 2))
    return made


def pages():
    site, _ = Site.objects.get_or_create(domain=f"site-{step}.example.org", defaults={"name": "a site"})
    for n in range(20):
        page = FlatPage.objects.create(url=f"/{step}/{n}/", title=chance.choice(TEXTS)[:200], content=chance.choice(TEXTS))
        page.sites.add(site)
        Redirect.objects.create(site=site, old_path=f"/old/{step}/{n}", new_path=chance.choice(["", f"/{step}/{n}/"]))


def sessions():
    for n in range(10):
        store = SessionStore()
        store["step"] = [step, n, chance.choice(TEXTS)]
        store.create()
    for row in Session.objects.order_by("session_key")[:4]:
        row.expire_date += timedelta(days=1)
        row.save()


def changes(made):
    User.objects.filter(pk__in=[u.pk for u in made[:20]]).update(last_name="changed at once", is_active=False)
    content_type = ContentType.objects.get_for_model(User)
    for user in made[20:30]:
        user.email = chance.choice(TEXTS[:6]) + "@example.org"
        user.set_password("secret")
        user.save()
        LogEntry.objects.create(
            user=user, content_type=content_type, object_id=str(user.pk), object_repr=user.username,
            action_flag=CHANGE, change_message=chance.choice(TEXTS),
        )
    FlatPage.objects.filter(content="").delete()
    for user in list(User.objects.filter(username__startswith=f"user-{step - 1}-"))[:15]:
        user.delete()
    Group.objects.filter(name=f"group-{step - 1}-0").delete()


def undone():
    class Undo(Exception):
        pass

    try:
        with transaction.atomic():
            User.objects.create(username=f"never-{step}")
            Session.objects.all().delete()
            raise Undo
    except Undo:
        pass
    with transaction.atomic():
        User.objects.create(username=f"kept-{step}")
        try:
            with transaction.atomic():
                User.objects.all().delete()
                raise Undo
        except Undo:
            pass


with transaction.atomic():
    made = users()
pages()
sessions()
changes(made)
undone()
