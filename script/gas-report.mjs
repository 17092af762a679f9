#!/usr/bin/env node
// Prints snapshots/Settlement.json, the gas of whole transactions, beside what other systems of the field cost.

import { readFileSync } from 'node:fs';

const measured = JSON.parse(readFileSync(new URL('../snapshots/Settlement.json', import.meta.url), 'utf8'));
const gas = (key) => {
  if (measured[key] === undefined) throw new Error(`snapshots/Settlement.json has no ${key}`);
  return Number(measured[key]);
};

// Gas a channel in claims of 1, 10 and 100. Measured under the conditions of test/gas (solc 0.8.37, via-IR, 1,000,000
// optimizer runs, distinct payers, one payee, random-looking addresses, recipient balances nonzero, the second claim on
// each channel), on the contracts that these projects published in 2025 and 2026.
const FIELD = [
  ['x402 batch-settlement', 'multicall(claim, settle)', 70_528, 24_111, 19_540],
  ['MPP channel (reference)', 'settle', 57_088, 57_088, 57_088],
  ['SingularityNET MPE', 'multiChannelClaim, withdrawal apart', 54_948, 27_459, 24_769],
  ['The Graph Horizon', 'collect', 153_540, 153_540, 153_540],
  ['Lloom', 'settle', gas('settle'), gas('settle'), gas('settle')],
  ['Lloom', 'claimVouchers', ...[1, 10, 100].map((count) => gas(`claimVouchers_${count}`) / count)],
  ['Lloom', 'claimReceipts', ...[1, 10, 100].map((count) => gas(`claimReceipts_${count}`) / count)],
];

// One channel's life, beside the MPP reference's.
const LIFE = [
  ['open', 111_798],
  ['openWithSigner', undefined],
  ['openFirstOfPayee', undefined],
  ['openFromBalance', undefined],
  ['openWithGrant', undefined],
  ['deposit', undefined],
  ['topUp', 53_781],
  ['settle', 57_088],
  ['settleWithSigner', undefined],
  ['requestClose', 31_504],
  ['close', 68_320],
  ['closeWithSigner', undefined],
  ['withdraw', 53_237],
];

// What this project asks of itself, in gas of the transaction: of single calls where the payer signs itself and the payee
// has had channels, of batches where payers have signers of their own.
const TARGETS = [
  ['claimVouchers_100', 1_450_000],
  ['claimReceipts_100', 2_150_000],
  ['claimVouchers_1', 52_000],
  ['settle', 57_000],
  ['open', 112_000],
  ['openWithGrant', 105_000],
];

const number = (value) => (value === undefined ? '–' : Math.round(value).toLocaleString('en-US'));

function print(title, header, rows) {
  const cells = [header, ...rows].map((row) => row.map(String));
  const widths = header.map((_, column) => Math.max(...cells.map((row) => row[column].length)));
  const text = header.map((_, column) => rows.every((row) => !/^[\d,–]+$/.test(row[column])));
  console.log(`\n${title}`);
  for (const row of cells) {
    const line = row.map((cell, column) => (text[column] ? cell.padEnd(widths[column]) : cell.padStart(widths[column])));
    console.log(`  ${line.join('  ').trimEnd()}`);
  }
}

print(
  'Gas a channel, whole transactions, by channels in the claim',
  ['system', 'operation', '1', '10', '100'],
  FIELD.map(([system, operation, ...costs]) => [system, operation, ...costs.map(number)]),
);
print(
  'Gas of one channel\'s life',
  ['operation', 'Lloom', 'MPP reference'],
  LIFE.map(([operation, reference]) => [operation, number(gas(operation)), number(reference)]),
);
print(
  'Targets, gas of the transaction',
  ['operation', 'measured', 'target', 'verdict'],
  TARGETS.map(([key, target]) => {
    const cost = gas(key);
    return [key, number(cost), number(target), cost <= target ? 'met' : `missed by ${number(cost - target)}`];
  }),
);
