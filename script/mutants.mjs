// Mutants of Solidity sources: what a slip of the hand could have written instead. Made from the compiler's AST, so a
// change hits what it means to hit, and swapped arguments have the same type.

const BINARY = {
  '<': ['<='], '<=': ['<'], '>': ['>='], '>=': ['>'], '==': ['!='], '!=': ['=='],
  '+': ['-'], '-': ['+'], '*': ['/'], '/': ['*'], '%': ['*'],
  '&&': ['||'], '||': ['&&'], '&': ['|'], '|': ['&'], '<<': ['>>'], '>>': ['<<'],
}; // prettier-ignore
const ASSIGNMENT = { '+=': ['-=', '='], '-=': ['+=', '='], '|=': ['&=', '='] };
const YUL = { lt: 'gt', gt: 'lt', and: 'or', or: 'and', add: 'sub', shr: 'shl', shl: 'shr' };
const GROWING = ['+', '*', '<<', '|'];
const DELETED = ['ExpressionStatement', 'EmitStatement'];

const range = (node) => {
  const [start, length] = node.src.split(':').map(Number);
  return { start, end: start + length };
};

/** What a function may return instead. */
function otherValues(type) {
  if (type === 'bool') return ['true', 'false'];
  if (/^u?int\d+$/.test(type)) return ['0'];
  if (/^(address|bytes\d+)$/.test(type)) return [`${type}(0)`];
  return [];
}

/** Whether arithmetic in `tree` reverts when it overflows. */
function overflows(tree) {
  for (const { nodeType, operator, typeDescriptions } of nodesOf(tree)) {
    const isNumber = /^u?int\d+$/.test(typeDescriptions?.typeString ?? '');
    if (nodeType === 'BinaryOperation' && isNumber && ['+', '*'].includes(operator)) return true;
    if (nodeType === 'Assignment' && isNumber && operator === '+=') return true;
    if (nodeType === 'UnaryOperation' && operator === '++') return true;
  }
  return false;
}

