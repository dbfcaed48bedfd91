/** Reads the JUnit reports of `node --test`, `bun test` and `deno test`. */

export interface Case {
  readonly name: string;
  readonly result: "passed" | "failed" | "skipped";
  /** Why it was skipped; only Node says so. */
  readonly reason: string;
}

/**
 * One entry for each test. Deno reports a group and a test with subtests as a case of its own, the
 * other two do not: such a case is left out when it passed.
 */
export function readJUnit(xml: string): Case[] {
  const cases: Case[] = [];
  for (
    const [, attributes = "", body = ""] of xml.matchAll(
      /<testcase\b((?:[^>"]|"[^"]*")*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g,
    )
  ) {
    const skip = /<skipped\b((?:[^>"]|"[^"]*")*?)\/?>/.exec(body);
    const failed = /<(failure|error)\b/.test(body);
    cases.push({
      name: attribute(attributes, "name"),
      result: failed ? "failed" : skip === null ? "passed" : "skipped",
      reason: attribute(skip?.[1] ?? "", "message"),
    });
  }
  const parents = new Set<string>();
  for (const { name } of cases) {
    for (let end = name.lastIndexOf(" > "); end > 0; end = name.lastIndexOf(" > ", end - 1)) {
      parents.add(name.slice(0, end));
    }
  }
  return cases.filter(({ name, result }) => result !== "passed" || !parents.has(name));
}

function attribute(attributes: string, name: string): string {
  const value = new RegExp(`(?:^|\\s)${name}="([^"]*)"`).exec(attributes)?.[1] ?? "";
  return value.replace(/&(?:#(\d+)|#x([\da-f]+)|(\w+));/gi, (all, decimal, hex, word) => {
    if (decimal !== undefined) return String.fromCodePoint(Number(decimal));
    if (hex !== undefined) return String.fromCodePoint(Number.parseInt(hex, 16));
    return { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" }[word as string] ?? all;
  });
}
