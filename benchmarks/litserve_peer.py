"""The same face finder and classifier under LitServe, with dynamic batching."""

import base64
import sys

import litserve

from benchmarks.pipeline import Pipeline


class MaskAPI(litserve.LitAPI):
    """Classifies the photo in the request's body."""

    def setup(self, device: str) -> None:
        """Load the models once in each worker."""
        del device
        self.pipeline = Pipeline()

    def decode_request(self, request: dict[str, str]) -> bytes:
        """Take the photo out of the JSON body: LitServe hands no raw body to its workers."""
        return base64.b64decode(request["image"])

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        """Keep a batch as a list."""
        return inputs

    def predict(self, images: list[bytes]) -> list[list[list[float]]]:
        """Classify a batch."""
        return self.pipeline.classify(images)

    def unbatch(self, output: list[list[list[float]]]) -> list[list[list[float]]]:
        """Split a batch."""
        return output

    def encode_response(self, output: list[list[float]]) -> dict[str, list[list[float]]]:
        """Answer with probabilities."""
        return {"faces": output}


if __name__ == "__main__":
    api = MaskAPI(max_batch_size=8, batch_timeout=0.01)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=2)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning"
    )
