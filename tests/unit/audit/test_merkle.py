from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.audit import merkle
from ext_proc.errors import IntegrityError

# RFC 6962 has no vectors; these are certificate-transparency-go's (leaves of its reference tree).
LEAVES = [
    bytes.fromhex(one)
    for one in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def _reference(hashes: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return hashlib.sha256(b"\1" + _reference(hashes[:split]) + _reference(hashes[split:])).digest()


@pytest.mark.parametrize("size", ROOTS)
def test_known_roots(size):
    hashes = [merkle.hash_leaf(leaf) for leaf in LEAVES[:size]]
    assert merkle.root_of(hashes).hex() == ROOTS[size]


@given(st.integers(0, 70), st.integers(0, 70))
def test_frontier_in_two_steps_is_the_tree(first, more):
    hashes = [merkle.hash_leaf(str(index).encode()) for index in range(first + more)]
    frontier = merkle.Frontier()
    frontier.append(hashes[:first])
    frontier = merkle.Frontier.from_json(frontier.to_json())
    frontier.append(hashes[first:])
    assert frontier.root() == _reference(hashes)
    assert frontier.size == first + more


@given(st.data())
def test_inclusion_proof_leads_to_the_root(data):
    size = data.draw(st.integers(1, 70))
    index = data.draw(st.integers(0, size - 1))
    hashes = [merkle.hash_leaf(str(one).encode()) for one in range(size)]
    # RFC 9162 section 2.1.3.2
    at, last, node = index, size - 1, hashes[index]
    for sibling in merkle.inclusion_proof(hashes, index):
        if at & 1 or at == last:
            node = merkle.hash_node(sibling, node)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            node = merkle.hash_node(node, sibling)
        at, last = at >> 1, last >> 1
    assert last == 0
    assert node == _reference(hashes)


@given(st.data())
def test_consistency_proof_joins_both_roots(data):
    size = data.draw(st.integers(2, 70))
    old = data.draw(st.integers(1, size - 1))
    hashes = [merkle.hash_leaf(str(one).encode()) for one in range(size)]
    path = merkle.consistency_proof(hashes, old)
    # RFC 9162 section 2.1.4.2
    if old & (old - 1) == 0:
        path = [_reference(hashes[:old]), *path]
    at, last = old - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = path[0]
    for node in path[1:]:
        if at & 1 or at == last:
            first, second = merkle.hash_node(node, first), merkle.hash_node(node, second)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            second = merkle.hash_node(second, node)
        at, last = at >> 1, last >> 1
    assert (first, second, last) == (_reference(hashes[:old]), _reference(hashes), 0)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"size": 1, "hashes": []},
        {"size": 1, "hashes": ["00"]},
        {"size": "x", "hashes": []},
        {"size": 1, "hashes": ["zz"]},
    ],
)
def test_broken_frontier_is_refused(told):
    with pytest.raises(IntegrityError):
        merkle.Frontier.from_json(told)


@given(st.integers(0, 70), st.integers(0, 70), st.integers(0, 3))
def test_extension_proof_is_the_consistency_proof_and_takes_no_leaf_too_many(old_size, more, beyond):
    hashes = [merkle.hash_leaf(str(index).encode()) for index in range(old_size + more + beyond)]
    size = old_size + more
    old = merkle.Frontier()
    old.append(hashes[:old_size])
    added = iter(hashes[old_size:])
    assert merkle.extension_proof(old, added, size) == merkle.consistency_proof(hashes[:size], old_size)
    if old_size:
        assert len(list(added)) == beyond
    assert old.root() == merkle.root_of(hashes[:old_size])


def test_extension_proof_without_all_leaves():
    old = merkle.Frontier()
    old.append([merkle.hash_leaf(b"a")])
    with pytest.raises(IntegrityError):
        merkle.extension_proof(old, [merkle.hash_leaf(b"b")], 3)
