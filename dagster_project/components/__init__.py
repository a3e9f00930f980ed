"""What people write as YAML in a project of ``dg``: components. Found by the entry point of the package."""

from dagster_project.components.image_line import ImageLine

__all__ = ["ImageLine"]
