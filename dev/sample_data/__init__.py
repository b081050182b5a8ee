"""Sample segments as Customer Insights writes them, and contacts that Mailchimp already has. All people are made up."""
