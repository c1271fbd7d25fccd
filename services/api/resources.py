"""What the API's requests share: repository, object store, doorbell, watcher."""

from dataclasses import dataclass

from fastapi import Request

from services.api.watcher import Watcher
from shared.db import Repository
from shared.doorbell import Doorbell
from shared.images import ImageLimits
from shared.objects import ObjectStore
from shared.settings import Settings


@dataclass(frozen=True)
class Resources:
    """Opened when the API starts, closed when it stops."""

    settings: Settings
    repository: Repository
    objects: ObjectStore
    doorbell: Doorbell
    watcher: Watcher

    @property
    def image_limits(self) -> ImageLimits:
        """Caps on one uploaded image."""
        return ImageLimits(
            max_bytes=self.settings.max_image_bytes, max_pixels=self.settings.max_image_pixels
        )


def get_resources(request: Request) -> Resources:
    """Dependency: the resources of the app that serves this request."""
    resources: Resources = request.app.state.resources
    return resources
