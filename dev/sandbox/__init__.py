"""The Mailchimp sandbox: a development tool that answers like the Mailchimp Marketing API 3.0 and enforces its rules.

Start it with ``python -m dev.sandbox --port 8085``; what it can do is described in ``docs/sandbox.md``.
"""
