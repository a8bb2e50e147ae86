"""May they: the question (`question`, pure), the decision read exactly (`decision`, pure), OPA (`opa`).

`bundle` builds the policy bundle reproducibly and names it by its content; `publishing` says which one OPA is given;
`again` asks a bundle what was asked before, `differing` holds the answers against each other; `reference` makes
`docs/policy-input.md`.
"""
