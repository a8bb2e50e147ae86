"""May they: the question as one document (`question`, pure), the decision read exactly (`decision`, pure), OPA (`opa`).

`bundle` builds the policy bundle reproducibly and names it by its content.
"""
