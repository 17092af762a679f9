#!/usr/bin/env node
// Writes bindings/artifacts/<Contract>.json (ABI and bytecode, nothing else) from forge's output, so that the Rust
// workspace builds without Node or Foundry. With --check it writes nothing and fails where a file no longer matches.

import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const CONTRACTS = ['ChannelEscrow', 'UsageSettlement', 'ExecutorRegistry', 'RevenueSplitter', 'DevToken', 'LloomDeployer'];

const root = new URL('..', import.meta.url);
const check = process.argv.includes('--check');

/** Keys in order, so that equal artifacts are equal files. */
function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
}

/** A value type of our own becomes the one it is: alloy looks for its declaration, which an ABI doesn't hold. */
function withoutValueTypes(value) {
  if (Array.isArray(value)) return value.map(withoutValueTypes);
  if (value === null || typeof value !== 'object') return value;
  const entries = Object.entries(value).map(([key, member]) => [key, withoutValueTypes(member)]);
  const replaced = Object.fromEntries(entries);
  if (/^\w+$/.test(replaced.internalType ?? '')) replaced.internalType = replaced.type;
  return replaced;
}

/** Bytecode with link references left in it would be no hex: a contract that needs linking has no place here. */
function bytecode(object, contract) {
  if (!/^0x([0-9a-f]{2})+$/.test(object)) throw new Error(`${contract}: bytecode is empty or not linked`);
  return { object };
}

function render(contract) {
  const output = JSON.parse(readFileSync(new URL(`out/${contract}.sol/${contract}.json`, root), 'utf8'));
  const artifact = {
    abi: withoutValueTypes(output.abi),
    bytecode: bytecode(output.bytecode.object, contract),
    deployedBytecode: bytecode(output.deployedBytecode.object, contract),
  };
  return `${JSON.stringify(sorted(artifact), null, 2)}\n`;
}

function committed(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

const stale = [];
for (const contract of CONTRACTS) {
  const file = new URL(`bindings/artifacts/${contract}.json`, root);
  const wanted = render(contract);
  if (committed(file) === wanted) continue;
  stale.push(fileURLToPath(file));
  if (!check) writeFileSync(file, wanted);
}

if (check && stale.length > 0) {
  console.error(`These no longer match the contracts; run \`make artifacts\`:\n${stale.join('\n')}`);
  process.exitCode = 1;
} else {
  for (const file of stale) console.log(`wrote ${file}`);
}
