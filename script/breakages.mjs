#!/usr/bin/env node
// Breaks the escrow on purpose, in a copy, one way at a time, and asks halmos for the proof that must fail then. A proof
// that holds whatever the code does would prove nothing.
//
//   script/breakages.mjs <halmos> [<its arguments>...]

import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import './root.mjs';

const COPY = 'target/analyses/halmos/broken';
const FORGE = resolve('script/foundry');
const COPIED = ['contracts', 'script', 'test/symbolic', 'foundry.toml', 'halmos.toml'];

const BREAKAGES = [
  {
    name: 'a payer gets back what its payee was paid',
    file: 'contracts/escrow/Channels.sol',
    source: 'refunded = funds.upper() - funds.lower();',
    broken: 'refunded = funds.upper();',
    proof: 'ClosingTest.check_Withdraw',
  },
  {
    name: 'more is settled than was deposited',
    file: 'contracts/escrow/Channels.sol',
    source: 'if (cumulativeAmount > funds.upper()) revert AmountExceedsDeposit();',
    broken: '',
    proof: 'SettlingTest.check_Settle',
  },
  {
    name: 'a settled amount falls',
    file: 'contracts/types/ChannelFunds.sol',
    source: 'return amount > self.lower() && amount <= self.upper();',
    broken: 'return amount <= self.upper();',
    proof: 'SettlingTest.check_AdvanceChannels',
  },
  {
    name: 'a finalized channel takes money',
    file: 'contracts/escrow/Channels.sol',
    source: 'if (terms.isFinalized()) revert ChannelFinalized();',
    broken: '',
    proof: 'ToppingUpTest.check_TopUp',
  },
  {
    name: 'what is withdrawn stays on the books',
    file: 'contracts/escrow/Balances.sol',
    source: '_balances[account][token] = available - amount;',
    broken: '_balances[account][token] = available;',
    proof: 'BalanceTest.check_WithdrawBalance',
  },
  {
    name: 'a deposit is not measured',
    file: 'contracts/escrow/Transfers.sol',
    source: 'if (received != amount) revert UnexpectedDepositAmount(amount, received);',
    broken: '',
    proof: 'OpeningTest.check_Open',
  },
  {
    name: 'a row leaves out what the row before is paid',
    file: 'contracts/escrow/Claims.sol',
    source: 'paid += _advance(channel, funds, amount);',
    broken: 'paid = _advance(channel, funds, amount);',
    proof: 'RowsTest.check_AdvanceChannels',
  },
];

const [halmos, ...args] = process.argv.slice(2);

function run(program, ...args) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { cwd: COPY, encoding: 'utf8' });
  if (error) throw error;
  return { status, output: stdout + stderr };
}

function build(profile) {
  process.env.FOUNDRY_PROFILE = profile;
  const { status, output } = run(FORGE, 'forge', 'build', ...(profile === 'default' ? ['contracts'] : []));
  if (status !== 0) throw new Error(`it doesn't compile:\n${output}`);
}

/** What halmos comes to: 'proven', or 'refuted' by a counterexample, or what else it says. */
function prove(proof) {
  build('symbolic');
  const [contract, check] = proof.split('.');
  const { status, output } = run(halmos, ...args, '--match-contract', `^${contract}$`, '--match-test', `^${check}\\(`);
  if (status === 0) return 'proven';
  return /Counterexample:/.test(output) && /\[FAIL\]/.test(output) ? 'refuted' : output;
}

rmSync(COPY, { recursive: true, force: true });
mkdirSync(COPY, { recursive: true });
for (const path of COPIED) cpSync(path, `${COPY}/${path}`, { recursive: true });
symlinkSync(resolve('node_modules'), `${COPY}/node_modules`);

for (const { name, file, source, broken, proof } of BREAKAGES) {
  const text = readFileSync(file, 'utf8');
  if (!text.includes(source)) throw new Error(`${file} has no \`${source}\``);
  writeFileSync(`${COPY}/${file}`, text.replaceAll(source, broken));
  build('default');
  const outcome = prove(proof);
  console.log(`${outcome === 'refuted' ? 'noticed' : 'MISSED '}  ${proof}: ${name}`);
  if (outcome !== 'refuted') {
    console.error(outcome);
    process.exitCode = 1;
  }
  writeFileSync(`${COPY}/${file}`, text);
}
