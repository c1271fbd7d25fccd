// Sends frames, a few at a time and always the newest: while all places are taken, frames of the
// camera are passed over, and an answer that comes after a newer one is dropped.

const WINDOW_MS = 5000;

export class Pump {
  constructor({ grab, ask, show, inFlight = 3, onfigures, onerror, signal }) {
    Object.assign(this, { grab, ask, show, places: inFlight, onfigures, onerror, signal });
    this.flying = 0;
    this.shownAt = 0; // when the newest frame that was shown was taken
    this.answers = []; // [when shown, milliseconds from frame to picture]
    this.dropped = 0;
    this.failures = 0;
    this.notBefore = 0;
  }

  // Called for each frame of the camera.
  async tick() {
    if (this.signal.aborted) return;
    if (this.flying >= this.places || performance.now() < this.notBefore) {
      this.dropped++;
      return;
    }
    this.flying++;
    try {
      const frame = await this.grab();
      const answer = await this.ask(frame);
      if (this.signal.aborted) return;
      if (frame.at < this.shownAt) {
        this.dropped++;
        return;
      }
      this.shownAt = frame.at;
      await this.show(frame, answer);
      const now = performance.now();
      this.answers.push([now, now - frame.at]);
      this.failures = 0;
    } catch (error) {
      if (this.signal.aborted || error.name === "AbortError") return;
      this.dropped++;
      // Not asked again and again while the service is full or away.
      this.notBefore = performance.now() + Math.min(5000, 250 * 2 ** this.failures++);
      this.onerror(error, this.failures);
    } finally {
      this.flying--;
    }
  }

  figures() {
    const since = performance.now() - WINDOW_MS;
    this.answers = this.answers.filter(([at]) => at > since);
    const times = this.answers.map(([, ms]) => ms).sort((a, b) => a - b);
    const at = (share) => (times.length ? times[Math.min(times.length - 1, Math.floor(share * times.length))] : null);
    const span = this.answers.length > 1 ? this.answers.at(-1)[0] - this.answers[0][0] : 0;
    return { perSecond: span ? ((this.answers.length - 1) * 1000) / span : 0, median: at(0.5), p95: at(0.95), dropped: this.dropped, flying: this.flying };
  }
}
