"""May they: the question (`question`, pure), the decision read exactly (`decision`, pure), OPA (`opa`).

`bundle` builds the policy bundle reproducibly and names it by its content; `reference` makes
`docs/policy-input.md`.
"""
