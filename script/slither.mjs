#!/usr/bin/env node
// Judges what slither found (target/analyses/slither/findings.json). What is no fault is explained in
// test/exceptions/slither.json, by detector and place; detectors that never say anything of use are switched off in
// slither.config.json (test/README.md says why).

import { readFileSync } from 'node:fs';
import { judge } from './exceptions.mjs';

const { success, error, results } = JSON.parse(readFileSync('target/analyses/slither/findings.json', 'utf8'));
if (!success) throw new Error(`slither failed: ${error}`);

/** `Contract.function` or `Contract.function.variable`: the place, without its line. */
function placeOf({ name, type_specific_fields: fields }) {
  const parent = fields?.parent;
  return parent && parent.type !== 'file' ? `${placeOf(parent)}.${name}` : name;
}

const findings = (results.detectors ?? []).map(({ check, impact, description, elements }) => ({
  detector: check,
  place: placeOf(elements[0]),
  impact,
  description: description.trim(),
}));

judge(
  'slither',
  findings,
  ({ detector, place }) => JSON.stringify([detector, place]),
  ({ detector, place, impact, description }) => `${detector} (${impact}) at ${place}:\n  ${description}\n`,
);
