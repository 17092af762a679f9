#!/usr/bin/env node
// Writes test/vectors/eip712.json: every type that is signed, hashed and signed with viem, which shares nothing with the
// contracts or the Rust workspace. Both are tested against the file; test/vectors/README.md says what is in it.
// With --check it writes nothing and fails where the file no longer matches.

import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  bytesToHex,
  encodeAbiParameters,
  hashDomain,
  hashStruct,
  hashTypedData,
  keccak256,
  maxUint128,
  numberToHex,
  parseSignature,
  serializeCompactSignature,
  signatureToCompactSignature,
  stringToHex,
  zeroAddress,
  zeroHash,
} from 'viem';
import { mnemonicToAccount, privateKeyToAccount } from 'viem/accounts';

const FILE = new URL('../test/vectors/eip712.json', import.meta.url);

// --- The types, as documents write them ---

const DOMAIN = 'EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)';
const DOMAIN_WITHOUT_VERSION = 'EIP712Domain(string name,uint256 chainId,address verifyingContract)';

const VOUCHER = ['Voucher(bytes32 channelId,uint128 cumulativeAmount)'];
const SETTLE = ['SettleAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)'];
const CLOSE = ['CloseAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)'];
const REQUEST_CLOSE = ['RequestCloseAuthorization(bytes32 channelId,uint256 nonce,uint256 deadline)'];
const GRANT = [
  'ChannelGrant(address payer,address payee,address token,uint128 deposit,bytes32 salt,address authorizedSigner,uint64 deadline)',
];
const TOP_UP_GRANT = ['TopUpGrant(bytes32 channelId,uint128 deposit,uint64 deadline)'];

const REQUEST = [
  'InferenceRequest(bytes32 channelId,address operator,uint256 nonce,bytes32 model,bytes32 promptHash,uint32 maxInputTokens,uint32 maxOutputTokens,uint128 inputPrice,uint128 outputPrice,uint64 deadline)',
];
const BILL = [
  'UsageBill(bytes32 channelId,bytes32 requestHash,bytes32 responseHash,uint32 inputTokens,uint32 outputTokens,uint128 amount,uint64 completedAt)',
];
const RECEIPT = [
  'UsageReceipt(bytes32 channelId,uint64 sequence,uint64 cumulativeInputTokens,uint64 cumulativeOutputTokens,uint128 cumulativeAmount,bytes32 previousReceipt,UsageBill bill)',
  ...BILL,
];

const APPOINTMENT = [
  'TowerAppointment(bytes32 channelId,address tower,address operator,uint128 cumulativeAmount,uint128 claimAmount,uint128 minimumValue,uint128 maxFeePerGas,uint64 takenAt,uint64 expiresAt)',
];

const RECEIVE = [
  'ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)',
];
const permit = (witness, fields) => [
  `PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,${witness} witness)`,
  `${witness}(${fields})`,
  'TokenPermissions(address token,uint256 amount)',
];
const PERMIT_OPEN = permit('ChannelOpenWitness', 'address payee,bytes32 salt,address authorizedSigner');
const PERMIT_TOP_UP = permit('ChannelTopUpWitness', 'bytes32 channelId');

// Not signed: the parameters of `keccak256(abi.encode(…))`.
const CHANNEL_ID =
  'channelId(address payer,address payee,address token,bytes32 salt,address authorizedSigner,address escrow,uint256 chainId)';
const OPEN_NONCE = 'openNonce(address from,address payee,address token,bytes32 salt,address authorizedSigner)';
const TOP_UP_NONCE = 'topUpNonce(bytes32 channelId,uint128 additionalDeposit,address from,bytes32 topUpSalt)';
const DEPOSIT_NONCE = 'depositNonce(address from,address token,bytes32 depositSalt)';

/** `Name(type name,…)`, taken apart. */
function parse(text) {
  const [, name, fields] = /^(\w+)\((.*)\)$/.exec(text);
  return { name, fields: fields.split(',').map((field) => ({ name: field.split(' ')[1], type: field.split(' ')[0] })) };
}

const typesOf = (texts) => Object.fromEntries(texts.map(parse).map(({ name, fields }) => [name, fields]));

// --- Who and where ---

