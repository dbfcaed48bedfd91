/** Folders that are gone after the tests. */
import * as fs from "node:fs";
import * as os from "node:os";
import { join } from "node:path";
import { atEnd } from "./cleanup.ts";

/** Makes a folder when it is first asked for, and removes it after the calling file's last test. */
function lazyFolder(): () => string {
  let path: string | undefined;
  const remove = (): void => {
    if (path !== undefined) fs.rmSync(path, { recursive: true, force: true });
  };
  atEnd(remove);
  return () => (path ??= fs.mkdtempSync(join(os.tmpdir(), "holdfast-test-")));
}

/** A folder for the calling test file, removed after its last test. Called at the top of the file. */
export function temporaryFolder(): string {
  return lazyFolder()();
}

/** Paths in a folder of one test file. */
export interface TemporaryFiles {
  readonly folder: string;
  /** A new path in the folder, ending in `name`; nothing is created. */
  next(name?: string): string;
  /** A new file with this content. */
  file(content: Uint8Array | string, name?: string): string;
}

/** Names in a folder of the calling test file. Called at the top of the file. The folder is made at first use. */
export function temporaryFiles(): TemporaryFiles {
  const folder = lazyFolder();
  let count = 0;
  const next = (name = "file"): string => join(folder(), `${count++}-${name}`);
  return {
    get folder() {
      return folder();
    },
    next,
    file(content, name) {
      const path = next(name);
      fs.writeFileSync(path, content);
      return path;
    },
  };
}
