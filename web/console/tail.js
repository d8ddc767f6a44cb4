// The live end of the log: a stream that comes back where it broke off, and can be paused.
import { stream } from './api.js';

// Tail follows the log from its end. take gets the messages as they arrive, a list at a time and once a frame at most;
// state gets "live", "paused", "reconnecting", or a problem that a retry cannot fix.
export class Tail {
  #query;
  #take;
  #state;
  #last;
  #stop = null;
  #waiting = [];
  #frame = 0;

  constructor(query, { take, state }) {
    this.#query = query;
    this.#take = take;
    this.#state = state;
  }

  // begin opens the stream, after the last message that was seen if there was one. It returns at once.
  begin() {
    this.#stop ??= new AbortController();
    this.#run(this.#stop.signal);
  }

  // pause ends the stream; begin goes on with the message after the last one.
  pause() {
    this.end();
    this.#state('paused');
  }

  end() {
    this.#stop?.abort();
    this.#stop = null;
  }

  async #run(signal) {
    while (!signal.aborted) {
      try {
        const { position, messages } = await stream(this.#query, { lastEventID: this.#last, signal });
        this.#last ??= position;
        this.#state('live', position);
        for await (const message of messages) this.#got(message);
      } catch (error) {
        if (signal.aborted) return;
        if (error.status >= 400 && error.status < 500) {
          this.#state(error);
          return;
        }
      }
      if (signal.aborted) return;
      this.#state('reconnecting');
      await new Promise((resolve) => { setTimeout(resolve, 1000); });
    }
  }

  #got(message) {
    this.#last = message.id;
    if (message.text === undefined) return; // how far a quiet stream has come
    this.#waiting.push(message);
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#take(this.#waiting.splice(0));
    });
  }
}
