"""The product: segments of customer profiles in blob storage become tagged members of Mailchimp audiences.

The packages are split by what they are about. Dependencies point one way::

    api, function_app → exports, destinations, schedule → segments, mailchimp, secrets → storage

``bootstrap`` is the one place that wires them together.
"""