/** Every edit of one node: `{ start, end, text }` in bytes of the source. */
function* editsOf(node, source) {
  const slice = ({ start, end }) => source.subarray(start, end).toString();
  const replace = (at, text) => ({ ...range(at), text });
  /** An operator stands between its operands, among spaces and brackets. */
  const operator = (left, right, name, other) => {
    const start = source.indexOf(name, range(left).end);
    return start < range(right).start ? { start, end: start + name.length, text: other } : undefined;
  };

  const isWide = node.typeDescriptions?.typeString === 'uint256';
  switch (node.nodeType) {
    case 'BinaryOperation':
      for (const other of BINARY[node.operator] ?? []) yield operator(node.leftExpression, node.rightExpression, node.operator, other);
      if (isWide && GROWING.includes(node.operator)) yield replace(node, `uint128(${slice(range(node))})`);
      break;
    case 'Assignment':
      for (const other of ASSIGNMENT[node.operator] ?? []) yield operator(node.leftHandSide, node.rightHandSide, node.operator, other);
      if (isWide && node.operator === '+=') {
        const sum = slice(range(node.leftHandSide));
        yield replace(node, `${sum} = uint128(${sum} + ${slice(range(node.rightHandSide))})`);
      }
      break;
    case 'UnaryOperation':
      if (node.operator === '!' || node.operator === '~') yield replace(node, slice(range(node.subExpression)));
      break;
    case 'IfStatement':
      for (const value of ['true', 'false']) yield replace(node.condition, value);
      break;
    case 'Conditional':
      yield replace(node, `${slice(range(node.condition))} ? ${slice(range(node.falseExpression))} : ${slice(range(node.trueExpression))}`);
      break;
    case 'Return':
      if (node.expression) for (const value of otherValues(node.expression.typeDescriptions.typeString)) yield replace(node.expression, value);
      break;
    case 'Continue':
      yield replace(node, 'break');
      break;
    case 'Literal':
      if (node.kind === 'number') yield replace(node, slice(range(node)).replace(/^(0x[0-9a-fA-F]+|[0-9_]+)/, (digits) => `${BigInt(digits.replaceAll('_', '')) + 1n}`));
      if (node.kind === 'bool') yield replace(node, node.value === 'true' ? 'false' : 'true');
      if (node.kind === 'string' && node.value) yield { start: range(node).start + 1, end: range(node).start + 1, text: '_' };
      break;
    case 'FunctionCall':
      if (node.kind === 'typeConversion' && /^uint(128|256)$/.test(node.typeDescriptions.typeString)) {
        const [argument] = node.arguments;
        const bits = /^uint(\d+)$/.exec(argument.typeDescriptions.typeString)?.[1];
        const narrower = isWide ? 128 : 64;
        if (Number(bits) > narrower) yield replace(argument, `uint${narrower}(${slice(range(argument))})`);
      }
      for (let i = 0; i + 1 < node.arguments.length; ++i) {
        const [first, second] = [node.arguments[i], node.arguments[i + 1]];
        if (first.typeDescriptions.typeString !== second.typeDescriptions.typeString) continue;
        const between = slice({ start: range(first).end, end: range(second).start });
        yield { start: range(first).start, end: range(second).end, text: slice(range(second)) + between + slice(range(first)) };
      }
      break;
    case 'ModifierInvocation':
      if (node.kind === 'modifierInvocation') yield replace(node, '');
      break;
    case 'YulFunctionCall':
      if (YUL[node.functionName.name]) yield replace(node.functionName, YUL[node.functionName.name]);
      break;
    case 'YulLiteral':
      if (node.kind === 'number') yield replace(node, `0x${(BigInt(node.value) + 1n).toString(16)}`);
      break;
    case 'YulExpressionStatement':
      yield replace(node, '');
      break;
  }
  if (DELETED.includes(node.nodeType)) {
    const { start, end } = range(node);
    yield { start, end: source.indexOf(';', end) + 1, text: '{}' };
  }
  if (['ExpressionStatement', 'Return'].includes(node.nodeType) && overflows(node)) {
    const { start, end } = range(node);
    // What a loop counts with is no statement of its own.
    if (source[end] === 0x3b) yield { start, end: end + 1, text: `unchecked { ${slice({ start, end: end + 1 })} }` };
  }
}

function* nodesOf(tree) {
  if (Array.isArray(tree)) for (const item of tree) yield* nodesOf(item);
  if (tree === null || typeof tree !== 'object') return;
  if (Array.isArray(tree)) return;
  // Names and paths are no behaviour.
  if (['ImportDirective', 'PragmaDirective', 'StructuredDocumentation', 'UsingForDirective'].includes(tree.nodeType)) return;
  if (tree.nodeType) yield tree;
  for (const [key, value] of Object.entries(tree)) if (key !== 'typeDescriptions') yield* nodesOf(value);
}

/** All mutants of one file: `{ file, line, source, mutant, text }`, `source` and `mutant` being the lines that differ. */
export function mutantsOf(file, source, ast) {
  const mutants = new Map();
  for (const node of nodesOf(ast)) {
    for (const edit of editsOf(node, source)) {
      if (!edit) continue;
      const text = Buffer.concat([source.subarray(0, edit.start), Buffer.from(edit.text), source.subarray(edit.end)]).toString();
      const from = source.lastIndexOf('\n', edit.start - 1) + 1;
      const to = source.indexOf('\n', edit.end);
      const lines = (part) => part.replace(/\s+/g, ' ').trim();
      mutants.set(text, {
        file,
        line: source.subarray(0, edit.start).toString().split('\n').length,
        source: lines(source.subarray(from, to).toString()),
        mutant: lines(source.subarray(from, edit.start).toString() + edit.text + source.subarray(edit.end, to).toString()),
        text,
      });
    }
  }
  mutants.delete(source.toString());
  return [...mutants.values()].sort((a, b) => a.line - b.line);
}
