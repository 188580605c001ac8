"""Takes an application of its own through changes of its models, with makemigrations' own migrations.

evolve.py FOLDER forward STEP   writes the models of STEP, makes the migration, migrates and adds rows
evolve.py FOLDER to NUMBER      migrates to the migration of that number, backwards or forwards; 0 is zero
"""
import os
import pathlib
import random
import sys

folder, action, number = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
package = folder / "library"
sys.path.insert(0, str(folder))
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
os.environ["EVOLVING_APPLICATION"] = "library"

HEAD = "from django.db import models\nfrom django.db.models import F, Q\nfrom django.db.models.functions import Now, Upper\n"
MODELS = [
    """
class Author(models.Model):
    name = models.CharField(max_length=50)

class Book(models.Model):
    title = models.CharField(max_length=100)
    author = models.ForeignKey(Author, on_delete=models.CASCADE, null=True)
    pages = models.IntegerField(default=1)
""",
    # Fields and indexes are added.
    """
class Author(models.Model):
    name = models.CharField(max_length=50, db_index=True)
    born = models.DateField(null=True)
    rating = models.FloatField(default=2.5)
    notes = models.JSONField(default=dict)

class Book(models.Model):
    title = models.CharField(max_length=100)
    author = models.ForeignKey(Author, on_delete=models.CASCADE, null=True)
    pages = models.IntegerField(default=1)
    added = models.DateTimeField(null=True)
    slug = models.SlugField(default="none")

    class Meta:
        indexes = [models.Index(fields=["title", "-pages"], name="title_pages"),
                   models.Index(Upper("title"), name="title_upper")]
""",
    # Types are altered, NULL is no longer allowed, an index goes.
    """
class Author(models.Model):
    name = models.TextField(db_index=True)
    born = models.DateField(default="1900-01-01")
    rating = models.DecimalField(max_digits=8, decimal_places=3, default=2.5)
    notes = models.JSONField(default=dict)

class Book(models.Model):
    title = models.TextField()
    author = models.ForeignKey(Author, on_delete=models.SET_NULL, null=True)
    pages = models.BigIntegerField(default=1)
    added = models.DateTimeField(null=True)
    slug = models.SlugField(default="none", max_length=20)

    class Meta:
        indexes = [models.Index(Upper("title"), name="title_upper")]
""",
    # A model gets another name.
    """
class Writer(models.Model):
    name = models.TextField(db_index=True)
    born = models.DateField(default="1900-01-01")
    rating = models.DecimalField(max_digits=8, decimal_places=3, default=2.5)
    notes = models.JSONField(default=dict)

class Book(models.Model):
    title = models.TextField()
    author = models.ForeignKey(Writer, on_delete=models.SET_NULL, null=True)
    pages = models.BigIntegerField(default=1)
    added = models.DateTimeField(null=True)
    slug = models.SlugField(default="none", max_length=20)

    class Meta:
        indexes = [models.Index(Upper("title"), name="title_upper")]
""",
    # Another name for a field, many to many, constraints, a key of another kind.
    """
import uuid

class Writer(models.Model):
    full_name = models.TextField(db_index=True)
    born = models.DateField(default="1900-01-01")
    rating = models.DecimalField(max_digits=8, decimal_places=3, default=2.5)
    notes = models.JSONField(default=dict)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(rating__lt=1000), name="rating_is_small")]

class Shelf(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    label = models.CharField(max_length=9, unique=True)

class Book(models.Model):
    title = models.TextField()
    author = models.ForeignKey(Writer, on_delete=models.SET_NULL, null=True)
    pages = models.BigIntegerField(default=1)
    added = models.DateTimeField(null=True)
    slug = models.SlugField(default="none", max_length=20)
    shelves = models.ManyToManyField(Shelf)
    sequel_of = models.OneToOneField("self", on_delete=models.CASCADE, null=True)

    class Meta:
        indexes = [models.Index(Upper("title"), name="title_upper")]
        constraints = [models.UniqueConstraint(fields=["slug"], condition=Q(pages__gt=10**9), name="long_slug")]
""",
    # Columns that the database computes, another table name, fields that go.
    """
import uuid

class Writer(models.Model):
    full_name = models.TextField()
    rating = models.DecimalField(max_digits=8, decimal_places=3, default=2.5)
    doubled = models.GeneratedField(expression=F("rating") * 2, output_field=models.DecimalField(max_digits=9, decimal_places=3), db_persist=True)
    seen = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "Library Writers é"

class Shelf(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    label = models.CharField(max_length=9, unique=True)

class Book(models.Model):
    title = models.TextField()
    author = models.ForeignKey(Writer, on_delete=models.SET_NULL, null=True)
    pages = models.BigIntegerField(default=1)
    slug = models.SlugField(default="none", max_length=20)
    shelves = models.ManyToManyField(Shelf)
""",
]
# Written by hand, as people do, and the last one.
DATA = """
from django.db import migrations

def forwards(apps, schema_editor):
    Book = apps.get_model("library", "Book")
    for book in Book.objects.order_by("pk"):
        book.title, book.pages = book.title.upper() + " é", book.pages * 2
        book.save()
    Book.objects.filter(pages__gt=100).delete()

def backwards(apps, schema_editor):
    apps.get_model("library", "Book").objects.update(pages=7)

class Migration(migrations.Migration):
    dependencies = [("library", %r)]
    operations = [migrations.RunPython(forwards, backwards),
                  migrations.RunSQL("CREATE VIEW titles AS SELECT title FROM library_book", "DROP VIEW titles")]
"""


