/**
 * What Deno lets the program do, asked without asking the user: a library that opens what it could do without must not make the
 * program stop at a prompt.
 *
 * @module
 */

type Descriptor =
  | { readonly name: "env"; readonly variable: string }
  | { readonly name: "read" | "write"; readonly path: string }
  | { readonly name: "sys"; readonly kind: "uid" | "gid" };

interface DenoPermissions {
  readonly permissions: { querySync(descriptor: Descriptor): { readonly state: string } };
}

/** Whether this is granted already. The other runtimes have no such question; what they do not allow is an error when it is tried. */
export function permitted(descriptor: Descriptor): boolean {
  const { Deno: deno } = globalThis as { Deno?: DenoPermissions };
  return deno === undefined || deno.permissions.querySync(descriptor).state === "granted";
}

/** The user that the process runs as; undefined where the system has no such number or it may not be asked for. */
export function userId(): number | undefined {
  return permitted({ name: "sys", kind: "uid" }) ? process.getuid?.() : undefined;
}
