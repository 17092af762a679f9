#!/usr/bin/env node
// Asks of the tests whether they would notice. Each mutant of contracts/ is compiled and tested in a copy of the sources;
// one that no test fails on survives, and is either a gap in the tests or explained in test/exceptions/mutation.json.
//
//   script/mutation.mjs [--sample <count> --seed <number>] [--only <part of a path>] [--jobs <copies at once>] [--list]

import { spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { exceptionsOf, judge } from './exceptions.mjs';
import { mutantsOf } from './mutants.mjs';

const COPIES = 'target/analyses/mutation';
const FORGE = `${process.cwd()}/script/foundry`;
// Gas changes with any mutant, and proofs are halmos's: neither is a test that notices.
const COPIED = ['contracts', 'deployments', 'script', 'test', 'bindings/artifacts', 'foundry.toml'];
const LEFT_OUT = /^test\/(gas|symbolic|e2e|bench)(\/|$)/;
const TIMEOUT = 180_000;
// Unoptimized, and few runs of each fuzz test: what takes luck to notice is not tested.
const ENVIRONMENT = {
  ...process.env,
  FOUNDRY_PROFILE: 'analysis',
  FOUNDRY_FUZZ_RUNS: '32',
  FOUNDRY_INVARIANT_RUNS: '4',
  FOUNDRY_INVARIANT_DEPTH: '64',
};

const { values: options } = parseArgs({
  options: {
    sample: { type: 'string' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string', default: '' },
    jobs: { type: 'string', default: '1' },
    list: { type: 'boolean', default: false },
  },
});

function copyTo(directory) {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  for (const path of COPIED) cpSync(path, `${directory}/${path}`, { recursive: true, filter: (from) => !LEFT_OUT.test(from) });
  symlinkSync(`${process.cwd()}/node_modules`, `${directory}/node_modules`);
  return directory;
}

function sources() {
  return readdirSync('contracts', { recursive: true })
    .filter((path) => path.endsWith('.sol') && !path.startsWith('interfaces/'))
    .map((path) => `contracts/${path}`)
    .sort();
}

/** The AST of each source, from what forge compiles in `directory`. */
function astsIn(directory) {
  const args = ['forge', 'build', '--ast', '--out', 'ast', '--cache-path', 'ast-cache', 'contracts'];
  const { status, stdout, stderr } = spawnSync(FORGE, args, { cwd: directory, env: ENVIRONMENT });
  if (status !== 0) throw new Error(`the sources don't compile:\n${stdout}${stderr}`);

  const asts = new Map();
  for (const path of readdirSync(`${directory}/ast`, { recursive: true })) {
    if (!path.endsWith('.json') || path.startsWith('build-info')) continue;
    const { ast } = JSON.parse(readFileSync(`${directory}/ast/${path}`, 'utf8'));
    if (ast) asts.set(ast.absolutePath, ast);
  }
  return asts;
}

/** The same sample for the same seed, on any machine. */
function sampleOf(items, count, seed) {
  let state = seed;
  const random = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return items
    .map((item) => ({ item, rank: random() }))
    .sort((a, b) => a.rank - b.rank)
    .slice(0, count)
    .map(({ item }) => item);
}

/** What the tests in `directory` come to: 'passed', 'failed', 'timeout', or 'invalid' where nothing even compiles. */
function test(directory) {
  // What a fuzz test failed on is tried again first, the next time: a mutant must not be noticed by another's luck.
  for (const kept of ['fuzz', 'invariant', 'test-failures']) rmSync(`${directory}/cache/${kept}`, { recursive: true, force: true });
  return new Promise((resolve) => {
    const child = spawn(FORGE, ['forge', 'test', '--fail-fast'], { cwd: directory, env: ENVIRONMENT, timeout: TIMEOUT });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
    child.on('close', (status, signal) => {
      if (status === 0) resolve('passed');
      else if (signal) resolve('timeout');
      else resolve(/Compiler run failed/.test(output) ? 'invalid' : 'failed');
    });
  });
}

async function tryOut(mutant, directory) {
  const path = `${directory}/${mutant.file}`;
  writeFileSync(path, mutant.text);
  const outcome = await test(directory);
  writeFileSync(path, readFileSync(mutant.file));
  return outcome;
}

const key = ({ file, source, mutant }) => JSON.stringify([file, source, mutant]);
const say = ({ file, line, source, mutant }) => `${file}:${line}: no test notices\n  - ${source}\n  + ${mutant}`;

const first = copyTo(`${COPIES}/1`);
const asts = astsIn(first);
const all = sources().flatMap((file) => {
  // A file that holds only free functions leaves no artifact, and its AST is in none.
  const ast = asts.get(file);
  if (!ast) console.error(`${file}: forge gives no AST of it`);
  return ast ? mutantsOf(file, readFileSync(file), ast) : [];
});
const exists = new Set(all.map(key));
const among = all.filter(({ file }) => file.includes(options.only));
const chosen = options.sample ? sampleOf(among, Number(options.sample), Number(options.seed)) : among;

if (options.list) {
  for (const { file, line, source, mutant } of chosen) console.log(`${file}:${line}\n  - ${source}\n  + ${mutant}`);
  console.log(`${chosen.length} of ${all.length} mutants.`);
  process.exit();
}

const began = Date.now();
const copies = [first, ...Array.from({ length: Number(options.jobs) - 1 }, (_, i) => copyTo(`${COPIES}/${i + 2}`))];
const untouched = await Promise.all(copies.map(test));
if (untouched.some((outcome) => outcome !== 'passed')) throw new Error('the tests fail on the sources as they are');

const queue = [...chosen];
const survivors = [];
const counts = { passed: 0, failed: 0, timeout: 0, invalid: 0 };
const started = Date.now();
await Promise.all(
  copies.map(async (directory) => {
    for (let mutant = queue.shift(); mutant; mutant = queue.shift()) {
      const outcome = await tryOut(mutant, directory);
      counts[outcome] += 1;
      if (outcome === 'passed') survivors.push(mutant);
      console.log(`${outcome.padEnd(8)}${mutant.file}:${mutant.line}  ${mutant.mutant}`);
    }
  }),
);
const seconds = (Date.now() - started) / 1000;
console.log(`${counts.failed} mutants noticed, ${counts.passed} survived, ${counts.timeout} never ended, ${counts.invalid} did not compile.`);
console.log(`${(seconds / Math.max(1, chosen.length)).toFixed(1)} s a mutant; ${((started - began) / 1000).toFixed(0)} s to begin with.`);

// An exception that this sample did not come upon is taken at its word, as long as its mutant can still be made.
const tried = new Set(chosen.map(key));
const untried = exceptionsOf('mutation').filter((exception) => exists.has(key(exception)) && !tried.has(key(exception)));
judge('mutation', [...survivors, ...untried], key, say);
