"""The text that an administrator agrees to before profiles may leave for Mailchimp, and its version."""

from __future__ import annotations

from typing import Final

TEXT_VERSION: Final = "2026-11"
"""Goes up with every change of the text; each destination records the version that was agreed to."""

TEXT: Final = (
    "By setting up this destination you allow the profiles of the chosen segments, including personal data such as "
    "names and e-mail addresses, to be sent from your storage to Mailchimp, that is, outside of the place where your "
    "organization keeps and protects them. The transfer happens at your instruction. You are responsible for having "
    "the consent or another legal ground to use this data, and for making sure that Mailchimp meets the privacy and "
    "security obligations that you have. An administrator can remove this destination at any time: running exports "
    "stop and the stored sign-in is deleted. Data that Mailchimp has received stays there until you delete it there."
)
