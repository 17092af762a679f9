#!/usr/bin/env node
// Asks of the tests whether they would notice. Each mutant of contracts/ is tested in a copy of the sources; one that no
// test fails on survives, and is either a gap in the tests or explained in test/exceptions/mutation.json.
//
//   script/mutation.mjs [--sample <count> --seed <number>] [--only <pattern of path:line>] [--jobs <copies at once>] [--list]
//
// Tests reach the contracts through what forge has compiled of them. So a mutant is compiled by a compiler that stays
// warm in this process, and put in place of that: a second or two, where forge takes ten. It is tried on the tests
// that stand next to it, and on all of them if none of those notices.

import { spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';
import { exceptionsOf, judge } from './exceptions.mjs';
import { mutantsOf } from './mutants.mjs';

const solc = createRequire(import.meta.url)('solc');

const COPIES = `target/analyses/mutation/${process.pid}`;
const FORGE = `${process.cwd()}/script/foundry`;
// Gas changes with any mutant, and proofs are halmos's: neither is a test that notices.
const COPIED = ['contracts', 'deployments', 'script', 'test', 'bindings/artifacts', 'foundry.toml'];
const LEFT_OUT = /^test\/(gas|symbolic|e2e|bench|model)(\/|$)/;
const TIMEOUT = 300_000; // of a mutant's tests, on a busy machine
// Unoptimized, and few runs of each fuzz test: what takes luck to notice is not tested.
const ENVIRONMENT = {
  ...process.env,
  FOUNDRY_PROFILE: 'analysis',
  FOUNDRY_FUZZ_RUNS: '16',
  FOUNDRY_INVARIANT_RUNS: '4',
  FOUNDRY_INVARIANT_DEPTH: '64',
};

/** Which of the contracts that tests deploy change with a source, and which tests stand next to it: the first that fits. */
const SYSTEM = ['LloomDeployer', 'ChannelEscrow', 'UsageSettlement', 'ExecutorRegistry'];
const PLACES = [
  { files: /RevenueSplitter/, deployed: ['RevenueSplitter'], tests: 'test/splitter/**' },
  { files: /DevToken/, deployed: ['DevToken'], tests: 'test/token/**' },
  { files: /ExecutorRegistry|registry\//, deployed: SYSTEM, tests: 'test/registry/**' },
  { files: /UsageSettlement|UsageHash|UsageList|AdvanceList/, deployed: SYSTEM, tests: 'test/{settlement,registry}/**' },
  { files: /LloomDeployer/, deployed: SYSTEM, tests: 'test/Deploy.t.sol' },
  { files: /./, deployed: SYSTEM, tests: 'test/escrow/**' },
];
// Some tests compile these in: only forge can tell what those make of a mutant.
const IMPORTED = /contracts\/(types|libraries)\/|LloomDeployer|DevToken|RevenueSplitter/;

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

/** What forge asks the compiler about the contracts in `directory`. */
function questionIn(directory) {
  const made = `${directory}/question`;
  const args = ['forge', 'build', '--build-info', '--build-info-path', 'question', '--out', 'question/out', '--cache-path', 'question/cache', 'contracts'];
  const { status, stdout, stderr } = spawnSync(FORGE, args, { cwd: directory, env: ENVIRONMENT });
  if (status !== 0) throw new Error(`the sources don't compile:\n${stdout}${stderr}`);
  const [file] = readdirSync(made).filter((name) => name.endsWith('.json'));
  const { language, sources, settings } = JSON.parse(readFileSync(`${made}/${file}`, 'utf8')).input;
  return { language, sources, settings };
}

/** The compiler's answer; nothing where it finds an error. */
function compile(question, outputSelection) {
  const input = { ...question, settings: { ...question.settings, outputSelection } };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  return output.errors?.some(({ severity }) => severity === 'error') ? undefined : output;
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

/** What the tests in `directory`, or those under `path`, come to: 'passed', 'failed', 'timeout', or 'invalid'. */
function test(directory, path, timeout = TIMEOUT) {
  // What a fuzz test failed on is tried again first, the next time: a mutant must not be noticed by another's luck.
  for (const kept of ['fuzz', 'invariant', 'test-failures']) rmSync(`${directory}/cache/${kept}`, { recursive: true, force: true });
  return new Promise((resolve) => {
    const args = ['forge', 'test', '--fail-fast', ...(path ? ['--match-path', path] : [])];
    const child = spawn(FORGE, args, { cwd: directory, env: ENVIRONMENT, timeout });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
    child.on('close', (status, signal) => {
      if (status === 0) resolve('passed');
      else if (signal) resolve('timeout');
      else if (/Compiler run failed/.test(output)) resolve('invalid');
      else if (/\[FAIL/.test(output)) resolve('failed');
      else throw new Error(`forge failed, and no test did:\n${output}`);
    });
  });
}

const artifactOf = (directory, contract) => `${directory}/out/${contract}.sol/${contract}.json`;

/** Puts what the compiler made of a mutant in place of what forge made of the sources; says whether they differ. */
function deploy(directory, deployed, { contracts }) {
  let differs = false;
  for (const contract of deployed) {
    const { evm } = contracts[`contracts/${contract}.sol`][contract];
    const artifact = JSON.parse(pristine.get(contract));
    for (const kind of ['bytecode', 'deployedBytecode']) {
      differs ||= artifact[kind].object !== `0x${evm[kind].object}`;
      artifact[kind].object = `0x${evm[kind].object}`;
    }
    writeFileSync(artifactOf(directory, contract), JSON.stringify(artifact));
  }
  return differs;
}

const selectionOf = (deployed) =>
  Object.fromEntries(deployed.map((name) => [`contracts/${name}.sol`, { [name]: ['evm.bytecode.object', 'evm.deployedBytecode.object'] }]));

async function tryOut(mutant, directory) {
  const { deployed, tests } = PLACES.find(({ files }) => files.test(mutant.file));
  const sources = { ...question.sources, [mutant.file]: { content: mutant.text } };
  const compiled = compile({ ...question, sources }, selectionOf(deployed));
  if (!compiled) return 'invalid';

  let outcome = 'passed';
  if (deploy(directory, deployed, compiled)) {
    outcome = await test(directory, tests);
    if (outcome === 'passed' && !IMPORTED.test(mutant.file)) outcome = await test(directory);
  }
  for (const contract of deployed) writeFileSync(artifactOf(directory, contract), pristine.get(contract));
  if (outcome !== 'passed' || !IMPORTED.test(mutant.file)) return outcome;

  const path = `${directory}/${mutant.file}`;
  writeFileSync(path, mutant.text);
  outcome = await test(directory);
  writeFileSync(path, readFileSync(mutant.file));
  await test(directory, 'test/token/**'); // forge compiles the sources as they are again
  return outcome;
}

const key = ({ file, source, mutant }) => JSON.stringify([file, source, mutant]);
const say = ({ file, line, source, mutant }) => `${file}:${line}: no test notices\n  - ${source}\n  + ${mutant}`;

process.on('exit', () => rmSync(COPIES, { recursive: true, force: true }));
const first = copyTo(`${COPIES}/1`);
const question = questionIn(first);
const asts = compile(question, { '*': { '': ['ast'] } }).sources;
const all = sources().flatMap((file) => mutantsOf(file, readFileSync(file), asts[file].ast));
const exists = new Set(all.map(key));
const among = all.filter(({ file, line }) => new RegExp(options.only).test(`${file}:${line}`));
const chosen = options.sample ? sampleOf(among, Number(options.sample), Number(options.seed)) : among;

if (options.list) {
  const lines = chosen.map(({ file, line, source, mutant }) => `${file}:${line}\n  - ${source}\n  + ${mutant}\n`);
  const text = `${lines.join('')}${chosen.length} of ${all.length} mutants.\n`;
  await new Promise((written) => process.stdout.write(text, written)); // a pipe takes it in parts
  process.exit();
}

const began = Date.now();
const untouched = await test(first, undefined, 10 * TIMEOUT);
if (untouched !== 'passed') throw new Error(`the tests on the sources as they are: ${untouched}`);
const copies = [first];
for (let i = 2; i <= Number(options.jobs); ++i) {
  cpSync(first, `${COPIES}/${i}`, { recursive: true, verbatimSymlinks: true });
  copies.push(`${COPIES}/${i}`);
}
const pristine = new Map(
  PLACES.flatMap(({ deployed }) => deployed).map((contract) => [contract, readFileSync(artifactOf(first, contract), 'utf8')]),
);
for (const { deployed } of PLACES) {
  if (deploy(first, deployed, compile(question, selectionOf(deployed)))) throw new Error('forge compiles otherwise than this does');
}

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
