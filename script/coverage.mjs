#!/usr/bin/env node
// Judges what `forge coverage` measured (target/analyses/coverage/lcov.info): every line and every branch of contracts/ runs in
// some test. What can't be reached is named, with the reason, in test/exceptions/coverage.json; an exception that nothing
// needs any more fails as a gap does.
//
// To forge a branch is the body of an `if`, of an `else` or of a `try`. That an `if` is ever skipped, ternaries, loops,
// `&&` and `||` are none, and free functions it does not see: mutation testing (script/mutation.mjs) judges all of that.

import { readFileSync, readdirSync } from 'node:fs';
import { judge } from './exceptions.mjs';

const REPORT = 'target/analyses/coverage/lcov.info';
const SAID = { line: 'never runs', branch: 'branch never taken', file: 'not measured' };

/** The files of contracts/ that hold code: interfaces have none. */
function sources() {
  return readdirSync('contracts', { recursive: true })
    .filter((path) => path.endsWith('.sol') && !path.startsWith('interfaces/'))
    .map((path) => `contracts/${path}`)
    .sort();
}

/** Per file, what was measured of it: `{ gap: 'line' | 'branch', line, hits }`. */
function measured() {
  const files = new Map();
  let points;
  for (const record of readFileSync(REPORT, 'utf8').split('\n')) {
    const [, kind, value] = /^(SF|DA|BRDA):(.*)$/.exec(record) ?? [];
    if (kind === 'SF') files.set(value, (points = []));
    if (kind === undefined || kind === 'SF') continue;
    const fields = value.split(',');
    points.push({ gap: kind === 'DA' ? 'line' : 'branch', line: Number(fields[0]), hits: Number(fields.at(-1)) || 0 });
  }
  return files;
}

function share(points, kind) {
  const all = points.filter(({ gap }) => gap === kind);
  const hit = all.filter(({ hits }) => hits > 0);
  return all.length === 0 ? '-' : `${((100 * hit.length) / all.length).toFixed(1)} % of ${all.length}`;
}

const report = measured();
const gaps = [];
console.log(`${'contracts/'.padEnd(44)}${'lines'.padStart(16)}${'branches'.padStart(16)}`);
for (const file of sources()) {
  const points = report.get(file) ?? [];
  const cells = points.length === 0 ? ['not measured', ''] : [share(points, 'line'), share(points, 'branch')];
  console.log(`${file.slice('contracts/'.length).padEnd(44)}${cells[0].padStart(16)}${cells[1].padStart(16)}`);

  const text = readFileSync(file, 'utf8').split('\n');
  const missed = points.filter(({ hits }) => hits === 0);
  gaps.push(...missed.map(({ gap, line }) => ({ file, gap, line, source: text[line - 1].trim() })));
  if (points.length === 0) gaps.push({ file, gap: 'file', line: 1, source: '' });
}

judge(
  'coverage',
  gaps,
  ({ file, gap, source }) => JSON.stringify([file, gap, source]),
  ({ file, line, gap, source }) => `${file}:${line}: ${SAID[gap]}: ${source}`,
);