const bytes32 = (label) => keccak256(stringToHex(`lloom vectors: ${label}`));
const address = (label) => `0x${bytes32(label).slice(-40)}`;

function withKey(key) {
  const { address: mixedCase, signTypedData } = privateKeyToAccount(key);
  return { key, address: mixedCase.toLowerCase(), signTypedData };
}

// The first accounts of every development chain.
const MNEMONIC = 'test test test test test test test test test test test junk';
const [payer, payee, operator, delegate, tower] = [0, 1, 2, 3, 4].map((addressIndex) =>
  withKey(bytesToHex(mnemonicToAccount(MNEMONIC, { addressIndex }).getHdKey().privateKey)),
);
// The smallest and the largest private key there are.
const firstKey = withKey(numberToHex(1n, { size: 32 }));
const lastKey = withKey('0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140');

const PERMIT2 = '0x000000000022d473030f116ddee9f6b43ac78ba3';

function chain(chainId, suffix) {
  const [escrow, settlement, token] = ['escrow', 'settlement', 'token'].map((name) => address(name + suffix));
  return {
    chainId,
    token,
    escrow: { name: 'EVM Payment Channel', version: '1', chainId, verifyingContract: escrow },
    settlement: { name: 'Lloom', version: '1', chainId, verifyingContract: settlement },
    devToken: { name: 'Lloom Dev Token', version: '1', chainId, verifyingContract: token },
    permit2: { name: 'Permit2', chainId, verifyingContract: PERMIT2 },
  };
}

const home = chain(31337n, '');
// The first integer that a JavaScript number can't hold.
const far = chain(2n ** 53n + 1n, ', far away');

// --- One entry of each kind ---

const structHash = (texts, message) =>
  hashStruct({ types: typesOf(texts), primaryType: parse(texts[0]).name, data: message });

async function signed(name, texts, domain, message, by) {
  const primaryType = parse(texts[0]).name;
  const structs = typesOf(texts);
  const types = { ...typesOf([domain.version === undefined ? DOMAIN_WITHOUT_VERSION : DOMAIN]), ...structs };
  const typedData = { types: structs, primaryType, domain, message };
  const signature = await by.signTypedData(typedData);
  return {
    name,
    primaryType,
    encodedType: texts[0] + texts.slice(1).sort().join(''),
    types,
    domain,
    message,
    domainSeparator: hashDomain({ domain, types }),
    structHash: structHash(texts, message),
    digest: hashTypedData(typedData),
    privateKey: by.key,
    signer: by.address,
    signature,
    compactSignature: serializeCompactSignature(signatureToCompactSignature(parseSignature(signature))),
  };
}

/** The inputs that `text` names, in its order. */
function ordered(text, inputs) {
  return Object.fromEntries(parse(text).fields.map(({ name }) => [name, inputs[name]]));
}

function derived(name, text, inputs) {
  const { name: kind, fields: parameters } = parse(text);
  const encoded = encodeAbiParameters(parameters, parameters.map((parameter) => inputs[parameter.name]));
  return { name, kind, parameters, inputs, encoded, hash: keccak256(encoded) };
}

function separator(name, domain) {
  const text = domain.version === undefined ? DOMAIN_WITHOUT_VERSION : DOMAIN;
  const { fields: parameters } = parse(text);
  const word = ({ name: field, type }) => (type === 'string' ? keccak256(stringToHex(domain[field])) : domain[field]);
  const encoded = encodeAbiParameters(
    [{ type: 'bytes32' }, ...parameters.map(({ type }) => ({ type: type === 'string' ? 'bytes32' : type }))],
    [keccak256(stringToHex(text)), ...parameters.map(word)],
  );
  const hash = hashDomain({ domain, types: typesOf([text]) });
  if (keccak256(encoded) !== hash) throw new Error(`${name}: viem hashes this domain otherwise`);
  return { name, kind: 'domainSeparator', parameters, inputs: domain, encoded, hash };
}

