/**
 * Who may copy into a queue: one at a time, by a lock on a byte far behind the end of the queue's control file, which the kernel drops when its
 * holder dies.
 *
 * @module
 */
import { join, resolve } from "node:path";
import { Descriptor, openRegular } from "../files.ts";
import { CONTROL_NAME } from "../layout/queue.ts";
import { tryLock } from "../range_lock.ts";

const OFFSET: number = 2 ** 41;

export class Turn implements Disposable {
  readonly #file: Descriptor;
  readonly #path: string;

  constructor(queuePath: string) {
    this.#path = join(resolve(queuePath), CONTROL_NAME);
    this.#file = new Descriptor(openRegular(this.#path, "rw").fd);
  }

  /** Takes the turn if it is free. */
  take(): boolean {
    return tryLock({ fd: this.#file.fd, offset: OFFSET, length: 1, shared: false, path: this.#path });
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}
