"""The desk to work at: pages for people, each with a twin in JSON, about holds and about the evidence.

How what is shown is got is none of this room's business (`ports`); `ext_proc.app` joins it. What holds here:

 1. `routes.ROUTES` is the one list of what there is, and of whom it is for. What is not in it is not there.
 2. Nobody is signed in by what they bring: a session begins with a new id when the issuer has vouched for somebody, and
    ends before what the issuer said of them does (`signing_in`, `sessions`).
 3. What changes something, or leaves a record, wants a token of the session and an `Origin` that is ours (`guard`).
 4. What somebody wrote is text: templates escape it, and the policy for browsers lets no script run that is not ours.
 5. What somebody may not see is not there: another tenant's has the answer of what never was.
"""