/** A message whose every field has the least or the greatest value of its type. */
function filled(texts, bit, name = parse(texts[0]).name) {
  const types = typesOf(texts);
  const value = (type) => {
    if (types[type]) return filled(texts, bit, type);
    if (type.startsWith('uint')) return bit * (2n ** BigInt(type.slice(4)) - 1n);
    const size = type === 'address' ? 20 : Number(type.slice('bytes'.length));
    return numberToHex(bit * (2n ** BigInt(8 * size) - 1n), { size });
  };
  return Object.fromEntries(types[name].map((field) => [field.name, value(field.type)]));
}

const extremes = (name, texts, domain) => [
  signed(`${name}-zero`, texts, home[domain], filled(texts, 0n), firstKey),
  signed(`${name}-maximum`, texts, far[domain], filled(texts, 1n), lastKey),
];

// --- Derivations ---

const own = {
  payer: payer.address,
  payee: payee.address,
  token: home.token,
  salt: bytes32('salt'),
  authorizedSigner: zeroAddress,
};
const delegated = { ...own, salt: bytes32('salt, delegated'), authorizedSigner: delegate.address };
const here = { escrow: home.escrow.verifyingContract, chainId: home.chainId };
const topUpSalt = bytes32('top-up salt');
const depositSalt = bytes32('deposit salt');

const ownId = derived('channel-id-own', CHANNEL_ID, ordered(CHANNEL_ID, { ...own, ...here }));
const delegatedId = derived('channel-id-delegated', CHANNEL_ID, ordered(CHANNEL_ID, { ...delegated, ...here }));
const openNonce = derived('open-nonce-own', OPEN_NONCE, ordered(OPEN_NONCE, { from: payer.address, ...own }));
const delegatedOpenNonce = derived(
  'open-nonce-delegated',
  OPEN_NONCE,
  ordered(OPEN_NONCE, { from: payer.address, ...delegated }),
);
const topUpNonce = derived('top-up-nonce', TOP_UP_NONCE, {
  channelId: ownId.hash,
  additionalDeposit: 25_000_000n,
  from: payer.address,
  topUpSalt,
});
// On the top-up path the draft lets anybody be the funder.
const giftNonce = derived('top-up-nonce-by-another', TOP_UP_NONCE, { ...topUpNonce.inputs, from: payee.address });
const depositNonce = derived('deposit-nonce', DEPOSIT_NONCE, { from: payer.address, token: home.token, depositSalt });

const derivations = [
  ...['escrow', 'settlement', 'devToken', 'permit2'].flatMap((name) => [
    separator(`domain-separator-${name}`, home[name]),
    separator(`domain-separator-${name}-far`, far[name]),
  ]),
  ownId,
  delegatedId,
  derived('channel-id-zero', CHANNEL_ID, { ...filled([CHANNEL_ID], 0n), ...here }),
  derived('channel-id-maximum', CHANNEL_ID, {
    ...filled([CHANNEL_ID], 1n),
    escrow: far.escrow.verifyingContract,
    chainId: far.chainId,
  }),
  openNonce,
  delegatedOpenNonce,
  topUpNonce,
  giftNonce,
  depositNonce,
  ...[OPEN_NONCE, TOP_UP_NONCE, DEPOSIT_NONCE].flatMap((text) => {
    const name = { openNonce: 'open', topUpNonce: 'top-up', depositNonce: 'deposit' }[parse(text).name];
    return [
      derived(`${name}-nonce-zero`, text, filled([text], 0n)),
      derived(`${name}-nonce-maximum`, text, filled([text], 1n)),
    ];
  }),
];

// --- Messages ---

const channelId = ownId.hash;
const deadline = 1_800_000_600n;

const authorization = { channelId, cumulativeAmount: 40_000_000n, nonce: 7n, deadline };

const request = {
  channelId,
  operator: operator.address,
  nonce: BigInt(bytes32('request nonce')),
  model: keccak256(stringToHex('llama-3.1-8b-instruct')),
  promptHash: bytes32('prompt'),
  maxInputTokens: 4096n,
  maxOutputTokens: 1024n,
  inputPrice: 250_000n,
  outputPrice: 1_250_000n,
  deadline,
};
const nextRequest = { ...request, nonce: 2n, promptHash: bytes32('next prompt'), maxOutputTokens: 16n };

