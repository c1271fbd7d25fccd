"""Job specs: the parameters of a job, one module per kind. Imports pydantic only.

A module ``shared/specs/<kind>.py`` defines one subclass of ``JobSpec``; it is found by its
presence, so that a new kind touches no list. ``ANY_SPEC`` validates their union, discriminated by
``kind``.
"""

from shared.specs.base import Box, ImageId, ImagesSpec, JobSpec, Queue
from shared.specs.catalog import ANY_SPEC, SPECS, parse_spec

__all__ = ["ANY_SPEC", "SPECS", "Box", "ImageId", "ImagesSpec", "JobSpec", "Queue", "parse_spec"]
