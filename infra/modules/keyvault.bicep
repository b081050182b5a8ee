// The secret store: one secret per signed-in destination (written by the app) and the client secret of the Mailchimp
// OAuth application (written by this deployment or by an administrator).

@description('Name of the vault.')
@minLength(3)
@maxLength(24)
param name string

@description('Azure region.')
param location string

@description('Tags.')
param tags object

@description('Whether the vault can be reached from outside its private endpoint. Every call needs a role either way.')
@allowed([
  'Enabled'
  'Disabled'
])
param publicNetworkAccess string

@description('Days for which deleted secrets can be recovered. Cannot be changed later.')
@minValue(7)
@maxValue(90)
param softDeleteRetentionDays int

@description('Client secret of the Mailchimp OAuth application. Empty: what the vault holds stays as it is.')
@secure()
param mailchimpClientSecret string

@description('Log Analytics workspace that is told who read which secret.')
param logAnalyticsWorkspaceId string

var mailchimpClientSecretName = 'mailchimp-oauth-client-secret'

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    enablePurgeProtection: true
    softDeleteRetentionInDays: softDeleteRetentionDays
    publicNetworkAccess: publicNetworkAccess
    networkAcls: {
      // Trusted services pass the firewall, never the roles: Resource Manager writes the secret below.
      bypass: 'AzureServices'
      defaultAction: publicNetworkAccess == 'Enabled' ? 'Allow' : 'Deny'
    }
  }
}

resource clientSecret 'Microsoft.KeyVault/vaults/secrets@2023-07-01' = if (!empty(mailchimpClientSecret)) {
  parent: vault
  name: mailchimpClientSecretName
  properties: {
    value: mailchimpClientSecret
    contentType: 'Client secret of the Mailchimp OAuth application'
  }
}

resource audit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: vault
  name: 'audit'
  properties: {
    workspaceId: logAnalyticsWorkspaceId
    logs: [
      {
        categoryGroup: 'audit'
        enabled: true
      }
    ]
  }
}

@description('Resource ID.')
output id string = vault.id

@description('Name.')
output name string = vault.name

@description('Address of the vault.')
output url string = vault.properties.vaultUri

@description('Name of the secret that holds the client secret of the Mailchimp OAuth application.')
output mailchimpClientSecretName string = mailchimpClientSecretName