const billOf = (asked, label, inputTokens, outputTokens, completedAt) => ({
  channelId,
  requestHash: structHash(REQUEST, asked),
  responseHash: bytes32(label),
  inputTokens,
  outputTokens,
  amount: (inputTokens * asked.inputPrice + outputTokens * asked.outputPrice + 999_999n) / 1_000_000n,
  completedAt,
});
const bill = billOf(request, 'response', 1200n, 340n, 1_800_000_012n);
const nextBill = billOf(nextRequest, 'next response', 77n, 2n, 1_800_000_034n);

const receipt = {
  channelId,
  sequence: 1n,
  cumulativeInputTokens: bill.inputTokens,
  cumulativeOutputTokens: bill.outputTokens,
  cumulativeAmount: bill.amount,
  previousReceipt: zeroHash,
  bill,
};
const nextReceipt = {
  channelId,
  sequence: 2n,
  cumulativeInputTokens: receipt.cumulativeInputTokens + nextBill.inputTokens,
  cumulativeOutputTokens: receipt.cumulativeOutputTokens + nextBill.outputTokens,
  cumulativeAmount: receipt.cumulativeAmount + nextBill.amount,
  previousReceipt: structHash(RECEIPT, receipt),
  bill: nextBill,
};

const appointment = {
  channelId,
  tower: tower.address,
  operator: operator.address,
  cumulativeAmount: 40_000_000n,
  claimAmount: 38_000_000n,
  minimumValue: 10_000n,
  maxFeePerGas: 500_000_000_000n,
  takenAt: 1_800_000_040n,
  expiresAt: 1_807_776_040n,
};

const receive = (value, nonce, from = payer) => ({
  from: from.address,
  to: here.escrow,
  value,
  validAfter: 0n,
  validBefore: deadline,
  nonce: nonce.hash,
});

const permitted = (amount, nonce, witness) => ({
  permitted: { token: home.token, amount },
  spender: here.escrow,
  nonce,
  deadline,
  witness,
});
const openWitness = ({ payee, salt, authorizedSigner }) => ({ payee, salt, authorizedSigner });

// Found by trying: the `r` of the first voucher's signature and the `s` of the second's begin with a zero byte.
const SHORT_R = 40_000_272n;
const SHORT_S = 40_000_030n;

