// @ts-check
/** A loop of animation frames that ends by itself when nothing changes any more, so that a picture at rest costs no time. */

export class AnimationLoop {
  /** @param {() => boolean} step called before each repaint until it returns false */
  constructor(step) {
    this.step = step;
    /** @type {number | null} */
    this.request = null;
  }

  /** Start the loop unless it runs. */
  wake() {
    this.request ??= requestAnimationFrame(this.#run);
  }

  stop() {
    if (this.request !== null) cancelAnimationFrame(this.request);
    this.request = null;
  }

  #run = () => {
    this.request = null;
    if (this.step()) this.wake();
  };
}
