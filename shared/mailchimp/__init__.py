"""The only code that talks to Mailchimp: its Marketing API 3.0 and its OAuth 2 sign-in.

`client` has the calls, `replies` what comes back, `errors` what can go wrong and what to do then, `row_errors` why a
single contact was refused, `api_root` where a token may be sent, `oauth` the sign-in.
"""

from shared.mailchimp.api_root import api_root_for_key, validate_api_root
from shared.mailchimp.client import MailchimpClient
from shared.mailchimp.errors import (
    AccessForbidden,
    AccountRestricted,
    ApiKeyMalformed,
    ApiRootRefused,
    AudienceNotFound,
    BatchRefused,
    FailureClass,
    MailchimpError,
    RefusedRow,
    ReplyUnusable,
    RequestInvalid,
    SignInNotConfigured,
    SignInRefused,
    Stop,
    TagNameRefused,
    TagNotFound,
    Unavailable,
)
from shared.mailchimp.oauth import OAuthApp, OAuthProvider, SignIn, authorize_url, exchange_code, sign_in_of
from shared.mailchimp.replies import (
    Account,
    Audience,
    MergeField,
    MergeFieldOptions,
    ReplyMember,
    RowError,
    SubscribeReply,
    Tag,
    TagReply,
    TagRowError,
    row_error_of,
)
from shared.mailchimp.row_errors import RejectedReason, classify_row_error
from shared.mailchimp.transport import Transport

__all__ = [
    "AccessForbidden",
    "Account",
    "AccountRestricted",
    "ApiKeyMalformed",
    "ApiRootRefused",
    "Audience",
    "AudienceNotFound",
    "BatchRefused",
    "FailureClass",
    "MailchimpClient",
    "MailchimpError",
    "MergeField",
    "MergeFieldOptions",
    "OAuthApp",
    "OAuthProvider",
    "RefusedRow",
    "RejectedReason",
    "ReplyMember",
    "ReplyUnusable",
    "RequestInvalid",
    "RowError",
    "SignIn",
    "SignInNotConfigured",
    "SignInRefused",
    "Stop",
    "SubscribeReply",
    "Tag",
    "TagNameRefused",
    "TagNotFound",
    "TagReply",
    "TagRowError",
    "Transport",
    "Unavailable",
    "api_root_for_key",
    "authorize_url",
    "classify_row_error",
    "exchange_code",
    "row_error_of",
    "sign_in_of",
    "validate_api_root",
]