const vectors = await Promise.all([
  ...extremes('voucher', VOUCHER, 'escrow'),
  signed('voucher-own', VOUCHER, home.escrow, { channelId, cumulativeAmount: 40_000_000n }, payer),
  signed('voucher-delegated', VOUCHER, home.escrow, { channelId: delegatedId.hash, cumulativeAmount: 1n }, delegate),
  signed('voucher-short-r', VOUCHER, home.escrow, { channelId, cumulativeAmount: SHORT_R }, payer),
  signed('voucher-short-s', VOUCHER, home.escrow, { channelId, cumulativeAmount: SHORT_S }, payer),

  ...extremes('settle', SETTLE, 'escrow'),
  signed('settle-typical', SETTLE, home.escrow, authorization, payee),
  signed('settle-random-nonce', SETTLE, home.escrow, { ...authorization, nonce: BigInt(bytes32('nonce')) }, payee),

  // The fields of a settlement's authorization, and another digest.
  ...extremes('close', CLOSE, 'escrow'),
  signed('close-typical', CLOSE, home.escrow, authorization, payee),
  signed('close-forfeit', CLOSE, home.escrow, { ...authorization, cumulativeAmount: 0n, nonce: 8n }, payee),

  ...extremes('request-close', REQUEST_CLOSE, 'escrow'),
  signed('request-close-typical', REQUEST_CLOSE, home.escrow, { channelId, nonce: 7n, deadline }, payer),

  ...extremes('grant', GRANT, 'escrow'),
  signed('grant-own', GRANT, home.escrow, ordered(GRANT[0], { ...own, deposit: 100_000_000n, deadline }), payer),
  signed('grant-delegated', GRANT, home.escrow, ordered(GRANT[0], { ...delegated, deposit: 1n, deadline }), payer),

  ...extremes('top-up-grant', TOP_UP_GRANT, 'escrow'),
  signed('top-up-grant-typical', TOP_UP_GRANT, home.escrow, { channelId, deposit: 125_000_000n, deadline }, payer),
  signed('top-up-grant-of-all', TOP_UP_GRANT, home.escrow, { channelId, deposit: maxUint128, deadline }, payer),

  ...extremes('request', REQUEST, 'settlement'),
  signed('request-first', REQUEST, home.settlement, request, payer),
  signed('request-next', REQUEST, home.settlement, nextRequest, payer),

  ...extremes('bill', BILL, 'settlement'),
  signed('bill-first', BILL, home.settlement, bill, operator),
  signed('bill-next-by-payee', BILL, home.settlement, nextBill, payee),

  ...extremes('receipt', RECEIPT, 'settlement'),
  signed('receipt-first', RECEIPT, home.settlement, receipt, payer),
  signed('receipt-next', RECEIPT, home.settlement, nextReceipt, payer),

  ...extremes('appointment', APPOINTMENT, 'settlement'),
  signed('appointment-typical', APPOINTMENT, home.settlement, appointment, tower),
  signed('appointment-renewed', APPOINTMENT, home.settlement, { ...appointment, expiresAt: 1_815_552_000n }, tower),

  ...extremes('receive', RECEIVE, 'devToken'),
  signed('receive-to-open', RECEIVE, home.devToken, receive(100_000_000n, openNonce), payer),
  signed('receive-to-open-delegated', RECEIVE, home.devToken, receive(100_000_000n, delegatedOpenNonce), payer),
  signed('receive-to-top-up', RECEIVE, home.devToken, receive(25_000_000n, topUpNonce), payer),
  signed('receive-to-top-up-by-another', RECEIVE, home.devToken, receive(25_000_000n, giftNonce, payee), payee),
  signed('receive-to-deposit', RECEIVE, home.devToken, receive(1_000_000_000n, depositNonce), payer),

  ...extremes('permit-open', PERMIT_OPEN, 'permit2'),
  signed('permit-open-own', PERMIT_OPEN, home.permit2, permitted(100_000_000n, 1n, openWitness(own)), payer),
  signed(
    'permit-open-delegated',
    PERMIT_OPEN,
    home.permit2,
    permitted(100_000_000n, BigInt(bytes32('permit nonce')), openWitness(delegated)),
    payer,
  ),

  ...extremes('permit-top-up', PERMIT_TOP_UP, 'permit2'),
  signed('permit-top-up-typical', PERMIT_TOP_UP, home.permit2, permitted(25_000_000n, 2n, { channelId }), payer),
  signed('permit-top-up-by-another', PERMIT_TOP_UP, home.permit2, permitted(1n, 3n, { channelId }), payee),
]);

// --- What the vectors promise beyond what the tests recompute ---

const named = (name) => vectors.find((vector) => vector.name === name);
const distinct = (values) => new Set(values).size === values.length;
const promises = [
  [named('voucher-short-r').signature.startsWith('0x00'), 'voucher-short-r has no short r'],
  [named('voucher-short-s').signature.slice(66).startsWith('00'), 'voucher-short-s has no short s'],
  [['1b', '1c'].every((v) => vectors.some(({ signature }) => signature.endsWith(v))), 'only one v occurs'],
  [distinct([...vectors, ...derivations].map(({ name }) => name)), 'a name occurs twice'],
  [distinct(vectors.map(({ digest }) => digest)), 'a digest occurs twice'],
];
for (const [kept, broken] of promises) if (!kept) throw new Error(broken);

// --- The file ---

/** A field's name and type, and nothing else, share a line. */
const render = (value) =>
  `${JSON.stringify(value, (_, item) => (typeof item === 'bigint' ? item.toString() : item), 2).replace(
    /\{\s+"name": ("\w+"),\s+"type": ("\w+")\s+\}/g,
    '{ "name": $1, "type": $2 }',
  )}\n`;

function committed() {
  try {
    return readFileSync(FILE, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

const wanted = render({ derivations, vectors });
if (committed() !== wanted) {
  if (process.argv.includes('--check')) {
    console.error(`${fileURLToPath(FILE)} is not what viem makes; run \`make vectors\``);
    process.exitCode = 1;
  } else {
    writeFileSync(FILE, wanted);
    console.log(`wrote ${fileURLToPath(FILE)}`);
  }
}
