"""Mutation operators for tensor code that cosmic-ray lacks: each gives the texts that may stand in a node's place."""

from collections.abc import Callable, Iterator

import parso
from cosmic_ray.operators.operator import Operator

# the operators of cosmic-ray itself that are used; its others are many variants of these
KEPT = (
    'NumberReplacer', 'RemoveDecorator', 'ZeroIterationForLoop', 'ReplaceTrueWithFalse', 'ReplaceFalseWithTrue',
    'ReplaceAndWithOr', 'ReplaceOrWithAnd', 'ReplaceUnaryOperator_Delete', 'ReplaceBinaryOperator_Add_Sub',
    'ReplaceBinaryOperator_Sub_Add', 'ReplaceBinaryOperator_Mul_Div', 'ReplaceBinaryOperator_Div_Mul',
    'ReplaceBinaryOperator_FloorDiv_Mul', 'ReplaceBinaryOperator_Mod_FloorDiv', 'ReplaceBinaryOperator_Pow_Mul',
    'ReplaceBinaryOperator_BitAnd_BitOr', 'ReplaceBinaryOperator_BitOr_BitAnd', 'ReplaceComparisonOperator_Lt_LtE',
    'ReplaceComparisonOperator_LtE_Lt', 'ReplaceComparisonOperator_Gt_GtE', 'ReplaceComparisonOperator_GtE_Gt',
    'ReplaceComparisonOperator_Eq_NotEq', 'ReplaceComparisonOperator_NotEq_Eq', 'ReplaceComparisonOperator_Is_IsNot',
    'ReplaceComparisonOperator_IsNot_Is')
PAIRS = [('min', 'max'), ('amin', 'amax'), ('argmin', 'argmax'), ('sum', 'mean'), ('any', 'all'), ('zeros', 'ones'),
         ('floor', 'ceil'), ('sin', 'cos'), ('sort', 'argsort'), ('repeat', 'repeat_interleave'), ('in', 'not in')]
OPPOSITES = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}
SYMMETRIC = ('max(', 'min(', 'isinstance(', 'getattr(', 'hasattr(', 'issubclass(')
SYMMETRIC_METHODS = ('transpose', 'swapaxes', 'mse_loss', 'cosine_similarity', 'isclose', 'equal')
OPERATORS: dict[str, type[Operator]] = {}


def rewrites(function: Callable[[parso.tree.NodeOrLeaf], Iterator[str]]) -> Callable:
    """Make a mutation operator of a generator of the texts that may stand in a node's place."""

    class Rewrite(Operator):
        def mutation_positions(self, node):
            return ((node.start_pos, node.end_pos) for _ in function(node))

        def mutate(self, node, index):
            return parso.parse(node.get_first_leaf().prefix + list(function(node))[index])

        @classmethod
        def examples(cls):
            return ()

    OPERATORS[function.__name__] = Rewrite
    return function


def text(node: parso.tree.NodeOrLeaf) -> str:
    return node.get_code(include_prefix=False)


@rewrites
def exchange(node):
    """Two neighboring arguments or elements change places."""
    callee = node.parent and node.parent.type == 'trailer' and node.parent.parent
    if node.type not in ('arglist', 'testlist_star_expr', 'testlist_comp', 'exprlist') \
            or node.parent.type == 'classdef' or (callee and text(callee).startswith(SYMMETRIC)) \
            or text(node.parent.get_previous_sibling() or node).endswith(SYMMETRIC_METHODS):
        return
    parts = [text(child) for child in node.children[::2]]
    plain = [child.type != 'argument' and child.type != 'sync_comp_for' for child in node.children[::2]]
    for i in range(len(parts) - 1):
        if plain[i] and plain[i + 1] and parts[i] != parts[i + 1]:
            yield ', '.join([*parts[:i], parts[i + 1], parts[i], *parts[i + 2:]])


@rewrites
def drop_keyword(node):
    """A keyword argument is left out, but not `device`, which a CPU does not miss."""
    if node.type == 'trailer' and len(node.children) == 3 and node.children[0].value == '(':
        inner = node.children[1]
        parts = inner.children[::2] if inner.type == 'arglist' else [inner]
        for i, part in enumerate(parts):
            if part.type == 'argument' and text(part.children[1]) == '=' and text(part.children[0]) != 'device':
                yield '(' + ', '.join(text(other) for other in parts[:i] + parts[i + 1:]) + ')'


@rewrites
def drop_condition(node):
    """One side of `and` or `or` is left out, and a condition always or never holds."""
    if node.type in ('and_test', 'or_test'):
        for i in range(0, len(node.children), 2):
            rest = [text(child) for child in node.children[::2]]
            yield f' {text(node.children[1])} '.join(rest[:i // 2] + rest[i // 2 + 1:])
    parent = node.parent
    if parent is not None and ((parent.type == 'if_stmt' and parent.children[1] is node)
                               or (parent.type in ('comp_if', ) and parent.children[1] is node)
                               or (parent.type == 'test' and parent.children[2] is node)):
        yield from ('True', 'False')


@rewrites
def drop_call(node):
    """`x.abs()` becomes `x`, and `f(x, …)` becomes `x`."""
    if node.type not in ('atom_expr', 'power'):
        return
    parts = node.children
    for i in range(1, len(parts) - 1):
        if text(parts[i]) in ('.cpu', '.contiguous') or text(parts[i + 1]).endswith('device)'):
            continue
        if text(parts[i]).startswith('.') and text(parts[i + 1]).startswith('(') and (i > 1 or text(parts[0]) not in (
                'F', 'torch', 'nn', 'math', 'np', 'self', 'MODELS', 'HOOKS', 'super')):
            yield ''.join(text(part) for part in parts[:i] + parts[i + 2:])
    last = parts[-1]
    if last.type == 'trailer' and text(last).startswith('(') and len(last.children) == 3:
        first = last.children[1].children[0] if last.children[1].type == 'arglist' else last.children[1]
        if first.type != 'argument' and not text(node).startswith(('super', *SYMMETRIC)):
            yield text(first)


@rewrites
def drop_rows(node):
    """`x[1:]` becomes `x`."""
    if node.type in ('atom_expr', 'power') and ':' in text(node.children[-1]) and text(node.children[-1])[0] == '[':
        yield ''.join(text(part) for part in node.children[:-1])


@rewrites
def opposite(node):
    """`min` becomes `max`, and so on."""
    if node.type in ('name', 'keyword') and node.value in OPPOSITES and node.parent.type in (
            'trailer', 'atom_expr', 'comparison'):
        yield OPPOSITES[node.value]


@rewrites
def drop_statement(node):
    """A call whose value nobody takes, or an in-place operation, does not happen."""
    if node.parent is not None and node.parent.type == 'simple_stmt' and node.parent.children[0] is node:
        called = node.type in ('atom_expr', 'power') and text(node.children[-1])[0] in '(['
        if called or (node.type == 'expr_stmt' and text(node.children[1]) not in ('=', )
                      and node.children[1].type != 'annassign'):
            yield 'pass'
