"""What an ``encrypt`` job has finished, so that another worker can go on with the next photo."""

import json
from dataclasses import dataclass, field

from services.worker.jobs.encrypt.plan import Setting
from services.worker.jobs.kit.checkpoint import CheckpointWriter
from services.worker.jobs.kit.files import File
from services.worker.runtime.context import JobContext
from shared.results.encrypt import EncryptedImage

_NAME = "encrypted.json"
_Kept = tuple[str, str, int | None]  # an artifact's name, media type and image


@dataclass
class Done:
    """Finished photos in order, the artifacts of each, and the seconds that searches took."""

    images: list[EncryptedImage] = field(default_factory=list)
    artifacts: list[list[_Kept]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, image: EncryptedImage, files: list[File], seconds: float) -> None:
        """Add a photo whose files are stored."""
        self.images.append(image)
        self.artifacts.append([(file.name, file.media_type, file.image) for file in files])
        self.seconds += seconds


class EncryptCheckpoint:
    """Saves and restores finished photos, for recognizers with the same hashes of weights."""

    def __init__(self, context: JobContext, setting: Setting) -> None:
        self._context = context
        self._hashes = [one.card.sha256 for one in setting.all]
        self._writer = CheckpointWriter(context)

    def load(self) -> Done:
        """Return what an earlier attempt finished, up to the first photo that is not there."""
        found = self._writer.load(_NAME)
        if found is None:
            return Done()
        values = json.loads(found[_NAME])
        if values["sha256"] != self._hashes:  # other recognizers ship by now
            return Done()
        done = Done(seconds=values["seconds"])
        for image, kept in zip(values["images"], values["artifacts"], strict=True):
            # The photo itself last: its name says the verdict, which may differ another time.
            if not all(self._take_over(*one, attempt=values["attempt"]) for one in kept[::-1]):
                break
            done.images.append(EncryptedImage.model_validate(image))
            done.artifacts.append([(name, kind, index) for name, kind, index in kept])
        return done

    def _take_over(self, name: str, media_type: str, image: int | None, *, attempt: int) -> bool:
        return self._context.artifacts.take_over(name, media_type, attempt=attempt, image=image)

    def save(self, done: Done) -> None:
        """Keep what is done, where a checkpoint is due."""
        self._writer.save(lambda: self._files(done))

    def _files(self, done: Done) -> dict[str, bytes]:
        values = {
            "sha256": self._hashes,
            "attempt": self._context.attempt,
            "seconds": done.seconds,
            "images": [image.model_dump(mode="json") for image in done.images],
            "artifacts": done.artifacts,
        }
        return {_NAME: json.dumps(values).encode()}
