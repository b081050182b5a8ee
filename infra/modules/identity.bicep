// The identity the app has everywhere: storage, Key Vault, Application Insights, Entra ID. User-assigned, so that its
// roles exist before the app starts and survive the app being created anew.

@description('Name of the identity.')
param name string

@description('Azure region.')
param location string

@description('Tags.')
param tags object

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: name
  location: location
  tags: tags
}

@description('Resource ID.')
output id string = identity.id

@description('Object ID in Entra ID: roles are assigned to it.')
output principalId string = identity.properties.principalId

@description('Client ID: settings name the identity by it.')
output clientId string = identity.properties.clientId
