// Findings of an analysis, and the list of those that are explained: test/exceptions/<tool>.json. The two must match
// exactly, finding by finding. A list that only ever grew would in time excuse what it was never meant for.

import { readFileSync } from 'node:fs';
import './root.mjs';

/** The exceptions of `tool`, each with its `reason`. */
export function exceptionsOf(tool) {
  const path = `test/exceptions/${tool}.json`;
  const exceptions = JSON.parse(readFileSync(path, 'utf8'));
  for (const exception of exceptions) {
    if (!exception.reason) throw new Error(`${path}: no reason is given for ${JSON.stringify(exception)}`);
  }
  return exceptions;
}

/**
 * Prints the findings that no exception explains, by `say(finding)`, and the exceptions that no finding needs; either
 * makes the program fail. `key(finding)` and `key(exception)` are equal strings where one explains the other: by what
 * stands in the source and not by its line, so that the list survives edits elsewhere.
 */
export function judge(tool, findings, key, say) {
  const unused = exceptionsOf(tool);
  const unexplained = findings.filter((finding) => {
    const index = unused.findIndex((exception) => key(exception) === key(finding));
    if (index >= 0) unused.splice(index, 1);
    return index < 0;
  });

  for (const finding of unexplained) console.error(say(finding));
  for (const exception of unused) console.error(`test/exceptions/${tool}.json: nothing needs ${key(exception)} any more`);
  if (unexplained.length + unused.length > 0) process.exitCode = 1;
  else console.log(`${findings.length} findings, all explained in test/exceptions/${tool}.json.`);
}