def names():
    return sorted(path.stem for path in (package / "migrations").glob("0*.py"))


if action == "forward":
    (package / "migrations").mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    (package / "migrations" / "__init__.py").touch()
    if number <= len(MODELS):
        (package / "models.py").write_text(HEAD + MODELS[number - 1])
    else:
        (package / "migrations" / f"{number:04}_data.py").write_text(DATA % names()[-1])

import django  # noqa: E402

django.setup()

from django.apps import apps  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import models  # noqa: E402
from django.db.migrations.questioner import MigrationQuestioner  # noqa: E402

# What looks like another name is one.
MigrationQuestioner.ask_rename = lambda self, *fields: True
MigrationQuestioner.ask_rename_model = lambda self, *models: True
chance = random.Random(number)


def value(field, n):
    """Something for a field, or None where the field has its own idea."""
    if isinstance(field, models.ForeignKey):
        if isinstance(field, models.OneToOneField):
            return None
        return chance.choice(list(field.related_model.objects.order_by("pk")))
    if isinstance(field, (models.CharField, models.TextField)):
        return f"{number}-{n} ä"[: field.max_length]
    if isinstance(field, (models.IntegerField, models.DecimalField, models.FloatField)):
        return chance.randrange(90)
    if isinstance(field, models.JSONField):
        return {"n": n, "list": [1.50, None, "x"]}
    return None


def fill():
    for model in sorted(apps.get_app_config("library").get_models(), key=lambda model: model.__name__ == "Book"):
        fields = [f for f in model._meta.concrete_fields if not f.primary_key and not f.generated]
        for n in range(8):
            given = {field.name: value(field, n) for field in fields}
            made = model.objects.create(**{name: v for name, v in given.items() if v is not None})
            for field in model._meta.many_to_many:
                getattr(made, field.name).set(field.related_model.objects.order_by("label")[: n % 4])
        model.objects.filter(pk__in=list(model.objects.order_by("pk").values_list("pk", flat=True)[:2])).delete()


if action == "forward":
    if number <= len(MODELS):
        call_command("makemigrations", "library", interactive=False, verbosity=0)
    call_command("migrate", interactive=False, verbosity=0)
    fill()
else:
    target = names()[number - 1] if number else "zero"
    call_command("migrate", "library", target, interactive=False, verbosity=0)
