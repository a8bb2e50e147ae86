"""How approvers hear of a held call where they are: webhooks, Slack, e-mail; and how they answer from there.

`message` is what is told (pure), `outbox` what is still to be told, to whom, `courier` does it; `webhook`, `slack` and
`mail` are the ways out, `answers` the ways in. What is told holds no content, unless a channel's configuration says so.
"""
